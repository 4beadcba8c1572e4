import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.directives import StopAttempt
from taskloom.domain.task.state import STOP_SLACK_S
from taskloom.domain.values import OutputSummary, ResourceUse
from tests.unit.domain.task.lives import (
    ASSIGN,
    BOOM,
    ENDED,
    EX,
    FIRE,
    INC,
    assigned,
    completed,
    failed,
    in_state,
    ready,
    running,
)


@pytest.mark.parametrize("word", ["scheduled", "ready", "retrying", "paused"])
def test_a_task_without_an_attempt_is_cancelled_at_once(word: str) -> None:
    task = in_state(word)
    task.when(c.CancelTask("not needed")).then(
        e.CancelRequested("not needed"), e.TaskCancelled(was_paused=word == "paused", reason="not needed")
    ).then_directs()
    assert task.state.word == "cancelled"


@pytest.mark.parametrize("word", ["assigned", "running", "pausing"])
def test_a_live_attempt_is_told_to_stop_with_the_grace_it_has(word: str) -> None:
    task = in_state(word)
    task.when(c.CancelTask("stop it", grace_s=2)).then(e.CancelRequested("stop it", 2.0)).then_directs(
        StopAttempt("task-1", 1, EX, INC, 2.0, "stop it")
    )
    assert task.state.word == "cancelling"


def test_every_step_of_a_cancel_is_an_event() -> None:
    task = running()
    task.when(c.CancelTask("stop it"))
    task.when(c.ReportStopSignalled(1, EX, "signalled", "SIGTERM", 3)).then(e.CancelSignalled(1, "SIGTERM", 3))
    task.when(c.ReportStopSignalled(1, EX, "escalated", "SIGKILL", 2)).then(e.CancelEscalated(1, "SIGKILL", 2))
    task.when(c.ReportStopped(1, EX, -9, OutputSummary(1, 1, 4), ResourceUse(cpu_s=1.0))).then(
        e.TaskCancelled(1, True, False, "stop it", -9, OutputSummary(1, 1, 4), ResourceUse(cpu_s=1.0))
    )
    assert task.state.word == "cancelled"


def test_a_cancel_asked_for_twice_is_one_cancel() -> None:
    in_state("cancelling").when(c.CancelTask("again")).then_nothing()


@pytest.mark.parametrize("word", ENDED)
def test_an_ended_task_cannot_be_cancelled(word: str) -> None:
    in_state(word).when(c.CancelTask()).then_refused("conflict", f"Task is already in terminal state: {word}")


def test_a_stop_that_is_not_confirmed_in_time_is_given_up_and_said_to_be_unconfirmed() -> None:
    task = running()
    task.when(c.CancelTask(grace_s=2))
    task.when(FIRE, after_s=2 + STOP_SLACK_S - 0.1).then_nothing()
    task.when(FIRE, after_s=0.1).then(
        e.AttemptLost(1, EX, "the executor did not confirm the stop"), e.TaskCancelled(1, confirmed=False)
    )


def test_an_executor_lost_while_it_stops_leaves_the_cancel_unconfirmed() -> None:
    in_state("cancelling").when(c.LoseAttempt(1, "gone")).then(
        e.AttemptLost(1, EX, "gone"), e.TaskCancelled(1, confirmed=False)
    )


def test_an_attempt_cut_off_while_it_stops_leaves_the_cancel_unconfirmed() -> None:
    task = running(timeouts={"start_to_close_s": 10})
    task.when(c.CancelTask(grace_s=60))
    task.when(FIRE, after_s=20).then(e.AttemptTimedOut(1, "start_to_close", 10.0), e.TaskCancelled(1, confirmed=False))


def test_a_time_out_that_the_executor_reports_confirms_the_cancel() -> None:
    in_state("cancelling").when(c.ReportTimedOut(1, EX, "start_to_close", 300)).then(
        e.AttemptTimedOut(1, "start_to_close", 300, True), e.TaskCancelled(1)
    )


def test_an_attempt_that_fails_while_it_stops_is_not_tried_again() -> None:
    in_state("cancelling").when(failed()).then(e.AttemptFailed(1, BOOM), e.TaskCancelled(1))


def test_an_attempt_that_completes_before_it_could_stop_completes_the_task() -> None:
    task = in_state("cancelling")
    task.when(completed(result="done")).then(e.TaskCompleted(1, "done"))
    assert task.state.word == "completed"


def test_a_declined_attempt_of_a_cancelled_task_never_ran() -> None:
    task = assigned()
    task.when(c.CancelTask("no"))
    task.when(c.ReportDeclined(1, EX)).then(e.AttemptDeclined(1, EX), e.TaskCancelled(1, reason="no"))


def test_a_cancel_tells_that_the_task_was_paused() -> None:
    task = in_state("pausing")
    task.when(c.ReportPaused(1, EX))
    task.when(c.CancelTask())
    task.when(c.ReportStopped(1, EX)).then(e.TaskCancelled(1, was_paused=True))


def test_a_cancel_remembers_who_wished_it() -> None:
    task = running()
    task.when(c.CancelTask("why not"), actor="ann")
    assert task.state.cancel is not None
    assert (task.state.cancel.by, task.state.cancel.reason) == ("ann", "why not")


def test_the_total_limit_ends_a_task_that_is_being_cancelled() -> None:
    task = running(timeouts={"total_s": 10})
    task.when(c.CancelTask(grace_s=600))
    task.when(FIRE, after_s=10).then_types(e.AttemptTimedOut, e.TaskTimedOut)


def test_a_cancelled_task_is_never_assigned() -> None:
    task = ready()
    task.when(c.CancelTask())
    task.when(ASSIGN).then_refused("conflict")
