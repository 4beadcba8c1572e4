"""What a model is asked: the inputs of the goal's tasks of kind ``llm``."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from taskloom.domain.goals.inputs import GoalInput, ServerTools
from taskloom.domain.goals.plans import PlannedStep
from taskloom.domain.goals.progress import budget_left
from taskloom.domain.goals.state import Current, GoalState

_MAX_TOKENS: Final = {"plan": 2_000, "detect": 10, "summarize": 1_000}
_DEFAULT_TOKENS: Final = 4_000


def ask(state: GoalState, op: str) -> dict[str, Any]:
    """The input of the next task of kind ``llm``."""
    given, current = state.given, state.current
    about: dict[str, Any] = {
        "op": op,
        "model": _model(given, None if current is None else current.step),
        "goal": given.goal,
        "context": state.context,
        "max_tokens": _tokens(state, op),
    }
    if (left := budget_left(state)) is not None:
        about["budget"] = left
    if given.mentions:
        about["mentions"] = given.mentions
    if op in ("plan", "detect"):
        about["tools"] = tools_of(given.tools)
    if op == "plan":
        about["max_steps"] = max(1, given.max_steps - state.steps_begun)
        about["failure"] = _failure(state)
    if op in ("turn", "reason") and current is not None:
        about["step"] = {"id": current.step.id, "description": current.step.description}
    if op == "turn" and current is not None:
        about |= _turn(given, current)
    return about


def tools_of(tools: Mapping[str, ServerTools]) -> dict[str, Any]:
    """The list of allowed tools as JSON."""
    return {
        server: {"tools": None if one.tools is None else list(one.tools), "idempotent": list(one.idempotent)}
        for server, one in tools.items()
    }


def _model(given: GoalInput, step: PlannedStep | None) -> dict[str, Any]:
    """The step's choice takes the place of the goal's as a whole: a provider goes with its own models."""
    chosen: dict[str, Any] = msgspec.to_builtins(given.model)
    return chosen if step is None or not step.model else step.model


def _tokens(state: GoalState, op: str) -> int:
    usual = _MAX_TOKENS.get(op, _DEFAULT_TOKENS)
    left = (budget_left(state) or {}).get("tokens")
    return usual if left is None else min(usual, left)


def _failure(state: GoalState) -> dict[str, Any] | None:
    failure = state.failure
    if failure is None:
        return None
    return {"step": failure.step.description or failure.step.id, "error": failure.fault.message}


def _turn(given: GoalInput, current: Current) -> dict[str, Any]:
    server = current.step.server
    tools = {server: given.tools[server]} if server in given.tools else given.tools
    last = current.round >= given.max_tool_rounds
    exchange = [
        {
            "calls": [{"id": one.id, "server": one.server, "tool": one.tool, "args": one.args} for one in calls],
            "results": [
                {"id": one.id, "status": one.status, "result": one.result, "error": one.error} for one in calls
            ],
        }
        for calls in current.exchange
    ]
    return {"tools": {} if last else tools_of(tools), "exchange": exchange, "last": last}
