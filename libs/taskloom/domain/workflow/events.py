"""Facts of a workflow run. They stand in the run's stream, among the events of its task.

``path`` tells which step in which round or item: ``build``, ``loop.3.check``, ``map.17``. Whatever was worked out from
data (a branch, items, an input) stands in the event, so that a replay evaluates nothing. What a body gives is the
exception: its results are those of its steps, and are put together again when the events are folded.
"""

from datetime import datetime
from typing import Any, Literal

from taskloom.domain.goals.events import AnyGoalEvent
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.event_base import StepEvent as StepEvent  # noqa: PLC0414 - part of this module's names
from taskloom.domain.workflow.event_base import WorkflowEvent as WorkflowEvent  # noqa: PLC0414


class WorkflowStarted(WorkflowEvent, frozen=True, tag="taskloom.workflow.started.v1"):
    """``due_at`` is when the run is over its time limit."""

    name: str
    definition_version: str
    steps: int
    due_at: datetime | None = None


class WorkflowRetried(WorkflowEvent, frozen=True, tag="taskloom.workflow.retried.v1"):
    """The run had ended and goes on (``restarting``), for the ``number``-th time: ``start`` failed keeps what was done,
    start begins with nothing. ``steps`` of the top level are not done, ``tolerated`` failed and are done all the same.
    ``due_at`` is the new time limit."""

    number: int
    start: Literal["failed", "start"] = "failed"
    steps: tuple[str, ...] = ()
    tolerated: int = 0
    due_at: datetime | None = None


class WorkflowPaused(WorkflowEvent, frozen=True, tag="taskloom.workflow.paused.v1"):
    """No further step starts; those that run go on."""

    reason: str = ""


class WorkflowResumed(WorkflowEvent, frozen=True, tag="taskloom.workflow.resumed.v1"):
    reason: str = ""


class WorkflowStopping(WorkflowEvent, frozen=True, tag="taskloom.workflow.stopping.v1"):
    """Nothing new starts and what runs is told to stop. ``why`` decides how the run ends."""

    why: Literal["cancelled", "timed_out", "failed"]
    reason: str = ""


class VariablesMerged(WorkflowEvent, frozen=True, tag="taskloom.workflow.variables-merged.v1"):
    """``path`` is the step whose result they came from; empty when a client set them."""

    values: dict[str, Any]
    path: str = ""


class SignalReceived(WorkflowEvent, frozen=True, tag="taskloom.workflow.signal-received.v1"):
    """The signal is kept until a step takes it."""

    name: str
    payload: Any = None


class CompensationStarted(WorkflowEvent, frozen=True, tag="taskloom.workflow.compensation-started.v1"):
    """``steps`` that had completed are undone, the last first."""

    steps: int


class FailureStepsStarted(WorkflowEvent, frozen=True, tag="taskloom.workflow.failure-steps-started.v1"):
    pass


class WorkflowCompleted(WorkflowEvent, frozen=True, tag="taskloom.workflow.completed.v1"):
    """``output`` is there when the definition has a template for it."""

    output: Any = None


class WorkflowFailed(WorkflowEvent, frozen=True, tag="taskloom.workflow.failed.v1"):
    """``path`` is the step whose failure it was; ``compensated`` counts the steps that were undone."""

    error: ErrorInfo
    path: str = ""
    compensated: int = 0


class WorkflowCancelled(WorkflowEvent, frozen=True, tag="taskloom.workflow.cancelled.v1"):
    reason: str = ""


class WorkflowTimedOut(WorkflowEvent, frozen=True, tag="taskloom.workflow.timed-out.v1"):
    limit_s: float


class StepScheduled(StepEvent, frozen=True, tag="taskloom.step.scheduled.v1"):
    """The step became a task of its own. ``submission`` holds the fields of that task, templates filled in;
    ``restart`` counts how often the run had been retried: it is part of that task's id."""

    submission: dict[str, Any]
    restart: int = 0


class StepRetried(StepEvent, frozen=True, tag="taskloom.step.retried.v1"):
    """The child workflow of the step, which had ended badly, goes on where it failed. ``restart`` tells which one."""

    restart: int = 0


class StepStarted(StepEvent, frozen=True, tag="taskloom.step.started.v1"):
    """A body of steps began: that of a parallel or sequential step, or of a map's item. ``steps`` are in it."""

    steps: int = 0


class BranchTaken(StepEvent, frozen=True, tag="taskloom.step.branch-taken.v1"):
    """``steps`` are in the branch."""

    value: bool
    steps: int = 0


