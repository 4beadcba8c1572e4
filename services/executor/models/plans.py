"""A model's plan read: its steps as the domain names them, and what is wrong, said so that the model can mend it."""

import json
from collections.abc import Sequence
from typing import Any, Final

from services.executor.models.port import LlmInput, ToolDescription

PROPOSE: Final = "propose_plan"
TYPES: Final = ("tool-call", "llm-reasoning", "checkpoint", "summarization", "sub-goal")
MAX_MISTAKES: Final = 20
STEP_MS: Final = 30_000
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "description": {"type": "string", "description": "What the step is to do, in a few words"},
                    "type": {"type": "string", "enum": list(TYPES)},
                    "tool": {"type": "string", "description": "server/tool of a tool-call"},
                    "args": {"type": "object", "description": "Arguments of the tool", "additionalProperties": True},
                    "goal": {"type": "string", "description": "What a sub-goal is to reach"},
                },
                "required": ["description", "type"],
            },
        }
    },
    "required": ["steps"],
}


class Unreadable(Exception):
    """The answer holds no plan."""


def read(answer: Any) -> list[Any]:
    """The steps in an answer: an object, a list, or a text that holds one of them.

    Raises:
        Unreadable: there are none; says why.
    """
    value = _parsed(answer) if isinstance(answer, str) else answer
    steps = value.get("steps") if isinstance(value, dict) else value
    if isinstance(steps, str):
        steps = _parsed(steps)
    if not isinstance(steps, list):
        raise Unreadable("it has no list `steps`")
    if not steps:
        raise Unreadable("`steps` is empty")
    return steps


def _parsed(text: str) -> Any:
    """JSON, also within words or a fence."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts:
        raise Unreadable("it is no JSON")
    start, end = min(starts), max(text.rfind("}"), text.rfind("]"))
    try:
        return json.loads(text[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {error}") from error


def steps_of(listed: Sequence[Any], wish: LlmInput, tools: Sequence[ToolDescription]) -> tuple[list[Any], list[str]]:
    """Planned steps, and what is wrong with them. What cannot be mended here is handed on for the domain to judge."""
    found: list[str] = []
    if len(listed) > wish.max_steps:
        found.append(f"there are {len(listed)} steps; at most {wish.max_steps} are allowed")
    known = {f"{tool.server}/{tool.name}": tool for tool in tools}
    names = {
        str(step["id"]): f"step-{number}"
        for number, step in enumerate(listed, 1)
        if isinstance(step, dict) and step.get("id")
    }
    steps = []
    for number, told in enumerate(listed[: wish.max_steps], 1):
        if not isinstance(told, dict):
            found.append(f"steps[{number - 1}] is no object")
            continue
        step = _step(number, told, names)
        found += [f"steps[{number - 1}]{wrong}" for wrong in _wrong(step, number, known)]
        steps.append(step)
    return steps, found[:MAX_MISTAKES]


def _step(number: int, told: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    server, tool = str(told.get("server") or ""), str(told.get("tool") or "")
    if not server and "/" in tool:
        server, _, tool = tool.partition("/")
    args = told.get("args")
    if isinstance(args, str):
        try:
            args = json.loads(args)
        except (ValueError, RecursionError):
            args = told["args"]
    estimate = told.get("estimated_ms")
    return {
        "id": f"step-{number}",
        "description": str(told.get("description") or ""),
        "type": told.get("type") or ("tool-call" if tool else "llm-reasoning"),
        "server": server,
        "tool": tool,
        "args": _renamed(args if args is not None else {}, names),
        "goal": str(told.get("goal") or ""),
        "model": {},
        "estimated_ms": estimate if isinstance(estimate, int) and 0 < estimate < 86_400_000 else STEP_MS,
    }


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$from"), str):
            return {**value, "$from": names.get(value["$from"], value["$from"])}
        return {key: _renamed(inner, names) for key, inner in value.items()}
    return [_renamed(inner, names) for inner in value] if isinstance(value, list) else value


def _wrong(step: dict[str, Any], number: int, known: dict[str, ToolDescription]) -> list[str]:
    found = []
    if step["type"] not in TYPES:
        found.append(f".type: {str(step['type'])[:100]!r} is none of {', '.join(TYPES)}")
    if not step["description"]:
        found.append(".description is missing")
    if not isinstance(step["args"], dict):
        return [*found, ".args is no object"]
    if step["type"] == "tool-call":
        tool = known.get(f"{step['server']}/{step['tool']}")
        if tool is None:
            told = ", ".join(sorted(known)[:50]) or "none"
            found.append(f".tool: there is no {step['server']}/{step['tool']}; the tools are: {told}")
        else:
            required = tool.schema.get("required")
            listed = required if isinstance(required, list) else []
            found += [f".args.{name} is missing" for name in listed if name not in step["args"]]
    if step["type"] == "sub-goal" and not step["goal"]:
        found.append(".goal is missing")
    earlier = {f"step-{before}" for before in range(1, number)}
    found += [f".args: {name[:100]!r} is no earlier step" for name in _named(step["args"]) if name not in earlier]
    return found


def _named(value: Any) -> list[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$from"), str):
            return [value["$from"]]
        return [name for inner in value.values() for name in _named(inner)]
    return [name for inner in value for name in _named(inner)] if isinstance(value, list) else []


def fallback(wish: LlmInput) -> list[Any]:
    """One thought about the whole goal."""
    return [_step(1, {"description": wish.goal[:1000] or wish.subject[:1000] or "Answer", "type": "llm-reasoning"}, {})]


def told(steps: Sequence[Any]) -> str:
    """A plan in lines."""
    lines = []
    for number, step in enumerate(steps, 1):
        how = f"{step['server']}/{step['tool']}" if step["tool"] else step["type"]
        lines.append(f"{number}. {step['description']} ({how})")
    return "\n".join(lines)
