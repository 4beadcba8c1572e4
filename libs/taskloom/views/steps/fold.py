"""``Steps.fold(recorded, shape)``: how a run's events change its steps and variables. Projection and verify run it.

Steps that are tasks have a row only when they did not complete: else the row of their task says all.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct, field, structs

from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.workflow import events as w
from taskloom.domain.workflow.state import FAILURE_STEPS
from taskloom.views.steps.shape import Place, Shape

_GO_ON: Final = frozenset({"parallel", "sequential", "conditional", "loop", "map"})
"""Kinds that a retry of the run goes on with; an item begins again when its turn comes."""

_encode: Final = msgspec.json.Encoder().encode


class StepRow(Struct, frozen=True):
    """``status``: running, waiting, completed, failed, skipped or cancelled. ``handled``: the workflow went on with the
    failure. ``result`` is JSON, of steps that are no tasks and have one of their own."""

    path: str
    kind: str
    status: str
    parent: str = ""
    number: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    error_type: str = ""
    handled: bool = False
    result: bytes | None = None


class Steps(Struct):
    """Of one run, as far as they changed: rows by path, and the JSON of variables by name."""

    rows: dict[str, StepRow] = field(default_factory=dict)
    variables: dict[str, bytes] = field(default_factory=dict)

    def fold(self, recorded: Recorded, shape: Shape) -> None:
        """Takes one more event down; for a retry of the run there is ``set_back``."""
        event: Any = recorded.event
        if isinstance(event, w.VariablesMerged):
            self.variables.update({name: _encode(value) for name, value in event.values.items()})
        else:
            place = shape.place(event.path)
            row = _CHANGES[type(event)](event, place, recorded.meta.at)
            if row is not None:
                before = self.rows.get(row.path)
                self.rows[row.path] = row if before is None else merged(before, row)


def merged(before: StepRow, row: StepRow) -> StepRow:
    """The row after it was written over the one before: what it was first begun at stays."""
    return structs.replace(row, started_at=before.started_at or row.started_at)


def concerns(event: Event) -> bool:
    """Whether an event may change steps or variables."""
    return type(event) in _CONCERN


def fold_all(history: Iterable[Recorded], shape: Shape) -> Steps:
    """The steps of a whole history."""
    steps = Steps()
    for recorded in history:
        if isinstance(recorded.event, w.WorkflowRetried):
            if recorded.event.start == "start":
                steps = Steps()
            gone, changed = set_back(steps.rows)
            for path in gone:
                del steps.rows[path]
            steps.rows.update(changed)
        elif concerns(recorded.event):
            steps.fold(recorded, shape)
    return steps


def set_back(rows: Mapping[str, StepRow]) -> tuple[list[str], dict[str, StepRow]]:
    """Which of a run's rows go, and which change, when it goes on where it failed. Those that completed need not be
    there, but for failure steps."""
    gone, changed = [], {}
    affected = {"", FAILURE_STEPS}
    for path in sorted(rows, key=lambda path: (path.count("."), path)):
        row = rows[path]
        if path.startswith(f"{FAILURE_STEPS}."):
            gone.append(path)
        elif row.status != "completed" and not row.handled and row.parent in affected:
            affected.add(path)
            if row.kind in _GO_ON and row.started_at is not None and row.status != "skipped":
                changed[path] = structs.replace(row, status="running", ended_at=None, error="", error_type="")
            elif row.kind != "item" or row.started_at is None:
                gone.append(path)
            elif row.status == "running":
                changed[path] = structs.replace(row, status="cancelled")  # Broken off; it begins again in its turn.
    return gone, changed


def _begun(event: Any, place: Place, at: datetime) -> StepRow:
    return StepRow(event.path, place.kind, "running", place.parent, place.number, at)


def _waits(event: Any, place: Place, at: datetime) -> StepRow:
    return StepRow(event.path, place.kind, "waiting", place.parent, place.number, at)


def _first_round(event: w.LoopRound, place: Place, at: datetime) -> StepRow | None:
    return _begun(event, place, at) if event.n == 1 else None


def _first_part(event: w.MapExpanded, place: Place, at: datetime) -> StepRow | None:
    return None if event.offset else _begun(event, place, at)


def _completed(event: w.StepCompleted, place: Place, at: datetime) -> StepRow | None:
    if place.is_task:
        return None
    result = None if event.result is None else _encode(event.result)
    return StepRow(event.path, place.kind, "completed", place.parent, place.number, ended_at=at, result=result)


def _restored(event: w.StepRestored, place: Place, at: datetime) -> StepRow:
    result = None if event.result is None else _encode(event.result)
    return StepRow(event.path, place.kind, "completed", place.parent, place.number, ended_at=at, result=result)


def _failed(event: w.StepFailed, place: Place, at: datetime) -> StepRow:
    error, kind = _text(event.error.message), _text(event.error.type)
    handled = event.handled or place.tolerated
    return StepRow(event.path, place.kind, "failed", place.parent, place.number, None, at, error, kind, handled=handled)


def _skipped(event: w.StepSkipped, place: Place, at: datetime) -> StepRow:
    return _without_result(event, place, at, "skipped")


def _cancelled(event: w.StepCancelled, place: Place, at: datetime) -> StepRow:
    return _without_result(event, place, at, "cancelled")


def _without_result(event: Any, place: Place, at: datetime, status: str) -> StepRow:
    return StepRow(
        *(event.path, place.kind, status, place.parent, place.number, None, at, _text(event.reason)),
        handled=place.tolerated,
    )


def _text(text: str) -> str:
    """PostgreSQL's text cannot hold U+0000."""
    return text.replace("\x00", "\ufffd")


_CHANGES: Final[dict[type[Event], Callable[[Any, Place, datetime], StepRow | None]]] = {
    w.StepStarted: _begun,
    w.BranchTaken: _begun,
    w.LoopRound: _first_round,
    w.MapExpanded: _first_part,
    w.WaitStarted: _waits,
    w.SignalAwaited: _waits,
    w.ApprovalRequested: _waits,
    w.CheckpointSaved: _begun,
    w.StepCompleted: _completed,
    w.StepFailed: _failed,
    w.StepSkipped: _skipped,
    w.StepCancelled: _cancelled,
    w.StepRestored: _restored,
}
_CONCERN: Final = frozenset({*_CHANGES, w.VariablesMerged, w.WorkflowRetried})
