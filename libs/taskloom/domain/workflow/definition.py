"""The JSON of a workflow definition. Unknown fields are refused; ``check.validate`` says what else is wrong."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from taskloom.domain.values import Seconds, Text256
from taskloom.domain.workflow.conditions import AnyCondition
from taskloom.domain.workflow.references import Named

MAX_STEPS: Final = 2_000
"""Steps of one definition, those in bodies counted too."""

MAX_DEPTH: Final = 12
"""Bodies within bodies."""

MAX_ROUNDS: Final = 100_000
MAX_MAP_ITEMS: Final = 100_000
MAX_PARALLEL: Final = 10_000

StepId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_\-:]{1,64}(?!\n)$")]
"""No dot and no tilde: they join the parts of a path, and a run with its path."""

Parallel = Annotated[int, Meta(ge=1, le=MAX_PARALLEL)]
Delay = Annotated[float, Meta(ge=0, le=366 * 86_400)] | str
"""Seconds, or an expression that gives them."""

Template = dict[str, Any]
"""Fields of a submission (spec/extensions.md); any text in it may hold ``{{ expressions }}``."""


class StepBase(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="step_type"):
    """What every kind of step has. ``depends_on`` holds ids or names of steps in the same body.

    ``on_failure``: ``fail`` fails the body it is in, ``continue`` goes on as if it had completed, ``compensate`` stops
    the workflow and undoes what was done. ``compensation`` undoes this step once it has completed.
    """

    id: StepId
    name: Text256 = ""
    description: str = ""
    depends_on: tuple[Text256, ...] = ()
    on_failure: Literal["fail", "continue", "compensate"] = "fail"
    compensation: "tuple[Step, ...]" = ()
    metadata: dict[str, Any] = {}


class TaskStep(StepBase, frozen=True, tag="task"):
    """One task. ``result.variables`` of its result are merged into the workflow's variables."""

    task_template: Template = field(default_factory=dict)


class ParallelStep(StepBase, frozen=True, tag="parallel"):
    """``fail_fast``: the first failure stops the others, otherwise they end first."""

    sub_steps: "tuple[Step, ...]" = ()
    fail_fast: bool = False


class SequentialStep(StepBase, frozen=True, tag="sequential"):
    sub_steps: "tuple[Step, ...]" = ()


class ConditionalStep(StepBase, frozen=True, tag="conditional", kw_only=True):
    condition: AnyCondition
    true_steps: "tuple[Step, ...]" = ()
    false_steps: "tuple[Step, ...]" = ()


class LoopStep(StepBase, frozen=True, tag="loop"):
    """Rounds while the condition holds, at most ``max_iterations`` (100). Without a condition that limit must be given.

    ``until_condition`` is looked at after each round, never before the first, and ends the loop when it holds; so it
    may name results of the round. The result lists the last 100 rounds.
    """

    loop_condition: AnyCondition | None = None
    loop_steps: "tuple[Step, ...]" = ()
    max_iterations: Annotated[int, Meta(ge=1, le=MAX_ROUNDS)] | None = None
    until_condition: AnyCondition | None = None


class WaitStep(StepBase, frozen=True, tag="wait"):
    """Waits for a time, or until a condition holds (looked at whenever variables or results change)."""

    wait_seconds: Delay | None = None
    wait_condition: AnyCondition | None = None
    timeout_seconds: Seconds | None = None
    on_timeout: Literal["fail", "continue"] = "fail"


class MapStep(StepBase, frozen=True, tag="map", kw_only=True):
    """One task (``task_template``) or one body (``map_steps``) for each item, where ``item`` and ``index`` name it.

    ``items`` is a list or an expression that gives one. ``max_parallel`` items run at once. A failed item fails the
    step, at the end or at once (``fail_fast``), unless ``allow_failures``.
    """

    items: list[Any] | str
    task_template: Template | None = None
    map_steps: "tuple[Step, ...]" = ()
    max_parallel: Parallel | None = None
    fail_fast: bool = False
    allow_failures: bool = False


class ChildStep(StepBase, frozen=True, tag="child", kw_only=True):
    """A workflow of its own, as a child task: the one in ``definition``, or the stored one that ``workflow`` names. Its
    variables start from ``variables`` and do not flow back by themselves; its result is ``{variables, results}``."""

    definition: dict[str, Any] | None = None
    workflow: Named | None = None
    variables: dict[str, Any] = {}
    context: dict[str, Any] = {}


class ApprovalStep(StepBase, frozen=True, tag="approval"):
    """Holds until somebody decides. A rejection fails the step, or completes it with ``approved`` false."""

    message: str = ""
    approvers: tuple[Text256, ...] = ()
    timeout_seconds: Seconds | None = None
    on_timeout: Literal["fail", "approve", "reject"] = "fail"
    on_reject: Literal["fail", "continue"] = "fail"


class SignalStep(StepBase, frozen=True, tag="signal", kw_only=True):
    """Waits for a signal; one that came before is kept. The payload is the result, its ``variables`` are merged."""

    signal: Annotated[str, Meta(min_length=1, max_length=256)]
    timeout_seconds: Seconds | None = None
    on_timeout: Literal["fail", "continue"] = "fail"


class GoalStep(StepBase, frozen=True, tag="goal", kw_only=True):
    """An act of a goal on how the step ``of`` in the same body ended. It stands only in the definition that a goal is
    given when it is submitted."""

    act: Literal["plan", "detect", "review", "begin", "calls", "results", "end", "summary", "settle"]
    of: str = ""


class CheckpointStep(StepBase, frozen=True, tag="checkpoint"):
    """Marks a state from which a new run can start."""


Step = (
    TaskStep
    | ParallelStep
    | SequentialStep
    | ConditionalStep
    | LoopStep
    | WaitStep
    | MapStep
    | ChildStep
    | ApprovalStep
    | SignalStep
    | CheckpointStep
    | GoalStep
)
KINDS: Final = (
    *("task", "parallel", "sequential", "conditional", "loop", "wait"),
    *("map", "child", "approval", "signal", "checkpoint"),
)


class Definition(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A workflow. Steps without dependencies start at once, at most ``max_parallel_tasks`` tasks run together.

    ``on_failure`` compensate: a failed workflow undoes its completed steps, last first. ``failure_steps`` run when it
    has failed, before it ends. ``output`` is a template for the result; without it that is
    ``{"variables": …, "results": {step id: result}}``.
    """

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    steps: tuple[Step, ...]
    id: Text256 = ""
    description: str = ""
    version: Text256 = "1.0"
    context: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    max_parallel_tasks: Parallel = 10
    timeout_seconds: Seconds | None = None
    fail_fast: bool = False
    on_failure: Literal["fail", "compensate"] = "fail"
    failure_steps: tuple[Step, ...] = ()
    output: Any = None
    metadata: dict[str, Any] = {}
    tags: tuple[Text256, ...] = ()
    created_by: Text256 = ""


def bodies(step: Step) -> tuple[tuple[str, tuple[Step, ...]], ...]:
    """The bodies of a step as (name of the field, steps), its compensation last."""
    return tuple((name, getattr(step, name)) for name in (*_BODIES.get(type(step), ()), "compensation"))


_BODIES: Final[dict[type[StepBase], tuple[str, ...]]] = {
    ParallelStep: ("sub_steps",),
    SequentialStep: ("sub_steps",),
    ConditionalStep: ("true_steps", "false_steps"),
    LoopStep: ("loop_steps",),
    MapStep: ("map_steps",),
}
