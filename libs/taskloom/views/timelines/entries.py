"""Stored events as timeline entries (spec/shannon-api.md, section 5): a line or two of text for what happened."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from msgspec import Struct, field

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.views.timelines.stream import payload_of
from taskloom.views.timelines.texts import text_of
from taskloom.views.timelines.workflows import WORKFLOW_ENTRY_TYPES

Mode = Literal["summary", "full"]

MAX_FAILURE_CHARS: Final = 200
_NAMESPACE: Final = UUID("b8a9a3a5-3c0e-5f3e-9d0b-6d7a6d3f7c11")

FULL_ONLY: Final = frozenset(
    {"ACT_SCHEDULED", "ACT_STARTED", "TIMER_STARTED", "CHILD_INITIATED", "ATTR_UPSERT", "MARKER_RECORDED", "EVENT"}
)

_PLAIN: Final[dict[type[e.Event], str]] = {
    e.TaskSubmitted: "WF_STARTED",
    e.TaskWaiting: "MARKER_RECORDED",
    e.DependencyAdded: "SIG_RECEIVED",
    e.DependencyRemoved: "SIG_RECEIVED",
    e.DependencyEnded: "SIG_RECEIVED",
    e.TaskApprovalRequested: "TIMER_STARTED",
    e.TaskApprovalDecided: "SIG_RECEIVED",
    e.TaskApprovalExpired: "TIMER_FIRED",
    e.WatcherAdded: "EVENT",
    e.WatchersTold: "SIG_SENT",
    e.WebhooksDue: "SIG_SENT",
    e.TaskScheduled: "TIMER_STARTED",
    e.AttemptAssigned: "ACT_SCHEDULED",
    e.AttemptDeclined: "EVENT",
    e.AttemptStarted: "ACT_STARTED",
    e.AttemptHeartbeat: "MARKER_RECORDED",
    e.OutputStarted: "MARKER_RECORDED",
    e.RetryScheduled: "TIMER_STARTED",
    e.PauseRequested: "SIG_RECEIVED",
    e.TaskPaused: "MARKER_RECORDED",
    e.TaskResumed: "SIG_RECEIVED",
    e.CancelRequested: "SIG_RECEIVED",
    e.CancelSignalled: "ACT_CANCEL_REQUESTED",
    e.CancelEscalated: "ACT_CANCEL_REQUESTED",
    e.TaskFailed: "WF_FAILED",
    e.TaskTimedOut: "WF_TIMEOUT",
    e.TaskOverdue: "MARKER_RECORDED",
    e.TaskRetried: "SIG_RECEIVED",
    e.TaskUpdated: "ATTR_UPSERT",
    e.TaskDeleteRequested: "SIG_RECEIVED",
    e.TaskDeleted: "SIG_RECEIVED",
    e.ReportIgnored: "EVENT",
    **WORKFLOW_ENTRY_TYPES,
}

_ATTEMPT_ENDS: Final[dict[type[e.Event], str]] = {
    e.AttemptFailed: "ACT_FAILED",
    e.AttemptTimedOut: "ACT_TIMEOUT",
    e.AttemptLost: "ACT_FAILED",
    e.TaskCompleted: "ACT_COMPLETED",
    e.TaskCancelled: "ACT_CANCELLED",
}

_TASK_ENDS: Final[dict[type[e.Event], tuple[str, str]]] = {
    e.TaskCompleted: ("WF_COMPLETED", "All done"),
    e.TaskCancelled: ("WF_CANCELLED", ""),
}


class Entry(Struct, frozen=True, omit_defaults=True):
    """A line of a timeline. ``id`` is the same at every read; ``version`` is the stored event's."""

    id: UUID
    workflow_id: str
    type: str
    message: str
    timestamp: datetime
    seq: int
    created_at: datetime
    version: int
    payload: dict[str, Any] | None = None


class Timeline(Struct, frozen=True):
    entries: list[Entry]
    mode: Mode

    @property
    def stats(self) -> dict[str, Any]:
        return {"total": len(self.entries), "mode": self.mode}


class _Clock(Struct):
    """When the live attempt was given out and started, for the duration in its last line."""

    executor_id: str = ""
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    seq: int = 0
    kept: list[Entry] = field(default_factory=list)


def timeline(history: Iterable[Recorded], mode: Mode = "summary", *, include_payloads: bool = False) -> Timeline:
    """Entries in order, ``seq`` from 1. ``summary`` folds an attempt's schedule, start and end into one line with its
    duration; failure texts are cut to 200 characters unless ``include_payloads``."""
    clock = _Clock()
    for recorded in history:
        for kind, message in _lines(recorded, clock):
            if mode == "full" or kind not in FULL_ONLY:
                clock.kept.append(_entry(recorded, kind, message, len(clock.kept) + 1, include_payloads))
    return Timeline(clock.kept, mode)


def _lines(recorded: Recorded, clock: _Clock) -> Iterator[tuple[str, str]]:
    event, at = recorded.event, recorded.meta.at
    kind = type(event)
    if isinstance(event, e.AttemptAssigned):
        clock.executor_id, clock.assigned_at, clock.started_at = event.executor_id, at, None
    elif isinstance(event, e.AttemptStarted):
        clock.started_at = at
    if isinstance(event, e.TaskQueued):
        yield ("TIMER_FIRED" if event.reason in ("run_at", "retry") else "EVENT"), text_of(event)
    if kind in _PLAIN:
        yield _PLAIN[kind], text_of(event)
    if kind in _ATTEMPT_ENDS and clock.assigned_at is not None:
        yield _ATTEMPT_ENDS[kind], _attempt_end(event, at, clock)
        clock.assigned_at = clock.started_at = None
    if kind in _TASK_ENDS:
        name, text = _TASK_ENDS[kind]
        yield name, text or text_of(event)


def _attempt_end(event: Any, at: datetime, clock: _Clock) -> str:
    since = clock.started_at or clock.assigned_at
    took = f" after {(at - since).total_seconds():.3f} s" if since is not None else ""
    number = getattr(event, "attempt", 0)
    if isinstance(event, e.TaskCompleted):
        return f"Attempt {number} on executor {clock.executor_id} completed{took}"
    if isinstance(event, e.TaskCancelled):
        return f"Attempt {number} on executor {clock.executor_id} cancelled{took}"
    return f"{text_of(event)}{took}"


def _entry(recorded: Recorded, kind: str, message: str, seq: int, include_payloads: bool) -> Entry:
    meta = recorded.meta
    return Entry(
        id=uuid5(_NAMESPACE, f"{meta.task_id}/{meta.version}/{kind}"),
        workflow_id=meta.task_id,
        type=kind,
        message=message if include_payloads else message[:MAX_FAILURE_CHARS],
        timestamp=meta.at,
        seq=seq,
        created_at=meta.at,
        version=meta.version,
        payload=payload_of(recorded.event) if include_payloads else None,
    )
