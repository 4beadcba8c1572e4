"""``evolve(state, recorded)``: how each event changes what is remembered. Live and replay run this one function."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, get_args

from msgspec import UNSET, structs

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.domain.task.runs import after_event
from taskloom.domain.task.state import (
    REMEMBERED_COMMANDS,
    REMEMBERED_REPORTS,
    Cancel,
    Deletion,
    LiveAttempt,
    Pause,
    PendingApproval,
    TaskState,
)
from taskloom.domain.values import ErrorInfo, OutputSummary
from taskloom.domain.workflow.events import AnyWorkflowEvent, WorkflowEvent, WorkflowRetried, WorkflowStarted

Changes = dict[str, Any]


def evolve(state: TaskState | None, recorded: Recorded) -> TaskState:
    """The state after one more event.

    Raises:
        ValueError: the event does not follow the state: its version is not the next one.
    """
    meta, event = recorded.meta, recorded.event
    if state is None:
        return _submitted(recorded)
    if meta.version != state.version + 1:
        raise ValueError(f"{meta.task_id}: event {meta.version} cannot follow version {state.version}")
    changes = _CHANGES[type(event)](state, event, recorded)
    if meta.actor and meta.command_id and meta.command_id not in state.command_ids[:1]:
        changes["command_ids"] = (meta.command_id, *state.command_ids[: REMEMBERED_COMMANDS - 1])
    after = structs.replace(state, version=meta.version, digest=recorded.digest, changed_at=meta.at, **changes)
    return after if after.live is None or not meta.command_id else _remember_report(after, after.live, meta.command_id)


def _remember_report(state: TaskState, live: LiveAttempt, command_id: str) -> TaskState:
    if command_id in (*live.reports[:1], *state.command_ids[:1]):
        return state
    reports = (command_id, *live.reports[: REMEMBERED_REPORTS - 1])
    return structs.replace(state, live=structs.replace(live, reports=reports))


def fold(history: Iterable[Recorded], state: TaskState | None = None) -> TaskState | None:
    """The state after a history, from ``state`` on; None for an empty one."""
    for recorded in history:
        state = evolve(state, recorded)
    return state


def _submitted(recorded: Recorded) -> TaskState:
    meta, event = recorded.meta, recorded.event
    if not isinstance(event, e.TaskSubmitted) or meta.version != 1:
        raise ValueError(f"{meta.task_id}: a history begins with TaskSubmitted at version 1, not {recorded.type}")
    return TaskState(
        task_id=meta.task_id,
        version=1,
        digest=recorded.digest,
        spec=event.spec,
        body_hash=event.body_hash,
        submitted_at=meta.at,
        changed_at=meta.at,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
        command_ids=(meta.command_id,) if meta.command_id else (),
    )


def _waiting(_s: TaskState, event: e.TaskWaiting, _r: Recorded) -> Changes:
    return {"phase": "waiting", "waiting_for": frozenset(event.depends_on)}


def _dependency_added(state: TaskState, event: e.DependencyAdded, _r: Recorded) -> Changes:
    return {"phase": "waiting", "queued_at": None, "waiting_for": state.waiting_for | {event.dependency}}


def _dependency_gone(state: TaskState, event: e.DependencyRemoved | e.DependencyEnded, _r: Recorded) -> Changes:
    return {"waiting_for": state.waiting_for - {event.dependency}}


def _approval_requested(_s: TaskState, event: e.TaskApprovalRequested, r: Recorded) -> Changes:
    pending = PendingApproval(event.number, r.meta.at, event.due_at)
    return {"phase": "waiting", "queued_at": None, "approval": pending, "approvals_asked": event.number}


def _approval_decided(_s: TaskState, event: e.TaskApprovalDecided, _r: Recorded) -> Changes:
    return {"approval": None, "approved": event.approved}


def _approval_expired(_s: TaskState, event: e.TaskApprovalExpired, _r: Recorded) -> Changes:
    return {"approval": None, "approved": event.outcome == "approve"}


def _watcher_added(state: TaskState, event: e.WatcherAdded, _r: Recorded) -> Changes:
    """One that asks again after the end is there already."""
    return {"watchers": tuple(dict.fromkeys((*state.watchers, event.watcher)))}


def _scheduled(_s: TaskState, _e: e.TaskScheduled, _r: Recorded) -> Changes:
    return {"phase": "scheduled"}


def _queued(_s: TaskState, _e: e.TaskQueued, r: Recorded) -> Changes:
    return {"phase": "ready", "queued_at": r.meta.at, "held_s": 0.0, "retry_at": None}


def _assigned(_s: TaskState, event: e.AttemptAssigned, r: Recorded) -> Changes:
    live = LiveAttempt(event.attempt, event.executor_id, event.incarnation, r.meta.at)
    return {"phase": "assigned", "live": live, "attempts": event.attempt}


def _started(state: TaskState, _e: e.AttemptStarted, r: Recorded) -> Changes:
    assert state.live is not None
    return {"phase": "running", "live": structs.replace(state.live, started_at=r.meta.at)}


def _heartbeat(state: TaskState, _e: e.AttemptHeartbeat, r: Recorded) -> Changes:
    assert state.live is not None
    return {"live": structs.replace(state.live, heard_at=r.meta.at)}


def _attempt_ended(_s: TaskState, _e: e.Event, r: Recorded) -> Changes:
    return {"phase": "ready", "live": None, "queued_at": None, "ended_by": r.meta.command_id, "losses": 0}


def _attempt_failed(state: TaskState, event: e.AttemptFailed, r: Recorded) -> Changes:
    used = event.usage
    return {
        **_attempt_ended(state, event, r),
        "failures": state.failures + 1,
        "error": event.error,
        "output": event.output,
        "tokens": state.tokens + used.input_tokens + used.output_tokens,
        "cost_usd": state.cost_usd + used.cost_usd,
    }


def _attempt_timed_out(state: TaskState, event: e.AttemptTimedOut, r: Recorded) -> Changes:
    own = event.timeout in ("schedule_to_start", "total")  # Limits of the task; its executor may have done well.
    error = ErrorInfo("timeout", f"{event.timeout} limit of {event.limit_s:g} s passed", fault=not own)
    ended = _attempt_ended(state, event, r)
    return {**ended, "failures": state.failures + 1, "error": error, "output": event.output}


def _attempt_lost(state: TaskState, event: e.AttemptLost, r: Recorded) -> Changes:
    error = ErrorInfo("lost", event.reason, fault=True)
    return {
        **_attempt_ended(state, event, r),
        "failures": state.failures + 1,
        "losses": state.losses + 1,
        "error": error,
    }


def _retry(_s: TaskState, event: e.RetryScheduled, _r: Recorded) -> Changes:
    return {"phase": "retrying", "retry_at": event.due_at}


def _pause_requested(_s: TaskState, event: e.PauseRequested, r: Recorded) -> Changes:
    return {"pause": Pause(r.meta.at, event.reason, r.meta.actor)}


def _paused(state: TaskState, _e: e.TaskPaused, r: Recorded) -> Changes:
    assert state.pause is not None
    return {"pause": structs.replace(state.pause, paused_at=r.meta.at)}


def _resumed(state: TaskState, _e: e.TaskResumed, r: Recorded) -> Changes:
    """Time on hold does not count: not for the running attempt's limits, and not for the wait in the queue."""
    changes: Changes = {"pause": None}
    paused_at = None if state.pause is None else state.pause.paused_at
    live = state.live
    if live is not None:
        held_s = _held_s(paused_at, live.started_at, r)
        changes["live"] = structs.replace(live, paused_s=live.paused_s + held_s, heard_at=r.meta.at)
    else:
        changes["held_s"] = state.held_s + _held_s(paused_at, state.queued_at, r)
    return changes


