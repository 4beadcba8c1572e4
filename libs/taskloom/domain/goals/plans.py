"""A plan: the steps that lead to a goal, as a model, a client or a reviewer proposed them."""

from typing import Any, Final, Literal, get_args

from msgspec import Struct

PlannedType = Literal["tool-call", "llm-reasoning", "checkpoint", "summarization", "sub-goal"]
PlannedBy = Literal["model", "rules", "client", "reviewer", "fallback"]
TYPES: Final[tuple[str, ...]] = get_args(PlannedType)
DEFAULT_ESTIMATE_MS: Final = 30_000


class PlannedStep(Struct, frozen=True, omit_defaults=True):
    """One step of a plan. In ``args`` the object ``{"$from": "step-1"}`` stands for the result of an earlier step, and
    ``{"$from": "step-1", "path": "a.b"}`` for a part of it. A tool-call without a ``tool`` is open: the model chooses.
    """

    id: str
    description: str = ""
    type: PlannedType = "llm-reasoning"
    server: str = ""
    tool: str = ""
    args: dict[str, Any] = {}
    goal: str = ""
    model: dict[str, Any] = {}
    estimated_ms: int = DEFAULT_ESTIMATE_MS
