"""``fold(row, recorded)``: how each event changes a task's row. Projection, as-of reads and verify run it."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import UNSET

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.domain.task.evolve import metadata_after
from taskloom.domain.task.state import TERMINAL
from taskloom.domain.values import OutputSummary, Usage
from taskloom.errors import TaskloomError
from taskloom.views.task_executions.fold_runs import OF_RUNS
from taskloom.views.task_executions.row import DELETED, STATUSES, Row


class OutOfSequence(TaskloomError):
    """The event does not follow the row's version."""


def fold(row: Row | None, recorded: Recorded) -> Row:
    """The row after one more event; ``row`` itself stays as it is.

    Raises:
        OutOfSequence: the event's version is not the next one, or a first event is no submission.
    """
    meta, event = recorded.meta, recorded.event
    if row is None:
        return _cleaned(_submitted(recorded), recorded)
    if meta.version != row.version + 1:
        raise OutOfSequence(f"{meta.task_id}: event {meta.version} cannot follow version {row.version}")
    after: Row = row.__copy__()  # type: ignore[attr-defined]
    after.version = meta.version
    after.updated_at = meta.at
    _CHANGES[type(event)](after, event, recorded)
    after.state = state = _word(after)
    after.status = STATUSES[after.phase if state == DELETED else state]
    return _cleaned(after, recorded)


def fold_all(history: Iterable[Recorded], row: Row | None = None) -> Row | None:
    """The row after a history, from ``row`` on; None for an empty one."""
    for recorded in history:
        row = fold(row, recorded)
    return row


def _submitted(recorded: Recorded) -> Row:
    meta, event = recorded.meta, recorded.event
    if not isinstance(event, e.TaskSubmitted) or meta.version != 1:
        raise OutOfSequence(f"{meta.task_id}: a history begins with TaskSubmitted at version 1, not {recorded.type}")
    spec = event.spec
    return Row(
        task_id=meta.task_id,
        tenant_id=meta.tenant_id,
        user_id=spec.user_id,
        session_id=spec.session_id,
        name=spec.name,
        kind=spec.kind,
        queue=spec.queue,
        priority=int(spec.priority),
        query=spec.query,
        mode=spec.mode,
        context=spec.context,
        metadata=spec.metadata,
        tags=spec.tags,
        input=spec.input,
        max_attempts=spec.retry.max_attempts,
        created_at=meta.at,
        run_at=spec.run_at,
        deadline=spec.deadline,
        callback_url=spec.callback_url,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
        description=spec.description,
        assigned_to=spec.executor_id,
        deleted_at=None,
        version=1,
        phase="ready",
        state="ready",
        status="QUEUED",
        updated_at=meta.at,
    )


def _word(row: Row) -> str:
    """The fine state, as ``TaskState.word``: an end hides a cancel, a cancel hides a pause, a pause hides the phase."""
    if row.phase in TERMINAL:
        return row.phase if row.deleted_at is None else DELETED
    if row.is_cancelled:
        return "cancelling"
    if row.is_paused:
        return "paused" if row.paused_at is not None else "pausing"
    return row.phase


def _waiting(row: Row, _e: e.TaskWaiting | e.DependencyAdded | e.TaskApprovalRequested, _r: Recorded) -> None:
    row.phase = "waiting"
    row.queued_at = None


def _scheduled(row: Row, _e: e.TaskScheduled, _r: Recorded) -> None:
    row.phase = "scheduled"


def _queued(row: Row, _e: e.TaskQueued, r: Recorded) -> None:
    row.phase = "ready"
    row.queued_at = r.meta.at
    row.retry_at = None


def _assigned(row: Row, event: e.AttemptAssigned, _r: Recorded) -> None:
    row.phase = "assigned"
    row.attempt = event.attempt
    row.executor_id = event.executor_id
    row.progress = None
    row.progress_message = ""


def _declined(row: Row, _e: e.AttemptDeclined, _r: Recorded) -> None:
    _stopped(row)
    row.executor_id = ""


def _started(row: Row, _e: e.AttemptStarted, r: Recorded) -> None:
    row.phase = "running"
    row.attempt_started_at = r.meta.at
    if row.started_at is None:
        row.started_at = r.meta.at


def _heartbeat(row: Row, event: e.AttemptHeartbeat, _r: Recorded) -> None:
    if event.progress is not None:
        row.progress = event.progress
    if event.message:
        row.progress_message = event.message


def _attempt_failed(row: Row, event: e.AttemptFailed, _r: Recorded) -> None:
    _stopped(row)
    row.failures += 1
    row.error = event.error.message
    row.error_type = event.error.type
    row.exit_code = event.exit_code
    _add_output(row, event.output)
    _add_usage(row, event.usage)


def _attempt_timed_out(row: Row, event: e.AttemptTimedOut, _r: Recorded) -> None:
    _stopped(row)
    row.failures += 1
    row.error = _limit_text(event.timeout, event.limit_s)
    row.error_type = "timeout"
    _add_output(row, event.output)


def _attempt_lost(row: Row, event: e.AttemptLost, _r: Recorded) -> None:
    _stopped(row)
    row.failures += 1
    row.error = f"executor {event.executor_id} was lost: {event.reason}"
    row.error_type = "lost"


def _stopped(row: Row) -> None:
    """The attempt is over, the task is not."""
    row.phase = "ready"
    row.attempt_started_at = None


def _retry(row: Row, event: e.RetryScheduled, _r: Recorded) -> None:
    row.phase = "retrying"
    row.retry_at = event.due_at


def _pause_requested(row: Row, event: e.PauseRequested, r: Recorded) -> None:
    row.is_paused = True
    row.pause_requested_at = r.meta.at
    row.paused_at = None
    row.pause_reason = event.reason
    row.paused_by = r.meta.actor