def _held_s(paused_at: datetime | None, since: datetime | None, r: Recorded) -> float:
    return 0.0 if paused_at is None or since is None else max(0.0, (r.meta.at - max(paused_at, since)).total_seconds())


def _cancel_requested(_s: TaskState, event: e.CancelRequested, r: Recorded) -> Changes:
    return {"cancel": Cancel(r.meta.at, event.grace_s, event.reason, r.meta.actor)}


def _unchanged(_s: TaskState, _e: e.Event, _r: Recorded) -> Changes:
    return {}


def _cancelled(state: TaskState, event: e.TaskCancelled, r: Recorded) -> Changes:
    output = event.output if event.attempt else state.output
    return {"phase": "cancelled", "live": None, "output": output, "ended_by": r.meta.command_id}


def _completed(_s: TaskState, event: e.TaskCompleted, r: Recorded) -> Changes:
    ended = {"phase": "completed", "live": None, "error": None, "output": event.output}
    return {**ended, "ended_by": r.meta.command_id, "run": None}


def _failed(_s: TaskState, event: e.TaskFailed, _r: Recorded) -> Changes:
    return {"phase": "failed", "live": None, "error": event.error}


def _timed_out(_s: TaskState, _e: e.TaskTimedOut, _r: Recorded) -> Changes:
    return {"phase": "timed_out", "live": None}


