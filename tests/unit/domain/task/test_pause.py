import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.directives import PauseAttempt, ResumeAttempt
from tests.unit.domain.task.lives import ASSIGN, ENDED, EX, FIRE, INC, assigned, completed, failed, in_state, running

WAITING = ("scheduled", "ready", "retrying")
LIVE = ("assigned", "running")


@pytest.mark.parametrize("word", WAITING)
def test_a_task_without_an_attempt_holds_at_once_and_comes_back_to_where_it_was(word: str) -> None:
    task = in_state(word)
    task.when(c.PauseTask("lunch"), actor="ann").then(e.PauseRequested("lunch"), e.TaskPaused()).then_directs()
    assert task.state.word == "paused"
    assert task.state.pause is not None
    assert (task.state.pause.by, task.state.pause.reason) == ("ann", "lunch")
    assert not task.state.dispatchable
    task.when(c.ResumeTask("back")).then(e.TaskResumed("back"))
    assert task.state.word == word


@pytest.mark.parametrize("word", LIVE)
def test_a_live_attempt_is_asked_to_hold(word: str) -> None:
    task = in_state(word)
    task.when(c.PauseTask()).then(e.PauseRequested()).then_directs(PauseAttempt("task-1", 1, EX, INC))
    assert task.state.word == "pausing"
    task.when(c.ResumeTask()).then_directs(ResumeAttempt("task-1", 1, EX, INC))
    assert task.state.word == word


def test_an_attempt_says_when_it_holds_and_at_which_checkpoint() -> None:
    task = in_state("pausing")
    task.when(c.ReportPaused(1, EX, "row 7")).then(e.TaskPaused("row 7"))
    assert task.state.word == "paused"
    task.when(c.ReportPaused(1, EX, "row 7")).then_nothing()
    task.when(c.ResumeTask()).then_directs(ResumeAttempt("task-1", 1, EX, INC))
    assert task.state.word == "running"


def test_an_attempt_that_holds_before_its_start_was_heard_of_has_started() -> None:
    task = assigned()
    task.when(c.PauseTask())
    task.when(c.ReportPaused(1, EX)).then(e.AttemptStarted(1, EX), e.TaskPaused())


def test_a_hold_that_nobody_asked_for_changes_nothing() -> None:
    running().when(c.ReportPaused(1, EX)).then_nothing()


@pytest.mark.parametrize("word", ["pausing", "paused"])
def test_a_paused_task_cannot_be_paused(word: str) -> None:
    in_state(word).when(c.PauseTask()).then_refused("conflict", "task is already paused")


@pytest.mark.parametrize("word", [*ENDED, "cancelling"])
def test_a_task_at_its_end_can_neither_be_paused_nor_resumed(word: str) -> None:
    in_state(word).when(c.PauseTask()).then_refused("conflict", f"cannot pause {word} task")
    in_state(word).when(c.ResumeTask()).then_refused("conflict", f"cannot resume {word} task")


@pytest.mark.parametrize("word", [*WAITING, *LIVE])
def test_a_task_that_is_not_paused_cannot_be_resumed(word: str) -> None:
    in_state(word).when(c.ResumeTask()).then_refused("conflict", "task is not paused")


def test_a_pausing_task_holds_when_its_attempt_fails_and_its_retry_waits_for_the_resume() -> None:
    task = in_state("pausing")
    task.when(failed()).then_types(e.AttemptFailed, e.RetryScheduled, e.TaskPaused)
    task.when(FIRE, after_s=60).then(e.TaskQueued("retry"))
    task.when(ASSIGN).then_refused("conflict", "task task-1 is paused, not ready")
    task.when(c.ResumeTask())
    assert task.state.dispatchable


def test_a_pausing_task_holds_when_its_attempt_is_declined() -> None:
    task = assigned()
    task.when(c.PauseTask())
    task.when(c.ReportDeclined(1, EX)).then_types(e.AttemptDeclined, e.TaskQueued, e.TaskPaused)
    assert task.state.word == "paused"


def test_a_held_attempt_that_is_lost_leaves_the_task_paused() -> None:
    task = in_state("pausing")
    task.when(c.ReportPaused(1, EX))
    task.when(c.LoseAttempt(1, "gone")).then_types(e.AttemptLost, e.RetryScheduled)
    assert task.state.word == "paused"


def test_an_attempt_that_ends_before_it_could_hold_ends_the_task() -> None:
    task = in_state("pausing")
    task.when(completed()).then_types(e.TaskCompleted)
    assert task.state.word == "completed"


def test_a_scheduled_task_that_is_paused_is_queued_in_time_but_not_dispatched() -> None:
    task = in_state("scheduled")
    task.when(c.PauseTask())
    task.when(FIRE, after_s=400 * 86_400).then(e.TaskQueued("run_at"))
    assert task.state.word == "paused"


def test_an_explanation_changes_nothing() -> None:
    running().when(c.ExplainTask()).then_nothing()
