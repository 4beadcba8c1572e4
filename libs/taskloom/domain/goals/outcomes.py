"""How a step ended, as a goal's acts are told of it, and what is read from a result whatever it is."""

from typing import Any, Final

from msgspec import Struct

from taskloom.domain.goals.events import MadeCall
from taskloom.domain.goals.state import NOTHING_USED, GoalState
from taskloom.domain.goals.texts import as_text, cut, cut_value
from taskloom.domain.goals.tools import BUILT_IN, result_of
from taskloom.domain.values import ErrorInfo, Usage
from taskloom.domain.workflow.values import Ref

_BEGINNING_BYTES: Final = 200
_MOST_TOKENS: Final = 2**53
_MOST_USD: Final = 1e9


class Outcome(Struct, frozen=True):
    """``value`` is the result, ``stored`` its claim where it is large; ``error`` says why there is none. ``items`` are
    those of a map."""

    value: Any = None
    stored: Ref | None = None
    error: ErrorInfo | None = None
    items: tuple["Outcome", ...] = ()
    duration_ms: int = 0


def text_of(value: Any) -> str:
    """The text of a model's answer, of a goal's result, or of anything else."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        text: str = value["text"]
        return text
    return as_text(value)


def usage_of(value: Any) -> Usage:
    """What a model's answer says that it used; nothing where it says nothing that makes sense."""
    told = value.get("usage") if isinstance(value, dict) else None
    if not isinstance(told, dict):
        return NOTHING_USED
    cost = told.get("cost_usd")
    usable = isinstance(cost, (int, float)) and not isinstance(cost, bool) and 0 <= cost < _MOST_USD
    return Usage(
        _count(told.get("input_tokens")), _count(told.get("output_tokens")), float(cost or 0) if usable else 0.0
    )


def _count(value: Any) -> int:
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if usable else 0


def made_calls(call_id: str, server: str, tool: str, args: dict[str, Any], end: Outcome, limit: int) -> MadeCall:
    """The call with how it ended, its result cut."""
    if end.error is not None:
        error = cut(f"{end.error.type}: {end.error.message}", min(limit, 2_000))
        return MadeCall(call_id, server, tool, args, "failed", error=error, duration_ms=end.duration_ms)
    value, took = end.value, end.duration_ms
    if server != BUILT_IN and isinstance(value, dict):
        took = _count(value.get("duration_ms")) or took
    shown = cut_value(result_of(server, tool, value), limit)
    return MadeCall(call_id, server, tool, args, "success", shown, duration_ms=took)


def summed_up(state: GoalState) -> str:
    """A summary without a model: the beginning of each finding."""
    lines = [f"- {cut(words, _BEGINNING_BYTES)}: {cut(text, _BEGINNING_BYTES)}" for words, text in state.findings]
    return "\n".join((*((state.summary,) if state.summary else ()), "The beginning of each finding:", *lines))
