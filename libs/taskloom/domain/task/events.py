"""Facts of a task's life, in the order they can happen. Stored and published under their public names (``tag``).

An event holds only what its envelope (``wire.recorded``) does not: no task id, version, time or command id.
"""

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from taskloom.domain.event import Event as Event  # noqa: PLC0414 - part of this module's names
from taskloom.domain.values import (
    DependencyOutcome,
    ErrorInfo,
    OutputSummary,
    ResourceUse,
    Stream,
    TaskSpec,
    TimeoutKind,
    Usage,
)
from taskloom.domain.workflow.events import AnyWorkflowEvent

QueueReason = Literal["submitted", "dependencies", "run_at", "retry", "declined", "retried", "approved"]


class TaskSubmitted(Event, frozen=True, tag="taskloom.task.submitted.v1"):
    """``body_hash`` tells the same submission sent twice from another one under the same id."""

    spec: TaskSpec
    body_hash: str
    correlation_id: str = ""
    traceparent: str = ""


class TaskWaiting(Event, frozen=True, tag="taskloom.task.waiting.v1"):
    """The task waits until these tasks have ended."""

    depends_on: tuple[str, ...]


class DependencyAdded(Event, frozen=True, tag="taskloom.task.dependency-added.v1"):
    dependency: str


class DependencyRemoved(Event, frozen=True, tag="taskloom.task.dependency-removed.v1"):
    dependency: str


class DependencyEnded(Event, frozen=True, tag="taskloom.task.dependency-ended.v1"):
    dependency: str
    outcome: DependencyOutcome


class TaskApprovalRequested(Event, frozen=True, tag="taskloom.task.approval-requested.v1"):
    """The task waits for a decision; ``number`` counts how often it asked, from 1."""

    number: int
    message: str = ""
    approvers: tuple[str, ...] = ()
    due_at: datetime | None = None


class TaskApprovalDecided(Event, frozen=True, tag="taskloom.task.approval-decided.v1"):
    """``by`` has decided, maybe in the name of ``on_behalf_of``."""

    number: int
    approved: bool
    by: str = ""
    comment: str = ""
    modified_action: Any = None
    on_behalf_of: str = ""


class TaskApprovalExpired(Event, frozen=True, tag="taskloom.task.approval-expired.v1"):
    """Nobody has decided in time, and ``outcome`` follows."""

    number: int
    outcome: Literal["fail", "approve", "reject"] = "fail"


class WatcherAdded(Event, frozen=True, tag="taskloom.task.watcher-added.v1"):
    """Another task waits for this one; ``outcome`` is set when this one had ended before."""

    watcher: str
    outcome: DependencyOutcome | None = None


class WatchersTold(Event, frozen=True, tag="taskloom.task.watchers-told.v1"):
    """This task ends with the next event, and these tasks are told."""

    watchers: tuple[str, ...]
    outcome: DependencyOutcome


class WebhookCalled(Struct, frozen=True, omit_defaults=True):
    """Where a delivery goes. ``serial`` names the secret that signs it."""

    name: str
    url: str
    serial: int = 1


class WebhooksDue(Event, frozen=True, tag="taskloom.task.webhooks-due.v1"):
    """This task ends with the next event, and these are told, with ``about`` and ``data``. ``after``: its version
    so far."""

    webhooks: tuple[WebhookCalled, ...]
    about: str
    ended_at: datetime
    data: dict[str, Any]
    after: int = 0


class TaskScheduled(Event, frozen=True, tag="taskloom.task.scheduled.v1"):
    run_at: datetime


class TaskQueued(Event, frozen=True, tag="taskloom.task.queued.v1"):
    reason: QueueReason = "submitted"


class AttemptAssigned(Event, frozen=True, tag="taskloom.attempt.assigned.v1"):
    """``incarnation`` is one start of that executor's process: a restarted executor never runs an old assignment."""

    attempt: int
    executor_id: str
    incarnation: str


class AttemptDeclined(Event, frozen=True, tag="taskloom.attempt.declined.v1"):
    """The executor handed the attempt back unstarted; it does not count against ``retry.max_attempts``."""

    attempt: int
    executor_id: str
    reason: str = ""


class AttemptStarted(Event, frozen=True, tag="taskloom.attempt.started.v1"):
    attempt: int
    executor_id: str
    pid: int = 0


class AttemptHeartbeat(Event, frozen=True, tag="taskloom.attempt.heartbeat.v1"):
    """A sign of life from the handler; ``progress`` is 0.0 to 1.0 where it is known."""

    attempt: int
    progress: float | None = None
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class OutputStarted(Event, frozen=True, tag="taskloom.attempt.output-started.v1"):
    """The attempt wrote its first output; the chunks themselves are on the outputs topic."""

    attempt: int
    stream: Stream = "stdout"


class AttemptFailed(Event, frozen=True, tag="taskloom.attempt.failed.v1"):
    attempt: int
    error: ErrorInfo
    exit_code: int | None = None
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()
    usage: Usage = Usage()


class AttemptTimedOut(Event, frozen=True, tag="taskloom.attempt.timed-out.v1"):
    """``confirmed``: the executor reported that nothing of the attempt runs any more."""

    attempt: int
    timeout: TimeoutKind
    limit_s: float
    confirmed: bool = False
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()


