"""Wishes of clients, the scheduler and executors. A command may be refused; who sent it stands in its envelope.

The JSON of a client command is also the body of the matching REST call, so both doors take the same fields.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from taskloom.domain.values import (
    Affinity,
    Approval,
    Budget,
    Concurrency,
    DependencyOutcome,
    DependencyPolicy,
    Description,
    ErrorInfo,
    Fork,
    ForkedFrom,
    Identifier,
    OutputSummary,
    Resources,
    ResourceUse,
    Retry,
    Stream,
    Text256,
    TimeoutKind,
    Timeouts,
    Usage,
    UtcTime,
)

Reason = Annotated[str, Meta(max_length=4096)]
Attempt = Annotated[int, Meta(ge=1)]
ChildOutcome = Literal["completed", "failed", "cancelled", "timed_out", "refused"]
RunStart = Literal["failed", "start"]
GraceSeconds = Annotated[float, Meta(ge=0, le=3600)]


class Command(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all task commands; unknown fields are refused, so that a typing error is not silently lost."""


# What clients wish.


class SubmitTask(Command, frozen=True, tag="taskloom.task.submit.v1"):
    """A submission as sent (spec/shannon-api.md 3.2 and spec/extensions.md); ``submission.normalise`` validates it.

    ``fails_with``: the task is recorded and fails at once. Only a gateway may say so, of what cannot be run. ``fork``:
    it is made of another task, which its owner looks up; then it has ``forked_from`` instead, and all other fields.
    """

    query: str = ""
    session_id: Identifier | None = None
    context: dict[str, Any] = {}
    mode: str = ""
    model_tier: str = ""
    model_override: str = ""
    provider_override: str = ""
    research_strategy: str = ""
    max_iterations: Annotated[int, Meta(ge=1, le=50)] | None = None
    max_concurrent_agents: Annotated[int, Meta(ge=1, le=20)] | None = None
    enable_verification: bool | None = None
    skill: str = ""
    task_id: Identifier | None = None
    kind: Annotated[str, Meta(max_length=128)] = ""
    input: dict[str, Any] = {}
    name: Text256 = ""
    tags: Annotated[tuple[Text256, ...], Meta(max_length=100)] = ()
    metadata: dict[str, Any] = {}
    queue: Identifier = "default"
    priority: int | str = 2
    run_at: UtcTime | None = None
    deadline: UtcTime | None = None
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = None
    executor_id: Identifier | None = None
    capabilities: Annotated[tuple[Text256, ...], Meta(max_length=100)] = ()
    labels: dict[str, str] = {}
    resources: Resources = Resources()
    concurrency: Concurrency | None = None
    budget: Budget | None = None
    affinity: Affinity | None = None
    callback_url: Annotated[str, Meta(max_length=2048)] = ""
    depends_on: Annotated[tuple[Identifier, ...], Meta(max_length=1000)] = ()
    on_dependency_failure: DependencyPolicy = "fail"
    description: Description = ""
    approval: Approval | None = None
    fails_with: ErrorInfo | None = None
    fork: Fork | None = None
    forked_from: ForkedFrom | None = None


class CancelTask(Command, frozen=True, tag="taskloom.task.cancel.v1"):
    """``grace_s``: how long the attempt has between the first signal and SIGKILL."""

    reason: Reason = ""
    grace_s: GraceSeconds = 5.0


class PauseTask(Command, frozen=True, tag="taskloom.task.pause.v1"):
    reason: Reason = ""


class ResumeTask(Command, frozen=True, tag="taskloom.task.resume.v1"):
    reason: Reason = ""


class RetryTask(Command, frozen=True, tag="taskloom.task.retry.v1"):
    """A task that failed, timed out or was cancelled goes back to its queue, its failures counted anew. ``from`` is for
    workflows: ``failed`` goes on where the run failed, with what completed as it is; ``start`` begins with nothing."""

    reason: Reason = ""
    start: RunStart = field(default="failed", name="from")


class UpdateTask(Command, frozen=True, tag="taskloom.task.update.v1"):
    """What is named changes. ``assigned_to`` is the executor it has to run on, null frees it; ``metadata`` is merged,
    null removes a key; ``deadline`` null is none. An ended task takes name, description, tags and metadata only."""

    name: Text256 | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    priority: int | str | UnsetType = UNSET
    assigned_to: Identifier | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    deadline: UtcTime | UnsetType | None = UNSET
    tags: Annotated[tuple[Text256, ...], Meta(max_length=100)] | UnsetType = UNSET
    queue: Identifier | UnsetType = UNSET


class DeleteTask(Command, frozen=True, tag="taskloom.task.delete.v1"):
    """Takes the task out of all lists; its events stay. An open one is cancelled first, with ``grace_s`` as there."""

    reason: Reason = ""
    grace_s: GraceSeconds = 5.0


class AddDependency(Command, frozen=True, tag="taskloom.task.add-dependency.v1"):
    """The task shall wait for one more task; refused once it was handed to an executor."""

    dependency: Identifier


class RemoveDependency(Command, frozen=True, tag="taskloom.task.remove-dependency.v1"):
    dependency: Identifier


class RecallTask(Command, frozen=True, tag="taskloom.task.recall.v1"):
    """An attempt that waits in the reserve of a full executor shall go to one that has a free slot.

    The owner of the task's partition decides; what has started, or would find no better place, stays.
    """


class ExplainTask(Command, frozen=True, tag="taskloom.task.explain.v1"):
    """Asks which gate holds the task; answered by the owner of its partition, changes nothing."""


