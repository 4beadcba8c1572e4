"""How the end of a run, and what is undone before it, change what is remembered."""

from collections.abc import Callable
from typing import Any, Final

from taskloom.domain.workflow import ending
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.draft import Draft, within
from taskloom.domain.workflow.state import FAILURE_STEPS, ROOT

UNDO: Final = "undo"


def _compensation(d: Draft, _event: e.CompensationStarted) -> None:
    d.phase = "compensation"
    d.timers = d.timers.clear(ROOT)
    _root_failure(d)
    d.agenda = d.agenda.push(ROOT)


def _root_failure(d: Draft) -> None:
    frame = d.frames[ROOT]
    d.error, d.failed_at = d.error or frame.error, d.failed_at or frame.failed_at


def _compensating(d: Draft, event: e.StepCompensating) -> None:
    assert d.undo is not None
    d.undoing, d.undo = d.undo
    assert d.undoing.plan.undo is not None
    d.undo_count -= 1
    d.undone += 1
    d.agenda = d.agenda.remove(ROOT)
    d.open_frame(within(event.path, UNDO), d.undoing.plan.undo, ROOT)


def _compensated(d: Draft, event: e.StepCompensated) -> None:
    d.drop_frame(within(event.path, UNDO))
    d.undoing = None
    d.compensated += event.error is None


def _failure_steps(d: Draft, _event: e.FailureStepsStarted) -> None:
    d.phase = "failure_steps"
    d.timers = d.timers.clear(ROOT)
    _root_failure(d)
    assert d.plan.failure is not None
    d.agenda = d.agenda.remove(ROOT)
    d.open_frame(FAILURE_STEPS, d.plan.failure, ROOT)


def _run_completed(d: Draft, event: e.WorkflowCompleted) -> None:
    d.status, d.output = "completed", event.output
    _over(d)


def _run_failed(d: Draft, event: e.WorkflowFailed) -> None:
    d.status, d.error, d.failed_at = "failed", event.error, event.path
    _over(d)


def _run_cancelled(d: Draft, _event: e.WorkflowCancelled) -> None:
    d.status = "cancelled"
    _over(d)


def _run_timed_out(d: Draft, _event: e.WorkflowTimedOut) -> None:
    d.status = "timed_out"
    _over(d)


def _over(d: Draft) -> None:
    d.phase, d.agenda, d.slots, d.timers = "over", ending.EMPTY_QUEUE, ending.EMPTY_QUEUE, ending.NO_TIMERS


CHANGES: Final[dict[type[e.WorkflowEvent], Callable[[Draft, Any], None]]] = {
    e.CompensationStarted: _compensation,
    e.FailureStepsStarted: _failure_steps,
    e.StepCompensating: _compensating,
    e.StepCompensated: _compensated,
    e.WorkflowCompleted: _run_completed,
    e.WorkflowFailed: _run_failed,
    e.WorkflowCancelled: _run_cancelled,
    e.WorkflowTimedOut: _run_timed_out,
}
