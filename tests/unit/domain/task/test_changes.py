from datetime import timedelta
from typing import Any

import msgspec
import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.directives import StopAttempt
from taskloom.domain.task.state import next_due
from taskloom.domain.values import Retry
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask, given
from tests.unit.domain.task.lives import ASSIGN, EX, FIRE, completed, failed, in_state, ready, running, started

STEP = "run-1~build"


def update(**fields: Any) -> c.UpdateTask:
    return msgspec.convert(fields, c.UpdateTask)


def ended_after_two(**fields: Any) -> GivenTask:
    task = given(c.SubmitTask(kind="echo", retry=Retry(max_attempts=2, initial_s=0), **fields), ASSIGN)
    task.when(failed(1))
    task.when(FIRE)
    task.when(ASSIGN)
    task.when(failed(2))
    assert task.state.word == "failed"
    return task


@pytest.mark.parametrize("word", ["failed", "timed_out", "cancelled"])
def test_what_ended_badly_goes_back_to_its_queue(word: str) -> None:
    task = in_state(word)
    task.when(c.RetryTask("again")).then(e.TaskRetried("again"), e.TaskQueued("retried"))
    assert (task.state.word, task.state.failures, task.state.error, task.state.cancel) == ("ready", 0, None, None)
    assert task.state.dispatchable


@pytest.mark.parametrize("word", ["ready", "running", "retrying", "paused", "cancelling", "completed"])
def test_what_is_open_or_completed_is_not_retried(word: str) -> None:
    task = in_state(word)
    task.when(c.RetryTask()).then_refused("conflict", f"cannot retry {word} task")


def test_failures_count_anew_and_attempts_go_on() -> None:
    task = ended_after_two()
    task.when(c.RetryTask())
    task.when(ASSIGN).then_types(e.AttemptAssigned)
    assert (task.state.attempts, task.state.failures) == (3, 0)
    task.when(failed(3)).then_types(e.AttemptStarted, e.AttemptFailed, e.RetryScheduled)
    task.when(FIRE)
    task.when(ASSIGN)
    task.when(completed(4)).then_types(e.AttemptStarted, e.TaskCompleted)


def test_a_late_report_of_the_life_before_is_ignored_and_its_work_stopped() -> None:
    task = ended_after_two()
    task.when(c.RetryTask())
    outcome = task.when(c.ReportHeartbeat(2, EX))
    outcome.then_types(e.ReportIgnored).then_directs(StopAttempt("task-1", 2, EX, "", 5.0, "the task is ready"))
    task.when(ASSIGN)
    task.when(completed(2)).then_types(e.ReportIgnored)
    assert (task.state.phase, task.state.attempts) == ("assigned", 3)


def test_a_repeated_retry_changes_nothing_and_another_one_is_refused_while_the_task_is_open() -> None:
    task = ended_after_two()
    task.when(c.RetryTask(), command_id="r-1", actor="ann")
    task.when(c.RetryTask(), command_id="r-1", actor="ann").then_nothing()
    task.when(c.RetryTask(), command_id="r-2", actor="ann").then_refused("conflict", "cannot retry ready task")


def test_the_total_limit_counts_from_the_retry() -> None:
    task = ready(timeouts={"total_s": 60})
    task.when(c.CancelTask())
    task.when(c.RetryTask(), after_s=500)
    assert next_due(task.state) == START + timedelta(seconds=560)
    task.when(FIRE).then_nothing()
    task.when(FIRE, after_s=60).then(e.TaskTimedOut("total", 60, 0))


def test_a_task_that_was_cancelled_before_its_time_waits_for_it_again() -> None:
    task = in_state("scheduled")
    task.when(c.CancelTask())
    task.when(c.RetryTask()).then_types(e.TaskRetried, e.TaskScheduled)


def test_dependencies_that_never_ended_are_waited_for_again_and_told_watchers_are_not_told_twice() -> None:
    task = given(c.SubmitTask(kind="echo", depends_on=("a", "b")))
    task.when(c.WatchTask("later"))
    task.when(c.NoteDependency("a", "failed"))
    assert task.state.word == "failed"
    task.when(c.RetryTask()).then(e.TaskRetried(), e.TaskWaiting(("b",)))
    task.when(c.NoteDependency("b", "completed")).then_types(e.DependencyEnded, e.TaskQueued)
    task.when(ASSIGN)
    task.when(completed()).then_types(e.AttemptStarted, e.TaskCompleted)


def test_a_watcher_that_asks_again_after_the_end_is_told_again() -> None:
    task = running()
    task.when(c.WatchTask("later"))
    task.when(completed()).then_types(e.WatchersTold, e.TaskCompleted)
    task.when(c.WatchTask("later")).then(e.WatcherAdded("later", "completed"))
    assert task.state.watchers == ("later",)


def test_a_step_is_not_retried_without_its_workflow_which_begins_when_it_never_had() -> None:
    step = GivenTask(STEP)
    step.when(c.SubmitTask(kind="echo"))
    step.when(c.CancelTask())
    step.when(c.RetryTask()).then_refused("conflict")
    steps = [{"id": "a", "step_type": "task", "task_template": {"kind": "echo"}}]
    definition = {"definition": {"name": "w", "steps": steps}}
    later = (START + timedelta(days=1)).isoformat()
    run = given(msgspec.convert({"kind": "workflow", "input": definition, "run_at": later}, c.SubmitTask))
    run.when(c.CancelTask())
    run.when(c.RetryTask()).then_types(e.TaskRetried, e.TaskScheduled)


