"""``{"$from": "step-1", "path": "a.b"}`` in a step's arguments: the result of an earlier step, or a part of it.

It is looked up, never evaluated: a path goes through the keys of objects and the places of lists.
"""

from collections.abc import Callable
from typing import Any, Final

from taskloom.domain.goals.state import GoalState, StepRecord
from taskloom.domain.goals.tools import result_of
from taskloom.domain.workflow.expressions import BadExpression

FROM: Final = "$from"
_FIELDS: Final = frozenset({FROM, "path"})


class BadReference(BadExpression):
    """What a step's arguments refer to is not there."""


def names_in(value: Any) -> frozenset[str]:
    """The ids that references within ``value`` name; what is no reference is data."""
    if isinstance(value, list):
        return frozenset().union(*map(names_in, value))
    if not isinstance(value, dict):
        return frozenset()
    if _is_reference(value):
        return frozenset({value[FROM]})
    return frozenset().union(*map(names_in, value.values()))


def _is_reference(value: dict[str, Any]) -> bool:
    return isinstance(value.get(FROM), str) and value.keys() <= _FIELDS and isinstance(value.get("path", ""), str)


def resolved(state: GoalState, args: Any, opened: Callable[[Any], Any]) -> Any:
    """``args`` with what they refer to. ``opened`` gives the value that a claim stands for. What comes in is not looked
    into again: the words of a tool are never a reference.

    Raises:
        BadReference: a step that is named has no result, or none at that path.
    """
    if isinstance(args, list):
        return [resolved(state, inner, opened) for inner in args]
    if not isinstance(args, dict):
        return args
    if _is_reference(args):
        return _at(_result_of(state, args[FROM], opened), args.get("path", ""), args[FROM])
    return {key: resolved(state, inner, opened) for key, inner in args.items()}


def _result_of(state: GoalState, step_id: str, opened: Callable[[Any], Any]) -> Any:
    record = _record(state, step_id)
    if record is None:
        raise BadReference(f"{step_id} of this plan has no result to refer to")
    if record.stored is None:
        return record.result
    value = opened(record.stored)
    return result_of(record.step.server, record.step.tool, value) if record.step.tool else value


def _record(state: GoalState, step_id: str) -> StepRecord | None:
    for record in reversed(state.done):
        if record.plan == state.version and record.step.id == step_id and record.status == "completed":
            return record
    return None


def _at(value: Any, path: str, step_id: str) -> Any:
    for part in path.split(".") if path else ():
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            raise BadReference(f"the result of {step_id} has nothing at {path[:200]!r}")
    return value
