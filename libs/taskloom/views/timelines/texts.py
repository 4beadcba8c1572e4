"""What an event says to people, in one line."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET

from taskloom.domain.task import events as e
from taskloom.domain.values import TaskSpec
from taskloom.views.timelines.workflows import WORKFLOW_TEXTS


def text_of(event: e.TaskEvent) -> str:
    """One line of plain English. Error texts are whole; cut them where the line must be short."""
    return _TEXTS[type(event)](event)


def _because(text: str) -> str:
    return f": {text}" if text else ""


def _processes(count: int) -> str:
    return {0: "the handler", 1: "1 process"}.get(count, f"{count} processes")


def _named(task_ids: tuple[str, ...]) -> str:
    more = f" and {len(task_ids) - 3} more" if len(task_ids) > 3 else ""
    return f"task{'s' if len(task_ids) > 1 else ''} {', '.join(task_ids[:3])}{more}"


def _titled(spec: TaskSpec) -> str:
    title, source = spec.name or spec.query[:100] or spec.kind, spec.forked_from
    return title if source is None else f"{title}, forked from {source.task_id} at version {source.version}"


def _queued(event: e.TaskQueued) -> str:
    return {
        "submitted": "Waiting for an executor",
        "dependencies": "What it depends on has ended; waiting for an executor",
        "run_at": "Its time has come; waiting for an executor",
        "retry": "Waiting for an executor to try again",
        "declined": "Waiting for another executor",
        "retried": "Waiting for an executor",
        "approved": "Waiting for an executor",
    }[event.reason]


def _progress(event: e.AttemptHeartbeat) -> str:
    percent = f"{event.progress:.0%}" if event.progress is not None else ""
    return " ".join(part for part in (percent, event.message) if part) or f"Attempt {event.attempt} is alive"


def _updated(event: e.TaskUpdated) -> str:
    names = [name for name in event.__struct_fields__ if name != "metadata_removed"]
    changed = [name for name in names if getattr(event, name) is not UNSET]
    removed = [f"metadata.{name} removed" for name in event.metadata_removed]
    return f"Changed: {', '.join(changed + removed)}"


def _cancelled(event: e.TaskCancelled) -> str:
    told = "" if event.confirmed else " (its executor was lost before it could confirm)"
    return f"Cancelled{told}{_because(event.reason)}"


_TEXTS: Final[dict[type[e.Event], Callable[[Any], str]]] = {
    e.TaskSubmitted: lambda event: f"Starting up: {_titled(event.spec)}",
    e.TaskWaiting: lambda event: f"Waits for {_named(event.depends_on)}",
    e.DependencyAdded: lambda event: f"Waits for task {event.dependency} too",
    e.DependencyRemoved: lambda event: f"Waits for task {event.dependency} no more",
    e.DependencyEnded: lambda event: f"Dependency {event.dependency} ended: {event.outcome}",
    e.TaskApprovalRequested: lambda event: f"Waits for approval{_because(event.message)}",
    e.TaskApprovalDecided: lambda event: (
        f"{'Approved' if event.approved else 'Rejected'} by {event.by or 'somebody'}{_because(event.comment)}"
    ),
    e.TaskApprovalExpired: lambda event: f"Nobody decided in time: {event.outcome}",
    e.WatcherAdded: lambda event: f"Task {event.watcher} waits for this one",
    e.WatchersTold: lambda event: f"{_named(event.watchers)} told of the end",
    e.WebhooksDue: lambda event: f"{len(event.webhooks)} webhook(s) called with {event.about}",
    e.TaskScheduled: lambda event: f"Scheduled for {event.run_at.isoformat()}",
    e.TaskQueued: _queued,
    e.AttemptAssigned: lambda event: f"Attempt {event.attempt} given to executor {event.executor_id}",
    e.AttemptDeclined: lambda event: (
        f"Executor {event.executor_id} handed attempt {event.attempt} back{_because(event.reason)}"
    ),
    e.AttemptStarted: lambda event: f"Attempt {event.attempt} started on executor {event.executor_id}",
    e.AttemptHeartbeat: _progress,
    e.OutputStarted: lambda event: f"Attempt {event.attempt} writes to {event.stream}",
    e.AttemptFailed: lambda event: f"Attempt {event.attempt} failed: {event.error.type}: {event.error.message}",
    e.AttemptTimedOut: lambda event: (
        f"Attempt {event.attempt} ran into its {event.timeout} limit of {event.limit_s:g} s"
    ),
    e.AttemptLost: lambda event: (
        f"Attempt {event.attempt} was lost with executor {event.executor_id}{_because(event.reason)}"
    ),
    e.RetryScheduled: lambda event: f"Attempt {event.next_attempt} follows in {event.delay_s:g} s",
    e.PauseRequested: lambda event: f"Pausing at the next checkpoint{_because(event.reason)}",
    e.TaskPaused: lambda event: f"Paused at checkpoint {event.checkpoint}" if event.checkpoint else "Paused",
    e.TaskResumed: lambda event: f"Resumed{_because(event.reason)}",
    e.CancelRequested: lambda event: f"Cancelling{_because(event.reason)}",
    e.CancelSignalled: lambda event: f"{event.signal} sent to {_processes(event.processes)}",
    e.CancelEscalated: lambda event: f"{event.signal} sent to {_processes(event.processes)}: the grace time was over",
    e.TaskCancelled: _cancelled,
    e.TaskCompleted: lambda event: event.result or "All done",
    e.TaskFailed: lambda event: f"Failed: {event.error.type}: {event.error.message}",
    e.TaskTimedOut: lambda event: f"Ended by its {event.timeout} limit of {event.limit_s:g} s",
    e.TaskOverdue: lambda event: f"The deadline {event.deadline.isoformat()} has passed; the task goes on",
    e.TaskRetried: lambda event: f"Retried{_because(event.reason)}",
    e.TaskUpdated: _updated,
    e.TaskDeleteRequested: lambda event: f"To be deleted with its end{_because(event.reason)}",
    e.TaskDeleted: lambda event: f"Deleted{_because(event.reason)}",
    **WORKFLOW_TEXTS,
    e.ReportIgnored: lambda event: f"Late {event.report} of attempt {event.attempt} ignored{_because(event.reason)}",
}
