"""``attempts(history)``: the tries at a task, one after the other, folded from its events."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct, field

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.domain.values import ErrorInfo, OutputSummary, ResourceUse, Usage

AttemptStatus = Literal[
    "queued", "starting", "running", "completed", "failed", "cancelled", "timeout", "lost", "declined"
]


class Attempt(Struct):
    """One try. ``starting`` is assigned and not yet started; ``declined`` was handed back unstarted."""

    attempt: int
    status: AttemptStatus
    queued_at: datetime | None = None
    executor_id: str = ""
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    exit_code: int | None = None
    error: ErrorInfo | None = None
    progress: float | None = None
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()
    usage: Usage = Usage()


class _Tries(Struct):
    done: list[Attempt] = field(default_factory=list)
    queued_at: datetime | None = None
    live: Attempt | None = None


def attempts(history: Iterable[Recorded]) -> list[Attempt]:
    """In order, the one that waits in a queue last. ``history`` begins with the task's first event."""
    tries = _Tries()
    for recorded in history:
        change = _CHANGES.get(type(recorded.event))
        if change is not None:
            change(tries, recorded.event, recorded.meta.at)
    if tries.live is not None:
        tries.done.append(tries.live)
    elif tries.queued_at is not None:
        tries.done.append(Attempt(len(tries.done) + 1, "queued", tries.queued_at))
    return tries.done


def _queued(tries: _Tries, _event: e.TaskQueued, at: datetime) -> None:
    tries.queued_at = at


def _assigned(tries: _Tries, event: e.AttemptAssigned, at: datetime) -> None:
    tries.live = Attempt(event.attempt, "starting", tries.queued_at, event.executor_id, assigned_at=at)
    tries.queued_at = None


def _started(tries: _Tries, _event: e.AttemptStarted, at: datetime) -> None:
    if tries.live is not None:
        tries.live.status, tries.live.started_at = "running", at


def _heartbeat(tries: _Tries, event: e.AttemptHeartbeat, _at: datetime) -> None:
    if tries.live is not None and event.progress is not None:
        tries.live.progress = event.progress


def _declined(tries: _Tries, event: e.AttemptDeclined, at: datetime) -> None:
    _end(tries, "declined", at, error=ErrorInfo("declined", event.reason or "handed back by the executor"))


def _failed(tries: _Tries, event: e.AttemptFailed, at: datetime) -> None:
    _end(tries, "failed", at, event, event.error)


def _timed_out(tries: _Tries, event: e.AttemptTimedOut, at: datetime) -> None:
    _end(tries, "timeout", at, event, ErrorInfo("timeout", f"{event.timeout} limit of {event.limit_s:g} s passed"))


def _lost(tries: _Tries, event: e.AttemptLost, at: datetime) -> None:
    _end(tries, "lost", at, error=ErrorInfo("lost", event.reason))


def _cancelled(tries: _Tries, event: e.TaskCancelled, at: datetime) -> None:
    _end(tries, "cancelled", at, event)


def _completed(tries: _Tries, event: e.TaskCompleted, at: datetime) -> None:
    _end(tries, "completed", at, event)


def _over(tries: _Tries, _event: e.TaskFailed | e.TaskTimedOut, _at: datetime) -> None:
    tries.queued_at = None


def _end(
    tries: _Tries, status: AttemptStatus, at: datetime, report: Any = None, error: ErrorInfo | None = None
) -> None:
    """Ends the live attempt with what its last event reports of it, and whatever waited in the queue."""
    tries.queued_at = None
    live, tries.live = tries.live, None
    if live is None:
        return
    live.status, live.completed_at, live.error = status, at, error
    live.exit_code = getattr(report, "exit_code", None)
    live.output = getattr(report, "output", live.output)
    live.resources = getattr(report, "resources", live.resources)
    live.usage = getattr(report, "usage", live.usage)
    tries.done.append(live)


_CHANGES: Final[dict[type[e.Event], Callable[[_Tries, Any, datetime], None]]] = {
    e.TaskQueued: _queued,
    e.AttemptAssigned: _assigned,
    e.AttemptDeclined: _declined,
    e.AttemptStarted: _started,
    e.AttemptHeartbeat: _heartbeat,
    e.AttemptFailed: _failed,
    e.AttemptTimedOut: _timed_out,
    e.AttemptLost: _lost,
    e.TaskCancelled: _cancelled,
    e.TaskCompleted: _completed,
    e.TaskFailed: _over,
    e.TaskTimedOut: _over,
}