class SignalTask(Command, frozen=True, tag="taskloom.task.signal.v1"):
    """A signal for a workflow; it is kept until a step takes it."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    payload: Any = None


class DecideApproval(Command, frozen=True, tag="taskloom.task.decide-approval.v1"):
    """A decision on an approval. ``step``: the approval's id; of a workflow's step also its path, or its id where only
    one of that id waits. ``modified_action``: what is to be done instead, for who asked. ``on_behalf_of``: for whom the
    sender decides, who has to be an approver."""

    step: Annotated[str, Meta(min_length=1, max_length=1024)]
    approved: bool
    comment: Reason = ""
    modified_action: Any = None
    on_behalf_of: Text256 = ""


class PatchVariables(Command, frozen=True, tag="taskloom.task.patch-variables.v1"):
    """Sets variables of a workflow that runs; those that are not named stay."""

    values: dict[str, Any]


# What the scheduler and the clock wish.


class AssignAttempt(Command, frozen=True, tag="taskloom.attempt.assign.v1"):
    executor_id: str
    incarnation: str


class LoseAttempt(Command, frozen=True, tag="taskloom.attempt.lose.v1"):
    attempt: Attempt
    reason: str


class FireTimers(Command, frozen=True, tag="taskloom.task.fire-timers.v1"):
    """Whatever of this task is due now happens; nothing when nothing is due."""


class BreakRun(Command, frozen=True, tag="taskloom.workflow.break.v1"):
    """A workflow that cannot go on fails as it stands. The orchestrator's own wish; it never travels."""

    error: ErrorInfo


# What tasks tell each other.


class WatchTask(Command, frozen=True, tag="taskloom.task.watch.v1"):
    """``watcher``, a task or an entity, wants to be told of this task's end (``NoteDependency``, ``NoteRun``)."""

    watcher: Annotated[str, Meta(pattern=r"^[A-Za-z0-9:_\-.@/]{1,400}(?!\n)$")]


class NoteDependency(Command, frozen=True, tag="taskloom.task.note-dependency.v1"):
    """A task that this one waits for has ended, or does not exist."""

    dependency: Identifier
    outcome: DependencyOutcome


class RetryChild(Command, frozen=True, tag="taskloom.workflow.retry-child.v1"):
    """This child workflow goes on where it failed, since the run around it does; from its start, when steps of it were
    undone."""


class NoteChild(Command, frozen=True, tag="taskloom.task.note-child.v1"):
    """The task of the step at ``path`` of this run has ended. It never travels: both have one owner. ``restart`` stands
    in that task's id. ``text`` is what it has to say to people beside its structured ``result``."""

    path: str
    outcome: ChildOutcome
    result: Any = None
    error: ErrorInfo | None = None
    restart: int = 0
    text: str = ""


# What executors report.


class ReportStarted(Command, frozen=True, tag="taskloom.attempt.report-started.v1"):
    attempt: Attempt
    executor_id: str
    pid: int = 0


class ReportDeclined(Command, frozen=True, tag="taskloom.attempt.report-declined.v1"):
    attempt: Attempt
    executor_id: str
    reason: str = ""


class ReportHeartbeat(Command, frozen=True, tag="taskloom.attempt.report-heartbeat.v1"):
    attempt: Attempt
    executor_id: str
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    message: Reason = ""
    details: dict[str, Any] = {}


class ReportOutputStarted(Command, frozen=True, tag="taskloom.attempt.report-output-started.v1"):
    attempt: Attempt
    executor_id: str
    stream: Stream = "stdout"


class ReportCompleted(Command, frozen=True, tag="taskloom.attempt.report-completed.v1"):
    attempt: Attempt
    executor_id: str
    result: str = ""
    response: Any = None
    exit_code: int | None = None
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()
    usage: Usage = Usage()


class ReportFailed(Command, frozen=True, tag="taskloom.attempt.report-failed.v1"):
    attempt: Attempt
    executor_id: str
    error: ErrorInfo
    exit_code: int | None = None
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()
    usage: Usage = Usage()


class ReportTimedOut(Command, frozen=True, tag="taskloom.attempt.report-timed-out.v1"):
    """The executor stopped the attempt at its limit; nothing of it runs any more."""

    attempt: Attempt
    executor_id: str
    timeout: TimeoutKind
    limit_s: float
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()


class ReportPaused(Command, frozen=True, tag="taskloom.attempt.report-paused.v1"):
    attempt: Attempt
    executor_id: str
    checkpoint: str = ""


class ReportStopSignalled(Command, frozen=True, tag="taskloom.attempt.report-stop-signalled.v1"):
    """Sent at each step of a stop: ``stage`` signalled (SIGTERM), then escalated (SIGKILL)."""

    attempt: Attempt
    executor_id: str
    stage: Literal["signalled", "escalated"]
    signal: str
    processes: int = 0


class ReportStopped(Command, frozen=True, tag="taskloom.attempt.report-stopped.v1"):
    """The attempt was stopped on request and its process group is empty."""

    attempt: Attempt
    executor_id: str
    exit_code: int | None = None
    output: OutputSummary = OutputSummary()
    resources: ResourceUse = ResourceUse()


ClientCommand = (
    SubmitTask
    | CancelTask
    | PauseTask
    | ResumeTask
    | RetryTask
    | UpdateTask
    | DeleteTask
    | AddDependency
    | RemoveDependency
    | RecallTask
    | ExplainTask
    | SignalTask
    | DecideApproval
    | PatchVariables
)
PeerCommand = WatchTask | NoteDependency | NoteChild | RetryChild
Report = (
    ReportStarted
    | ReportDeclined
    | ReportHeartbeat
    | ReportOutputStarted
    | ReportCompleted
    | ReportFailed
    | ReportTimedOut
    | ReportPaused
    | ReportStopSignalled
    | ReportStopped
)
TaskCommand = ClientCommand | PeerCommand | AssignAttempt | LoseAttempt | FireTimers | BreakRun | Report