class AttemptLost(Event, frozen=True, tag="taskloom.attempt.lost.v1"):
    attempt: int
    executor_id: str
    reason: str


class RetryScheduled(Event, frozen=True, tag="taskloom.task.retry-scheduled.v1"):
    """``next_attempt`` will be queued at ``due_at``; ``reason`` is the error's type."""

    next_attempt: int
    due_at: datetime
    delay_s: float
    reason: str = ""


class PauseRequested(Event, frozen=True, tag="taskloom.task.pause-requested.v1"):
    reason: str = ""


class TaskPaused(Event, frozen=True, tag="taskloom.task.paused.v1"):
    """The task holds: at ``checkpoint`` of its running attempt, or before dispatch when ``checkpoint`` is empty."""

    checkpoint: str = ""


class TaskResumed(Event, frozen=True, tag="taskloom.task.resumed.v1"):
    reason: str = ""


class CancelRequested(Event, frozen=True, tag="taskloom.task.cancel-requested.v1"):
    reason: str = ""
    grace_s: float = 5.0


class CancelSignalled(Event, frozen=True, tag="taskloom.task.cancel-signalled.v1"):
    """``signal`` went to the attempt's process group of ``processes`` processes (0: an in-process handler)."""

    attempt: int
    signal: str = "SIGTERM"
    processes: int = 0


class CancelEscalated(Event, frozen=True, tag="taskloom.task.cancel-escalated.v1"):
    attempt: int
    signal: str = "SIGKILL"
    processes: int = 0


class TaskCancelled(Event, frozen=True, tag="taskloom.task.cancelled.v1"):
    """``confirmed``: nothing of the task runs any more; False when its executor was lost before it could say so."""

    attempt: int = 0
    confirmed: bool = True
    was_paused: bool = False
    reason: str = ""
    exit_code: int | None = None
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()


class TaskCompleted(Event, frozen=True, tag="taskloom.task.completed.v1"):
    """``result`` is text for people, ``response`` the structured value; either may be a claim."""

    attempt: int
    result: str = ""
    response: Any = None
    exit_code: int | None = None
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()
    usage: Usage = Usage()


class TaskFailed(Event, frozen=True, tag="taskloom.task.failed.v1"):
    error: ErrorInfo
    attempt: int = 0


class TaskTimedOut(Event, frozen=True, tag="taskloom.task.timed-out.v1"):
    timeout: TimeoutKind
    limit_s: float
    attempt: int = 0


class TaskOverdue(Event, frozen=True, tag="taskloom.task.overdue.v1"):
    """The deadline passed while the task was open; the task goes on."""

    deadline: datetime


class TaskRetried(Event, frozen=True, tag="taskloom.task.retried.v1"):
    """The task had ended and begins anew: its failures are counted from zero, its attempts are numbered on."""

    reason: str = ""


class TaskUpdated(Event, frozen=True, tag="taskloom.task.updated.v1"):
    """Only what changed is set. ``executor_id`` "" stands for any, ``deadline`` null for none; of the metadata there
    are the keys with a new value, and in ``metadata_removed`` those that are gone."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    executor_id: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    metadata_removed: tuple[str, ...] = ()
    deadline: datetime | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    queue: str | UnsetType = UNSET


class TaskDeleteRequested(Event, frozen=True, tag="taskloom.task.delete-requested.v1"):
    """The task is open: it is cancelled, and deleted with its end."""

    reason: str = ""


class TaskDeleted(Event, frozen=True, tag="taskloom.task.deleted.v1"):
    """The task has ended and is no longer shown or counted; its events stay."""

    reason: str = ""


class ReportIgnored(Event, frozen=True, tag="taskloom.attempt.report-ignored.v1"):
    """A late report of a superseded attempt, or of an ended task: recorded, never applied."""

    attempt: int
    report: str
    executor_id: str = ""
    reason: str = ""


TaskEvent = (
    TaskSubmitted
    | TaskWaiting
    | DependencyAdded
    | DependencyRemoved
    | DependencyEnded
    | TaskApprovalRequested
    | TaskApprovalDecided
    | TaskApprovalExpired
    | WatcherAdded
    | WatchersTold
    | WebhooksDue
    | TaskScheduled
    | TaskQueued
    | AttemptAssigned
    | AttemptDeclined
    | AttemptStarted
    | AttemptHeartbeat
    | OutputStarted
    | AttemptFailed
    | AttemptTimedOut
    | AttemptLost
    | RetryScheduled
    | PauseRequested
    | TaskPaused
    | TaskResumed
    | CancelRequested
    | CancelSignalled
    | CancelEscalated
    | TaskCancelled
    | TaskCompleted
    | TaskFailed
    | TaskTimedOut
    | TaskOverdue
    | TaskRetried
    | TaskUpdated
    | TaskDeleteRequested
    | TaskDeleted
    | ReportIgnored
    | AnyWorkflowEvent
)

TERMINAL_EVENTS = (TaskCompleted, TaskFailed, TaskTimedOut, TaskCancelled)
AFTER_END_EVENTS = (ReportIgnored, WatcherAdded, TaskUpdated, TaskDeleted)
"""What can follow an end without taking it back, as ``TaskRetried`` does."""