def _ignored(state: TaskState, _e: e.ReportIgnored, _r: Recorded) -> Changes:
    return {"ignored": state.ignored + 1}


def _run_began(state: TaskState, event: WorkflowStarted | WorkflowRetried, r: Recorded) -> Changes:
    return {"phase": "running", "queued_at": None, "run": after_event(state, event, r.meta.at)}


def _run_changed(state: TaskState, event: WorkflowEvent, r: Recorded) -> Changes:
    return {"run": after_event(state, event, r.meta.at)}


def _overdue(_s: TaskState, _e: e.TaskOverdue, _r: Recorded) -> Changes:
    return {"overdue": True}


def _retried(state: TaskState, _e: e.TaskRetried, r: Recorded) -> Changes:
    """A new life in the same stream. What fences stays: the number of attempts, and what was told by whom. The command
    is remembered whoever sent it: the run around a child workflow is no client."""
    known = (r.meta.command_id, *state.command_ids[: REMEMBERED_COMMANDS - 1])
    return {
        "command_ids": known if r.meta.command_id else state.command_ids,
        "phase": "ready",
        "retried_at": r.meta.at,
        "queued_at": None,
        "held_s": 0.0,
        "failures": 0,
        "losses": 0,
        "tokens": 0,
        "cost_usd": 0.0,
        "error": None,
        "output": OutputSummary(),
        "pause": None,
        "cancel": None,
        "watchers": (),
        "approval": None,
    }


def _updated(state: TaskState, event: e.TaskUpdated, r: Recorded) -> Changes:
    names = ("name", "description", "priority", "executor_id", "deadline", "tags", "queue")
    named = {name: value for name in names if (value := getattr(event, name)) is not UNSET}
    changes: Changes = {"overdue": False} if "deadline" in named else {}
    spec = structs.replace(state.spec, **named, metadata=metadata_after(state.spec.metadata, event))
    return {**changes, "spec": spec, "updated_at": r.meta.at}


def metadata_after(metadata: dict[str, Any], event: e.TaskUpdated) -> dict[str, Any]:
    """``metadata`` itself when the event leaves it alone."""
    if event.metadata is UNSET and not event.metadata_removed:
        return metadata
    new = {} if event.metadata is UNSET else event.metadata
    return {name: value for name, value in {**metadata, **new}.items() if name not in event.metadata_removed}


def _delete_requested(_s: TaskState, event: e.TaskDeleteRequested, _r: Recorded) -> Changes:
    return {"deletion": Deletion(event.reason)}


def _deleted(_s: TaskState, event: e.TaskDeleted, _r: Recorded) -> Changes:
    return {"deletion": Deletion(event.reason, done=True)}


_CHANGES: Final[dict[type[e.Event], Callable[[TaskState, Any, Recorded], Changes]]] = {
    e.TaskWaiting: _waiting,
    e.DependencyAdded: _dependency_added,
    e.DependencyRemoved: _dependency_gone,
    e.DependencyEnded: _dependency_gone,
    e.TaskApprovalRequested: _approval_requested,
    e.TaskApprovalDecided: _approval_decided,
    e.TaskApprovalExpired: _approval_expired,
    e.WatcherAdded: _watcher_added,
    e.WatchersTold: _unchanged,
    e.WebhooksDue: _unchanged,
    e.TaskScheduled: _scheduled,
    e.TaskQueued: _queued,
    e.AttemptAssigned: _assigned,
    e.AttemptDeclined: _attempt_ended,
    e.AttemptStarted: _started,
    e.AttemptHeartbeat: _heartbeat,
    e.OutputStarted: _unchanged,
    e.AttemptFailed: _attempt_failed,
    e.AttemptTimedOut: _attempt_timed_out,
    e.AttemptLost: _attempt_lost,
    e.RetryScheduled: _retry,
    e.PauseRequested: _pause_requested,
    e.TaskPaused: _paused,
    e.TaskResumed: _resumed,
    e.CancelRequested: _cancel_requested,
    e.CancelSignalled: _unchanged,
    e.CancelEscalated: _unchanged,
    e.TaskCancelled: _cancelled,
    e.TaskCompleted: _completed,
    e.TaskFailed: _failed,
    e.TaskTimedOut: _timed_out,
    e.TaskOverdue: _overdue,
    e.TaskRetried: _retried,
    e.TaskUpdated: _updated,
    e.TaskDeleteRequested: _delete_requested,
    e.TaskDeleted: _deleted,
    e.ReportIgnored: _ignored,
    **dict.fromkeys(get_args(AnyWorkflowEvent), _run_changed),
    WorkflowStarted: _run_began,
    WorkflowRetried: _run_began,
}
