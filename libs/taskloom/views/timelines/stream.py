"""Stored events as stream events: those of SSE, WebSocket and GET /events (spec/shannon-api.md, 4.3 and 4.4).

Each stored event is one stream event and its ``seq`` is the event's version. After the event that ends the task come
virtual ones that are nowhere stored: WORKFLOW_COMPLETED when the end itself is shown as LLM_OUTPUT, then STREAM_END. A
late report that is recorded after the end comes after them, its ``seq`` moved by as many. An end that a retry took back
is followed by none.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.domain.task.approvals import own_approval_id, step_approval_id
from taskloom.domain.workflow import events as w
from taskloom.views.timelines.texts import text_of
from taskloom.views.timelines.workflows import WORKFLOW_STREAM_TYPES

_TYPES: Final[dict[type[e.Event], str]] = {
    e.TaskSubmitted: "WORKFLOW_STARTED",
    e.TaskWaiting: "WAITING",
    e.DependencyAdded: "WAITING",
    e.DependencyRemoved: "DEPENDENCY_REMOVED",
    e.DependencyEnded: "DEPENDENCY_SATISFIED",
    e.TaskApprovalRequested: "APPROVAL_REQUESTED",
    e.TaskApprovalDecided: "APPROVAL_DECISION",
    e.TaskApprovalExpired: "APPROVAL_EXPIRED",
    e.WatcherAdded: "WATCHER_ADDED",
    e.WatchersTold: "WATCHERS_TOLD",
    e.WebhooksDue: "WEBHOOKS_DUE",
    e.TaskScheduled: "TASK_SCHEDULED",
    e.TaskQueued: "TASK_QUEUED",
    e.AttemptAssigned: "ATTEMPT_ASSIGNED",
    e.AttemptDeclined: "ATTEMPT_DECLINED",
    e.AttemptStarted: "AGENT_STARTED",
    e.AttemptHeartbeat: "PROGRESS",
    e.OutputStarted: "OUTPUT_STARTED",
    e.AttemptFailed: "ERROR_OCCURRED",
    e.AttemptTimedOut: "ERROR_OCCURRED",
    e.AttemptLost: "ERROR_OCCURRED",
    e.RetryScheduled: "ERROR_RECOVERY",
    e.PauseRequested: "WORKFLOW_PAUSING",
    e.TaskPaused: "WORKFLOW_PAUSED",
    e.TaskResumed: "WORKFLOW_RESUMED",
    e.CancelRequested: "WORKFLOW_CANCELLING",
    e.CancelSignalled: "CANCEL_SIGNALLED",
    e.CancelEscalated: "CANCEL_ESCALATED",
    e.TaskCancelled: "WORKFLOW_CANCELLED",
    e.TaskCompleted: "WORKFLOW_COMPLETED",
    e.TaskFailed: "WORKFLOW_FAILED",
    e.TaskTimedOut: "WORKFLOW_FAILED",
    e.TaskOverdue: "WARNING",
    e.TaskRetried: "TASK_RETRIED",
    e.TaskUpdated: "TASK_UPDATED",
    e.TaskDeleteRequested: "TASK_DELETING",
    e.TaskDeleted: "TASK_DELETED",
    e.ReportIgnored: "REPORT_IGNORED",
    **WORKFLOW_STREAM_TYPES,
}

_ASKS: Final = (e.TaskApprovalRequested, w.ApprovalRequested)

STREAM_EVENT_TYPES: Final = frozenset({*_TYPES.values(), "LLM_OUTPUT", "DEPENDENCY_FAILED", "STREAM_END"})


class StreamEvent(Struct, frozen=True, omit_defaults=True):
    """``seq`` rises by 1 from 1. ``payload`` is the stored event's own data; virtual events have none."""

    workflow_id: str
    type: str
    timestamp: datetime
    seq: int
    message: str = ""
    agent_id: str = ""
    payload: dict[str, Any] | None = None


def stream_event(recorded: Recorded) -> StreamEvent:
    """The one stream event of a stored event; ``seq`` is its version."""
    meta, event = recorded.meta, recorded.event
    payload = payload_of(event)
    message = text_of(event)
    if approval_id := approval_id_of(meta.task_id, event):
        payload = {"approval_id": approval_id, "workflow_id": meta.task_id, **payload}
        if isinstance(event, _ASKS):
            # Shannon's SDK reads the payload of this event out of its message, and that of no other.
            message = msgspec.json.encode(payload).decode()
    return StreamEvent(
        workflow_id=meta.task_id,
        type=_type_of(event),
        timestamp=meta.at,
        seq=meta.version,
        message=message,
        agent_id=_agent(event),
        payload=payload,
    )


def approval_id_of(task_id: str, event: e.TaskEvent) -> str:
    """Which approval an event is about; empty for none."""
    if isinstance(event, (e.TaskApprovalRequested, e.TaskApprovalDecided, e.TaskApprovalExpired)):
        return own_approval_id(task_id, event.number)
    if isinstance(event, (w.ApprovalRequested, w.ApprovalDecided, w.ApprovalExpired)):
        return step_approval_id(task_id, event.path)
    return ""


def after_end(recorded: Recorded) -> list[StreamEvent]:
    """The virtual events after a stored one that ends its task, STREAM_END last; none after any other."""
    meta, event = recorded.meta, recorded.event
    if not isinstance(event, e.TERMINAL_EVENTS):
        return []
    texts = [("STREAM_END", "Done")]
    if _is_answer(event):
        texts.insert(0, ("WORKFLOW_COMPLETED", "All done"))
    return [
        StreamEvent(meta.task_id, kind, meta.at, meta.version + place, text)
        for place, (kind, text) in enumerate(texts, start=1)
    ]


def stream_events(history: Sequence[Recorded], *, retried_later: bool = False) -> list[StreamEvent]:
    """All stream events of a history that begins with the task's first event, ``seq`` from 1 without a gap.

    Of a part of one, too, when it begins before the end, if there is one. ``retried_later``: what follows the part
    takes its end back.
    """
    found: list[StreamEvent] = []
    moved = 0
    last = last_retry(history)
    for place, recorded in enumerate(history):
        event = stream_event(recorded)
        found.append(event if not moved else msgspec.structs.replace(event, seq=event.seq + moved))
        ended = [] if retried_later or place < last else after_end(recorded)
        found.extend(ended)
        moved += len(ended)
    return found


def last_retry(history: Sequence[Recorded]) -> int:
    """Place of the last retry in a history, -1 when there is none."""
    places = range(len(history) - 1, -1, -1)
    return next((place for place in places if isinstance(history[place].event, e.TaskRetried)), -1)


def payload_of(event: e.TaskEvent) -> dict[str, Any]:
    """The event's own data as plain values, without its type name."""
    data: dict[str, Any] = msgspec.to_builtins(event)
    data.pop("type", None)
    return data


def _type_of(event: e.TaskEvent) -> str:
    if _is_answer(event):
        return "LLM_OUTPUT"
    if isinstance(event, e.DependencyEnded) and event.outcome != "completed":
        return "DEPENDENCY_FAILED"
    return _TYPES[type(event)]


def _is_answer(event: e.TaskEvent) -> bool:
    """The end of a query: what its assistant answered. Only an assistant names its model."""
    return isinstance(event, e.TaskCompleted) and bool(event.usage.model)


def _agent(event: e.TaskEvent) -> str:
    attempt = getattr(event, "attempt", 0)
    return f"attempt-{attempt}" if attempt else ""