def _paused(row: Row, event: e.TaskPaused, r: Recorded) -> None:
    row.paused_at = r.meta.at
    row.checkpoint = event.checkpoint


def _resumed(row: Row, _e: e.TaskResumed, _r: Recorded) -> None:
    row.is_paused = False
    row.pause_requested_at = row.paused_at = None
    row.pause_reason = row.paused_by = row.checkpoint = ""


def _cancel_requested(row: Row, event: e.CancelRequested, r: Recorded) -> None:
    row.is_cancelled = True
    row.cancel_requested_at = r.meta.at
    row.cancel_reason = event.reason
    row.cancelled_by = r.meta.actor


def _unchanged(_row: Row, _e: e.Event, _r: Recorded) -> None:
    return


def _cancelled(row: Row, event: e.TaskCancelled, r: Recorded) -> None:
    _end(row, "cancelled", r)
    row.is_cancelled = True
    row.was_paused = event.was_paused
    row.cancel_reason = row.cancel_reason or event.reason
    row.exit_code = event.exit_code
    _add_output(row, event.output)


def _completed(row: Row, event: e.TaskCompleted, r: Recorded) -> None:
    _end(row, "completed", r)
    row.result = event.result
    row.response = event.response
    row.exit_code = event.exit_code
    row.error = row.error_type = ""
    row.progress = 1.0
    _add_output(row, event.output)
    _add_usage(row, event.usage)


def _failed(row: Row, event: e.TaskFailed, r: Recorded) -> None:
    _end(row, "failed", r)
    row.error = event.error.message
    row.error_type = event.error.type


def _timed_out(row: Row, event: e.TaskTimedOut, r: Recorded) -> None:
    _end(row, "timed_out", r)
    row.error = _limit_text(event.timeout, event.limit_s)
    row.error_type = "timeout"


def _overdue(row: Row, _e: e.TaskOverdue, _r: Recorded) -> None:
    row.overdue = True


def _retried(row: Row, _e: e.TaskRetried, _r: Recorded) -> None:
    """A new life: what the one before came to is gone, but for its attempts, their output and what they cost."""
    row.phase = "ready"
    row.failures = 0
    row.executor_id = row.error = row.error_type = ""
    row.exit_code = row.progress = None
    row.progress_message = ""
    row.queued_at = row.started_at = row.completed_at = row.failed_at = row.retry_at = None
    row.is_cancelled = row.was_paused = False
    row.cancel_requested_at = None
    row.cancel_reason = row.cancelled_by = ""


def _updated(row: Row, event: e.TaskUpdated, _r: Recorded) -> None:
    for name, column in _UPDATED.items():
        value = getattr(event, name)
        if value is not UNSET:
            setattr(row, column, value)
    if event.deadline is not UNSET:
        row.overdue = False
    row.metadata = metadata_after(row.metadata, event)


def _deleted(row: Row, _e: e.TaskDeleted, r: Recorded) -> None:
    row.deleted_at = r.meta.at


_UPDATED: Final = {
    **{name: name for name in ("name", "description", "priority", "deadline", "tags", "queue")},
    "executor_id": "assigned_to",
}


def _end(row: Row, phase: str, r: Recorded) -> None:
    row.phase = phase
    row.completed_at = r.meta.at
    row.steps_running = 0
    row.retry_at = row.attempt_started_at = None
    if phase != "completed":
        row.failed_at = r.meta.at
    if row.is_cancelled and phase != "cancelled":
        row.is_cancelled = False
    if row.is_paused:
        row.is_paused = False
        row.pause_requested_at = row.paused_at = None
        row.pause_reason = row.paused_by = row.checkpoint = ""


def _limit_text(timeout: str, limit_s: float) -> str:
    return f"the time limit {timeout} of {limit_s:g} s was reached"


def _add_output(row: Row, output: OutputSummary) -> None:
    if output.last_seq:
        row.output_last_seq = output.last_seq
        row.output_ends = (*row.output_ends, output.last_seq)
        row.output_chunks += output.chunks
        row.output_bytes += output.bytes


def _add_usage(row: Row, usage: Usage) -> None:
    row.input_tokens += usage.input_tokens
    row.output_tokens += usage.output_tokens
    row.cost_usd += usage.cost_usd
    row.model_used = usage.model or row.model_used
    row.provider = usage.provider or row.provider


def _cleaned(row: Row, recorded: Recorded) -> Row:
    """PostgreSQL's text and jsonb cannot hold the character U+0000: it is shown as U+FFFD. The event keeps it."""
    if b"\\u0000" in recorded.body:
        for name in row.__struct_fields__:
            setattr(row, name, _without_nul(getattr(row, name)))
    return row


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_nul(item) for item in value)
    return value


_CHANGES: Final[dict[type[e.Event], Callable[[Row, Any, Recorded], None]]] = {
    e.TaskWaiting: _waiting,
    e.DependencyAdded: _waiting,
    e.DependencyRemoved: _unchanged,
    e.DependencyEnded: _unchanged,
    e.TaskApprovalRequested: _waiting,
    e.TaskApprovalDecided: _unchanged,
    e.TaskApprovalExpired: _unchanged,
    e.WatcherAdded: _unchanged,
    e.WatchersTold: _unchanged,
    e.WebhooksDue: _unchanged,
    e.TaskScheduled: _scheduled,
    e.TaskQueued: _queued,
    e.AttemptAssigned: _assigned,
    e.AttemptDeclined: _declined,
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
    e.TaskDeleteRequested: _unchanged,
    e.TaskDeleted: _deleted,
    e.ReportIgnored: _unchanged,
    **OF_RUNS,
}