class LoopRound(StepEvent, frozen=True, tag="taskloom.step.loop-round.v1"):
    """Before round ``n`` (from 1) the condition was looked at: the round begins, or the loop is over. There are at most
    ``limit`` rounds."""

    n: int
    condition: bool
    limit: int = 0


class MapExpanded(StepEvent, frozen=True, tag="taskloom.step.map-expanded.v1"):
    """``items`` from number ``offset`` of ``total``; a long list comes in several events, none of them too large."""

    offset: int
    total: int
    items: list[Any]


class WaitStarted(StepEvent, frozen=True, tag="taskloom.step.wait-started.v1"):
    """For a time, or, with ``condition``, until that holds and at most until ``due_at``."""

    due_at: datetime | None = None
    condition: bool = False


class SignalAwaited(StepEvent, frozen=True, tag="taskloom.step.signal-awaited.v1"):
    name: str
    due_at: datetime | None = None


class SignalDelivered(StepEvent, frozen=True, tag="taskloom.step.signal-delivered.v1"):
    """The step took the oldest kept signal of that name."""

    name: str


class ApprovalRequested(StepEvent, frozen=True, tag="taskloom.step.approval-requested.v1"):
    message: str = ""
    approvers: tuple[str, ...] = ()
    due_at: datetime | None = None


class ApprovalDecided(StepEvent, frozen=True, tag="taskloom.step.approval-decided.v1"):
    approved: bool
    by: str = ""
    comment: str = ""
    modified_action: Any = None
    on_behalf_of: str = ""


class ApprovalExpired(StepEvent, frozen=True, tag="taskloom.step.approval-expired.v1"):
    outcome: Literal["fail", "approve", "reject"] = "fail"


class CheckpointSaved(StepEvent, frozen=True, tag="taskloom.step.checkpoint-saved.v1"):
    """The state after this event is the checkpoint: ``results.checkpoint`` of the history folded this far."""


class StepCompleted(StepEvent, frozen=True, tag="taskloom.step.completed.v1"):
    """``result`` stays null for a step with bodies: its result is put together from theirs."""

    result: Any = None


class StepFailed(StepEvent, frozen=True, tag="taskloom.step.failed.v1"):
    """``handled``: the workflow goes on all the same. ``refused``: there is no task of the step to go on with.
    ``begun``: it had begun when it failed."""

    error: ErrorInfo
    handled: bool = False
    refused: bool = False
    begun: bool = True


class StepSkipped(StepEvent, frozen=True, tag="taskloom.step.skipped.v1"):
    reason: str


class StepCancelRequested(StepEvent, frozen=True, tag="taskloom.step.cancel-requested.v1"):
    """``restart`` is that of the task's submission."""

    reason: str = ""
    restart: int = 0


class StepCancelled(StepEvent, frozen=True, tag="taskloom.step.cancelled.v1"):
    reason: str = ""


class StepStopping(StepEvent, frozen=True, tag="taskloom.step.stopping.v1"):
    """A failure within the step stops the rest of it."""

    reason: str = ""


class StepRestored(StepEvent, frozen=True, tag="taskloom.step.restored.v1"):
    """The step had completed in the run whose checkpoint this one started from."""

    result: Any = None


class StepCompensating(StepEvent, frozen=True, tag="taskloom.step.compensating.v1"):
    """The compensation of ``path`` began; its steps run at ``<path>.undo``."""


class StepCompensated(StepEvent, frozen=True, tag="taskloom.step.compensated.v1"):
    """``error``: undoing it failed; the others are undone all the same."""

    error: ErrorInfo | None = None


AnyWorkflowEvent = (
    WorkflowStarted
    | WorkflowRetried
    | WorkflowPaused
    | WorkflowResumed
    | WorkflowStopping
    | VariablesMerged
    | SignalReceived
    | CompensationStarted
    | FailureStepsStarted
    | WorkflowCompleted
    | WorkflowFailed
    | WorkflowCancelled
    | WorkflowTimedOut
    | StepScheduled
    | StepRetried
    | StepStarted
    | BranchTaken
    | LoopRound
    | MapExpanded
    | WaitStarted
    | SignalAwaited
    | SignalDelivered
    | ApprovalRequested
    | ApprovalDecided
    | ApprovalExpired
    | CheckpointSaved
    | StepCompleted
    | StepFailed
    | StepSkipped
    | StepCancelRequested
    | StepCancelled
    | StepStopping
    | StepRestored
    | StepCompensating
    | StepCompensated
    | AnyGoalEvent
)

WORKFLOW_ENDS = (WorkflowCompleted, WorkflowFailed, WorkflowCancelled, WorkflowTimedOut)