def test_an_update_names_only_what_changed() -> None:
    task = ready(name="old", tags=["x"], metadata={"a": 1, "b": 2})
    changed = update(
        name="old", priority="high", tags=["x", "y", "y"], metadata={"a": 1, "b": None, "c": 3}, assigned_to="ex-2"
    )
    task.when(changed).then(
        e.TaskUpdated(priority=3, executor_id="ex-2", metadata={"c": 3}, metadata_removed=("b",), tags=("x", "y"))
    )
    assert (task.state.spec.metadata, task.state.spec.executor_id) == ({"a": 1, "c": 3}, "ex-2")
    task.when(changed).then_nothing()
    task.when(update(assigned_to=None)).then(e.TaskUpdated(executor_id=""))
    task.when(update()).then_nothing()


def test_the_same_submission_is_still_the_same_after_an_update() -> None:
    task = ready(name="old")
    task.when(update(name="new")).then(e.TaskUpdated(name="new"))
    task.when(msgspec.convert({"kind": "echo", "name": "old"}, c.SubmitTask)).then_nothing()


def test_an_ended_task_takes_only_what_is_for_people() -> None:
    task = in_state("completed")
    task.when(update(name="n", description="d", tags=["t"], metadata={"k": "v"})).then_types(e.TaskUpdated)
    for field, value in (("priority", 5), ("assigned_to", "ex-2"), ("queue", "q"), ("deadline", START.isoformat())):
        task.when(update(**{field: value})).then_refused("conflict", field=field)


def test_what_runs_keeps_its_executor_and_queue_and_takes_the_rest() -> None:
    task = running()
    task.when(update(assigned_to="ex-2")).then_refused("conflict", field="assigned_to")
    task.when(update(queue="other")).then_refused("conflict", field="queue")
    task.when(update(priority=5, name="n")).then(e.TaskUpdated(name="n", priority=5))


def test_a_deadline_that_moves_is_watched_anew() -> None:
    task = ready(deadline=START.isoformat())
    task.when(FIRE).then_types(e.TaskOverdue)
    later = START + timedelta(hours=1)
    task.when(update(deadline=later.isoformat())).then(e.TaskUpdated(deadline=later))
    assert (task.state.overdue, next_due(task.state)) == (False, later)
    task.when(update(deadline=None)).then(e.TaskUpdated(deadline=None))
    assert next_due(task.state) is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"priority": 9}, "priority"),
        ({"deadline": "9999-01-01T00:00:00Z"}, "deadline"),
        ({"metadata": {"k": "x" * 70_000}}, "metadata"),
        ({"tags": ["é" * 256] * 100 + []}, None),
    ],
)
def test_an_update_is_checked_as_a_submission_is(fields: dict[str, Any], field: str | None) -> None:
    outcome = ready().when(update(**fields))
    if field is None:
        outcome.then_types(e.TaskUpdated)
    else:
        outcome.then_refused("invalid", field=field)


def test_metadata_does_not_grow_beyond_its_bound_piece_by_piece() -> None:
    task = ready(metadata={"a": "x" * 40_000})
    task.when(update(metadata={"b": "x" * 40_000})).then_refused("invalid", field="metadata")
    task.when(update(metadata={"a": None, "b": "x" * 40_000})).then_types(e.TaskUpdated)


@pytest.mark.parametrize("word", ["completed", "failed", "cancelled", "timed_out"])
def test_an_ended_task_is_deleted_at_once_and_is_gone_for_clients(word: str) -> None:
    task = in_state(word)
    task.when(c.DeleteTask("old")).then(e.TaskDeleted("old"))
    assert (task.state.word, task.state.ended) == ("deleted", True)
    task.when(c.DeleteTask()).then_nothing()
    for command in (c.CancelTask(), c.RetryTask(), update(name="n"), c.ExplainTask(), c.WatchTask("w")):
        task.when(command).then_refused("not_found")
    task.when(c.SubmitTask(kind="echo")).then_refused("conflict", field="task_id")


@pytest.mark.parametrize("word", ["scheduled", "ready", "retrying", "paused"])
def test_a_task_without_an_attempt_is_cancelled_and_deleted_in_one(word: str) -> None:
    task = in_state(word)
    task.when(c.DeleteTask("x")).then_types(e.TaskDeleteRequested, e.CancelRequested, e.TaskCancelled, e.TaskDeleted)


def test_a_running_task_is_deleted_once_its_attempt_has_stopped() -> None:
    task = running()
    task.when(c.DeleteTask("x", 2)).then(e.TaskDeleteRequested("x"), e.CancelRequested("x", 2.0))
    assert task.state.word == "cancelling"
    task.when(c.DeleteTask("again")).then_nothing()
    task.when(c.ReportStopped(1, EX)).then_types(e.TaskCancelled, e.TaskDeleted)
    assert task.state.deleted


def test_what_is_being_cancelled_is_deleted_too_however_it_ends() -> None:
    task = in_state("cancelling")
    task.when(c.DeleteTask()).then(e.TaskDeleteRequested())
    task.when(completed()).then_types(e.TaskCompleted, e.TaskDeleted)


def test_a_late_report_of_a_deleted_task_is_recorded_as_ignored() -> None:
    task = in_state("failed")
    task.when(c.DeleteTask())
    task.when(started(1)).then_types(e.ReportIgnored)


def test_another_tenants_task_does_not_exist() -> None:
    task = in_state("failed")
    for command in (c.RetryTask(), update(name="n"), c.DeleteTask()):
        task.when(command, tenant_id="other").then_refused("not_found")


def test_an_open_step_is_deleted_only_after_its_end() -> None:
    step = GivenTask(STEP)
    step.when(c.SubmitTask(kind="echo"))
    step.when(c.DeleteTask()).then_refused("conflict")
    step.when(c.CancelTask())
    step.when(c.DeleteTask()).then(e.TaskDeleted())
