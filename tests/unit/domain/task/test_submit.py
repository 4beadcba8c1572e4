from datetime import timedelta

import pytest

from taskloom.domain.ids import TenantId
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.values import ErrorInfo, Retry
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask, given
from tests.unit.domain.task.lives import ASSIGN, FIRE, ready, running, submit

SOON = START + timedelta(hours=1)


def test_a_submission_is_queued_at_once() -> None:
    task = GivenTask()
    task.when(submit()).then_types(e.TaskSubmitted, e.TaskQueued)
    assert (task.state.word, task.state.queued_at, task.state.version) == ("ready", START, 2)


def test_a_submission_for_later_is_scheduled_and_queued_when_its_time_comes() -> None:
    task = GivenTask()
    task.when(submit(run_at=SOON)).then_types(e.TaskSubmitted, e.TaskScheduled)
    task.when(FIRE, after_s=3599).then_nothing()
    task.when(ASSIGN).then_refused("conflict", "task task-1 is scheduled, not ready")
    task.when(FIRE, after_s=1).then(e.TaskQueued("run_at"))
    assert task.state.dispatchable


def test_a_time_to_run_that_has_passed_queues_at_once() -> None:
    GivenTask().when(submit(run_at=START)).then_types(e.TaskSubmitted, e.TaskQueued)


def test_the_same_submission_again_changes_nothing() -> None:
    task = ready(input={"a": 1, "b": 2})
    task.when(submit(input={"b": 2, "a": 1})).then_nothing()


def test_the_same_submission_again_changes_nothing_also_after_the_end() -> None:
    task = running()
    task.when(c.ReportCompleted(1, "ex-1"))
    task.when(submit(), command_id="another").then_nothing()


def test_another_body_under_the_same_id_is_a_conflict_that_names_the_state() -> None:
    outcome = ready().when(submit(input={"other": True}))
    outcome.then_refused("conflict", "task task-1 exists with another body; choose another id or key", field="task_id")
    assert outcome.decision.state == "ready"  # type: ignore[union-attr]


def test_another_tenant_learns_nothing_of_the_task_whose_id_it_chose() -> None:
    outcome = ready().when(submit(), tenant_id="rival").then_refused("conflict", field="task_id")
    assert outcome.decision.state == ""  # type: ignore[union-attr]


@pytest.mark.parametrize("command", [c.CancelTask(), c.PauseTask(), c.ResumeTask(), c.ExplainTask()])
def test_a_command_of_another_tenant_finds_no_task(command: c.TaskCommand) -> None:
    ready().when(command, tenant_id=TenantId("rival")).then_refused("not_found", "task task-1 does not exist")


@pytest.mark.parametrize("command", [c.CancelTask(), c.PauseTask(), c.ResumeTask(), c.ExplainTask(), ASSIGN, FIRE])
def test_a_command_for_an_unknown_task_is_refused(command: c.TaskCommand) -> None:
    GivenTask().when(command).then_refused("not_found", "task task-1 does not exist")


def test_bad_fields_are_refused_with_their_path() -> None:
    GivenTask().when(submit(priority="soon")).then_refused("invalid", field="priority")


def test_the_submission_remembers_who_asked_and_under_which_trace() -> None:
    task = GivenTask()
    [submitted, _] = task.when(submit(), actor="ann", correlation_id="r-1", traceparent="00-1-2-01").events
    assert isinstance(submitted, e.TaskSubmitted)
    assert (submitted.spec.user_id, submitted.correlation_id, submitted.traceparent) == ("ann", "r-1", "00-1-2-01")
    assert (task.state.correlation_id, task.state.traceparent) == ("r-1", "00-1-2-01")


def test_a_task_without_retry_policy_gets_four_attempts() -> None:
    assert ready().state.spec.retry == Retry(max_attempts=4)


@pytest.mark.parametrize(
    ("command", "past"),
    [(c.CancelTask(), []), (c.PauseTask(), []), (c.ResumeTask(), [c.PauseTask()])],
    ids=["cancel", "pause", "resume"],
)
def test_a_command_with_a_repeated_id_changes_nothing(command: c.TaskCommand, past: list[c.TaskCommand]) -> None:
    task = given(submit(), *past)
    assert task.when(command, command_id="c-1", actor="ann").events
    task.when(command, command_id="c-1", actor="ann").then_nothing()


def test_a_repeated_pause_does_not_pause_again_what_was_resumed_since() -> None:
    task = ready()
    task.when(c.PauseTask(), command_id="p", actor="ann")
    task.when(c.ResumeTask(), command_id="r", actor="ann")
    task.when(c.PauseTask(), command_id="p", actor="ann").then_nothing()
    assert task.state.word == "ready"


def test_command_ids_are_remembered_up_to_a_bound() -> None:
    task = ready()
    for number in range(100):
        task.when(c.PauseTask(), command_id=f"p{number}", actor="ann")
        task.when(c.ResumeTask(), command_id=f"r{number}", actor="ann")
    assert len(task.state.command_ids) == 128
    assert task.state.command_ids[0] == "r99"
    assert len(set(task.state.command_ids)) == 128


def test_what_cannot_be_run_is_recorded_as_failed_and_can_be_retried() -> None:
    error = ErrorInfo("agent_not_connected", "agent1 is not connected", retryable=False)
    task = GivenTask()
    task.when(submit(fails_with=error)).then_types(e.TaskSubmitted, e.TaskFailed)
    assert (task.state.word, task.state.ended) == ("failed", True)
    task.when(submit()).then_nothing()
    task.when(c.RetryTask()).then_types(e.TaskRetried, e.TaskQueued)
