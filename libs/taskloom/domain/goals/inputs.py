"""The input of a task of kind ``goal``."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from taskloom.domain.values import Budget, Identifier, Seconds

MAX_DEPTH: Final = 3
"""Sub-goals within each other."""

DEFAULT_QUEUE: Final = "default"

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class ServerTools(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which tools of a server a goal may use: null for all that it has. ``idempotent`` ones may be called again when
    nobody knows whether a call was made."""

    tools: tuple[Name, ...] | None = None
    idempotent: tuple[Name, ...] = ()


class ModelChoice(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    provider: str = ""
    model: str = ""
    tier: Literal["", "small", "medium", "large"] = ""


class Message(Struct, frozen=True, omit_defaults=True):
    role: str
    content: str


class SavedResult(Struct, frozen=True, rename={"tool_name": "toolName"}):
    tool_name: str
    result: Any = None


class SavedContext(Struct, frozen=True, rename="camel"):
    """What a goal had found, as its checkpoint has it."""

    summary: str = ""
    findings: dict[str, str] = {}
    tool_results: tuple[SavedResult, ...] = ()
    message_history: tuple[Message, ...] = ()


class SavedGoal(Struct, frozen=True):
    """``steps`` are those of its plan that were left."""

    context: SavedContext = SavedContext()
    steps: list[Any] = []


class Saved(Struct, frozen=True):
    """The part of a run's checkpoint (``workflow.results.checkpoint``) that a goal can start from."""

    goal: SavedGoal = SavedGoal()


class GoalInput(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a goal needs to know; all but ``goal`` has a default.

    ``agent_id``: the executor that shell commands run on. ``review``: somebody decides on each plan before it runs.
    ``detect``: the model is asked first whether the goal needs a plan of several steps at all. ``steps`` is a plan
    given beforehand. ``context_window`` are tokens; over ``summarize_at`` of them what was found is summed up.
    ``timeout_s``: how long the goal may take in all. ``checkpoint`` is that of another goal, which this one goes on
    from: with what it had found, and the rest of its plan. ``budget``, ``queue`` and ``definition`` are filled in at
    submission: all that a goal does waits in its own queue, but for what an agent does.
    """

    goal: Annotated[str, Meta(min_length=1, max_length=100_000)]
    model: ModelChoice = ModelChoice()
    tools: dict[Name, ServerTools] = {}
    agent_id: Identifier | Literal[""] = ""
    review: bool = False
    detect: bool = False
    steps: list[Any] | None = None
    max_steps: Annotated[int, Meta(ge=1, le=100)] = 50
    max_plans: Annotated[int, Meta(ge=1, le=10)] = 3
    max_tool_rounds: Annotated[int, Meta(ge=1, le=10)] = 5
    checkpoint_interval: Annotated[int, Meta(ge=1, le=100)] = 5
    context_window: Annotated[int, Meta(ge=1_000, le=10_000_000)] = 100_000
    summarize_at: Annotated[float, Meta(gt=0, le=1)] = 0.8
    history: Annotated[tuple[Message, ...], Meta(max_length=1_000)] = ()
    mentions: list[Any] = []
    depth: Annotated[int, Meta(ge=0, le=MAX_DEPTH)] = 0
    timeout_s: Seconds | None = None
    checkpoint: Saved | None = None
    budget: Budget | None = None
    queue: Identifier = DEFAULT_QUEUE
    definition: dict[str, Any] | None = None

    @property
    def beforehand(self) -> list[Any] | None:
        """The plan that the goal begins with; None when a model makes it."""
        if self.steps is not None or self.checkpoint is None:
            return self.steps
        return self.checkpoint.goal.steps or None
