"""How the events of a workflow's run change the row of its task: its top-level steps, and how far it is."""

from collections.abc import Callable
from math import floor
from typing import Any, Final, get_args

from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.workflow import events as w
from taskloom.views.task_executions.row import Row

_ROUNDING: Final = 1e-9
"""Shares of parts do not always add up to a whole in floating point."""


def _run_began(row: Row, event: w.WorkflowStarted, r: Recorded) -> None:
    row.phase = "running"
    row.started_at = r.meta.at
    row.steps_total = event.steps
    row.progress = 0.0


def _run_went_on(row: Row, event: w.WorkflowRetried, r: Recorded) -> None:
    row.phase = "running"
    row.started_at = r.meta.at
    row.current_step = ""
    row.steps_ended = row.steps_total - len(event.steps)
    row.steps_failed = event.tolerated
    row.steps_completed = row.steps_ended - event.tolerated
    goes_on = event.start == "failed"
    row.steps_parts = {name: row.steps_parts[name] for name in event.steps if goes_on and name in row.steps_parts}
    row.steps_running = len(row.steps_parts)
    row.restarts = event.number
    if not goes_on:
        row.steps_since = event.number
    _measure(row)


def _step_began(row: Row, event: w.StepEvent, _r: Recorded) -> None:
    if "." in event.path:
        return  # within another step, or of a compensation
    row.current_step = event.path
    row.steps_running += 1


def _step_with_parts_began(row: Row, event: w.StepStarted | w.BranchTaken, r: Recorded) -> None:
    _step_began(row, event, r)
    _set_parts(row, event.path, 0, event.steps)


def _map_began(row: Row, event: w.MapExpanded, r: Recorded) -> None:
    if not event.offset:
        _step_began(row, event, r)
        _set_parts(row, event.path, 0, event.total)


def _loop_went_on(row: Row, event: w.LoopRound, r: Recorded) -> None:
    if event.n == 1:
        _step_began(row, event, r)
    _set_parts(row, event.path, event.n - 1, event.limit)


def _set_parts(row: Row, path: str, done: int, total: int) -> None:
    if total and "." not in path:
        row.steps_parts = {**row.steps_parts, path: [done, total]}
        _measure(row)


def _measure(row: Row) -> None:
    """Completed steps of all, with the completed parts of those under way."""
    if row.steps_total:
        shares = sum(min(done, total) / total for done, total in row.steps_parts.values())
        row.progress = floor(100 * (row.steps_completed + shares) / row.steps_total + _ROUNDING) / 100


def _step_completed(row: Row, event: w.StepCompleted | w.StepRestored, r: Recorded) -> None:
    around, _, part = event.path.partition(".")
    if part:
        if around in row.steps_parts and "." not in part:
            done, total = row.steps_parts[around]
            _set_parts(row, around, done + 1, total)
        return
    row.steps_completed += 1
    row.steps_running -= isinstance(event, w.StepCompleted)
    if event.path in row.steps_parts:
        row.steps_parts = {name: parts for name, parts in row.steps_parts.items() if name != event.path}
    _step_ended(row, event, r)
    _measure(row)


def _step_failed(row: Row, event: w.StepFailed, r: Recorded) -> None:
    if "." not in event.path:
        row.steps_failed += 1
        row.steps_running -= event.begun
        _step_ended(row, event, r)


def _step_cancelled(row: Row, event: w.StepCancelled, r: Recorded) -> None:
    if "." not in event.path:
        row.steps_running -= 1
        _step_ended(row, event, r)


def _step_ended(row: Row, event: w.StepEvent, _r: Recorded) -> None:
    if "." in event.path:
        return
    row.steps_ended += 1
    if row.current_step == event.path:
        row.current_step = ""


def _unchanged(_row: Row, _e: Event, _r: Recorded) -> None:
    return


_BEGIN: Final = (
    *(w.StepScheduled, w.StepRetried, w.WaitStarted, w.SignalAwaited, w.ApprovalRequested, w.CheckpointSaved),
)
OF_RUNS: Final[dict[type[Event], Callable[[Row, Any, Recorded], None]]] = {
    **dict.fromkeys(get_args(w.AnyWorkflowEvent), _unchanged),
    **dict.fromkeys(_BEGIN, _step_began),
    w.StepStarted: _step_with_parts_began,
    w.BranchTaken: _step_with_parts_began,
    w.LoopRound: _loop_went_on,
    w.MapExpanded: _map_began,
    w.StepCompleted: _step_completed,
    w.StepRestored: _step_completed,
    w.StepFailed: _step_failed,
    w.StepSkipped: _step_ended,
    w.StepCancelled: _step_cancelled,
    w.WorkflowStarted: _run_began,
    w.WorkflowRetried: _run_went_on,
}
