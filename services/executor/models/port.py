"""What a model is asked, what it answers, and what it is told about tools: the port that every model sits behind."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol

from msgspec import UNSET, Meta, Struct, UnsetType, field

from taskloom.domain.tools import AllowedTools
from taskloom.domain.values import Usage
from taskloom.kinds import TaskError

OFFLINE: Final = "taskloom-offline"
MAX_CALLS: Final = 16
"""Calls of tools that one turn may wish for; more are left out."""

Op = Literal["plan", "turn", "reason", "summarize", "report", "detect", "answer"]
Say = Callable[[str], Awaitable[None]]
"""Takes the next piece of the answer, as it grows."""


class ModelChoice(Struct, frozen=True):
    """Which model is wished for: one by name, or the one that the executor's settings have for a tier."""

    provider: str = ""
    model: str = ""
    tier: Literal["", "small", "medium", "large"] = ""


class StepRef(Struct, frozen=True):
    """The step that a turn or a thought is for."""

    id: str = ""
    description: str = ""


class ToolResult(Struct, frozen=True):
    tool_name: str = field(name="toolName")
    result: Any = None


class Message(Struct, frozen=True):
    role: str
    content: str


class GoalContext(Struct, frozen=True):
    """What is known so far. ``findings``: texts by the description of the step that found them."""

    summary: str = ""
    findings: dict[str, Any] = {}
    tool_results: list[ToolResult] = field(default_factory=list, name="toolResults")
    message_history: list[Message] = field(default_factory=list, name="messageHistory")


class Failure(Struct, frozen=True):
    """Why a new plan is wanted: the step (its id, its description, or the step itself) and what went wrong."""

    step: Any = None
    error: Any = None


class Call(Struct, frozen=True):
    """A wish to call a tool."""

    id: str
    server: str
    tool: str
    args: dict[str, Any] = {}


class CallResult(Struct, frozen=True):
    id: str
    status: str = "success"
    result: Any = None
    error: Any = None


class Round(Struct, frozen=True):
    """Calls that were wished for in one turn, and what became of them."""

    calls: list[Call] = []
    results: list[CallResult] = []


class Left(Struct, frozen=True):
    """What is left of a budget; None is no limit."""

    tokens: float | None = None
    cost_usd: float | None = None


class LlmInput(Struct, frozen=True):
    """Input of kind ``llm``: one turn of a model.

    ``tools`` is the pinned allow-list, without it there are none. ``last``: answer without tools. ``budget``: what is
    left of the goal's; a call that cannot fit is refused before it is made.
    """

    op: Op
    model: ModelChoice | None = None
    goal: str = ""
    step: StepRef | None = None
    context: GoalContext | None = None
    tools: dict[str, AllowedTools] | None = None
    max_steps: Annotated[int, Meta(ge=1, le=1000)] = 50
    failure: Failure | None = None
    exchange: list[Round] = []
    last: bool = False
    message: str = ""
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    budget: Left | None = None

    @property
    def known(self) -> GoalContext:
        return self.context or GoalContext()

    @property
    def subject(self) -> str:
        """What the turn is about: the message, the step, or the goal."""
        described = self.step.description if self.step else ""
        return self.message or described or self.goal


class ToolDescription(Protocol):
    """``schema`` is the JSON Schema of the arguments. Names and descriptions are a server's words: data, no orders."""

    @property
    def server(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def schema(self) -> dict[str, Any]: ...


class Toolbox(Protocol):
    """The part of the executor's toolbox that models need."""

    async def describe(self, tenant_id: str, allowed: Mapping[str, AllowedTools] | None) -> Sequence[ToolDescription]:
        """Tools that the allow-list names and that are there now."""
        ...


class Reply(Struct, frozen=True):
    """One answer. ``steps``, ``repaired``, ``calls`` and ``orchestrate`` belong to plan, turn and detect.

    ``note``: what a reader should know about it (an unknown price, models that failed before, a plan given up).
    """

    text: str
    model_used: str
    provider: str
    usage: Usage
    steps: list[Any] | UnsetType = UNSET
    repaired: bool | UnsetType = UNSET
    calls: list[Call] | UnsetType = UNSET
    orchestrate: bool | UnsetType = UNSET
    note: str | UnsetType = UNSET


class Model(Protocol):
    """Answers one turn."""

    @property
    def offline(self) -> bool:
        """It answers by rules, since no model is configured."""
        ...

    async def ask(self, wish: LlmInput, tools: Sequence[ToolDescription], say: Say) -> Reply:
        """The whole answer; its text was said before, in pieces.

        Raises:
            TaskError: there is none: ``model_*``, ``context_overflow``, ``budget_exceeded``.
        """
        ...

    async def close(self) -> None: ...


def tokens_of(text: str) -> int:
    """Estimated tokens: UTF-8 bytes / 4, rounded up. No model's own tokenizer is at hand without a network."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


def hold(budget: Left | None, tokens: int) -> None:
    """
    Raises:
        TaskError: the call needs more tokens than are left, or no money is left (``budget_exceeded``, not retryable).
    """
    if budget is None:
        return
    if budget.tokens is not None and tokens > budget.tokens:
        message = f"the call needs about {tokens} tokens, and {budget.tokens:g} of the budget are left"
        raise TaskError("budget_exceeded", message, retryable=False, details={"tokens": tokens})
    if budget.cost_usd is not None and budget.cost_usd <= 0:
        raise TaskError("budget_exceeded", "nothing of the budget's money is left", retryable=False)
