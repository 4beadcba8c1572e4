"""Conditions: six operators on a field, joined by and, or, not; or an expression as text."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from taskloom.domain.workflow import expressions
from taskloom.domain.workflow.expressions import BadExpression, Names

Operator = Literal["equals", "not_equals", "greater_than", "less_than", "contains", "exists"]
Source = Literal["variables", "result", "context"]

MAX_CONDITIONS: Final = 100
"""Parts of one condition, all levels together."""

_SOURCES: Final = ("variables", "result", "context")


class Condition(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``{field, operator, value, source}``, or ``{"and": [...]}``, ``{"or": [...]}``, ``{"not": ...}``.

    ``field`` is a dotted path (``build.tests[0].status`` is not: lists are reached by ``tests.0.status``). Without a
    ``source`` it is looked up in the variables, then in the last step's result, then in the context.
    """

    field: str = ""
    operator: Operator | UnsetType = UNSET
    value: Any = None
    source: Source | UnsetType = UNSET
    all_of: "tuple[AnyCondition, ...] | UnsetType" = msgspec.field(default=UNSET, name="and")
    any_of: "tuple[AnyCondition, ...] | UnsetType" = msgspec.field(default=UNSET, name="or")
    negated: "AnyCondition | UnsetType" = msgspec.field(default=UNSET, name="not")


AnyCondition = Condition | str | bool


def faults(condition: AnyCondition, path: str) -> list[tuple[str, str]]:
    """What is wrong with a condition, as (path of the field, message)."""
    if isinstance(condition, bool):
        return []
    if isinstance(condition, str):
        message = expressions.check(condition)
        return [] if message is None else [(path, message)]
    forms = [name for name, given in _forms(condition) if given]
    if len(forms) != 1:
        found = "has none of them" if not forms else f"has {' and '.join(forms)}"
        return [(path, f"a condition is one of field with operator, and, or, not; this one {found}")]
    return _FORM_FAULTS[forms[0]](condition, path)


def texts(condition: AnyCondition, path: str) -> list[tuple[str, str]]:
    """The expressions in a condition, each as (path of the field, text)."""
    if isinstance(condition, str):
        return [(path, condition)]
    if not isinstance(condition, Condition):
        return []
    if condition.negated is not UNSET:
        return texts(condition.negated, f"{path}.not")
    name = "and" if condition.all_of is not UNSET else "or"
    return [found for at, part in enumerate(_parts(condition)) for found in texts(part, f"{path}.{name}[{at}]")]


def size(condition: AnyCondition) -> int:
    """How many parts a condition has."""
    if not isinstance(condition, Condition):
        return 1
    return 1 + sum(size(part) for part in _parts(condition))


def holds(condition: AnyCondition, names: Names) -> bool:
    """Whether a condition is true. A field that is not there equals null, exists not, and compares false.

    Raises:
        BadExpression: an expression in it cannot be evaluated, or two values cannot be compared.
    """
    if isinstance(condition, bool):
        return condition
    if isinstance(condition, str):
        return bool(expressions.evaluate(condition, names))
    if condition.all_of is not UNSET:
        return all(holds(part, names) for part in condition.all_of)
    if condition.any_of is not UNSET:
        return any(holds(part, names) for part in condition.any_of)
    if condition.negated is not UNSET:
        return not holds(condition.negated, names)
    found = look_up(condition.field, None if condition.source is UNSET else condition.source, names)
    assert condition.operator is not UNSET
    return _OPERATORS[condition.operator](found, condition.value)


def look_up(field: str, source: Source | None, names: Names) -> Any:
    """The value at a dotted path, UNSET when there is none."""
    for place in (source,) if source is not None else _SOURCES:
        try:
            found = _walk(names[place], field, getattr(names, "opened", _itself))
        except KeyError:
            continue
        if found is not UNSET:
            return found
    return UNSET


def _itself(value: Any) -> Any:
    return value


def _walk(value: Any, field: str, opened: Callable[[Any], Any]) -> Any:
    value = opened(value)
    if isinstance(value, Mapping) and field in value:
        return opened(value[field])
    for part in field.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, (list, tuple)) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            return UNSET
        value = opened(value)
    return value


def _forms(condition: Condition) -> tuple[tuple[str, bool], ...]:
    field = bool(condition.field) or condition.operator is not UNSET
    return (
        ("field", field),
        ("and", condition.all_of is not UNSET),
        ("or", condition.any_of is not UNSET),
        ("not", condition.negated is not UNSET),
    )


def _parts(condition: Condition) -> tuple[AnyCondition, ...]:
    if condition.all_of is not UNSET:
        return condition.all_of
    if condition.any_of is not UNSET:
        return condition.any_of
    return () if condition.negated is UNSET else (condition.negated,)


def _field_faults(condition: Condition, path: str) -> list[tuple[str, str]]:
    if not condition.field:
        return [(f"{path}.field", "name the field that is compared")]
    if condition.operator is UNSET:
        return [(f"{path}.operator", f"choose one of {', '.join(_OPERATORS)}")]
    return []


def _list_faults(name: str) -> Callable[[Condition, str], list[tuple[str, str]]]:
    def run(condition: Condition, path: str) -> list[tuple[str, str]]:
        parts = _parts(condition)
        if not parts:
            return [(f"{path}.{name}", "needs at least one condition")]
        return [fault for at, part in enumerate(parts) for fault in faults(part, f"{path}.{name}[{at}]")]

    return run


def _not_faults(condition: Condition, path: str) -> list[tuple[str, str]]:
    return faults(_parts(condition)[0], f"{path}.not")


_FORM_FAULTS: Final[dict[str, Callable[[Condition, str], list[tuple[str, str]]]]] = {
    "field": _field_faults,
    "and": _list_faults("and"),
    "or": _list_faults("or"),
    "not": _not_faults,
}


def _equals(found: Any, value: Any) -> bool:
    return value is None if found is UNSET else bool(found == value)


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    if isinstance(found, Mapping):
        return isinstance(value, str) and value in found
    return isinstance(found, (list, tuple)) and value in found


def _compare(found: Any, value: Any) -> int | None:
    """Below, at or above zero as ``found`` is less, equal or greater; None when one of them is not there."""
    if found is UNSET or found is None or value is None:
        return None
    try:
        return int(found > value) - int(found < value)
    except TypeError as error:
        raise BadExpression(f"{found!r:.80} and {value!r:.80} cannot be compared") from error


_OPERATORS: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    "equals": _equals,
    "not_equals": lambda found, value: not _equals(found, value),
    "greater_than": lambda found, value: (_compare(found, value) or 0) > 0,
    "less_than": lambda found, value: (_compare(found, value) or 0) < 0,
    "contains": _contains,
    "exists": lambda found, _value: found is not UNSET and found is not None,
}

KNOWN: Final[dict[str, tuple[str, ...]]] = {"operator": tuple(_OPERATORS), "source": _SOURCES}
"""What may stand in these fields."""
