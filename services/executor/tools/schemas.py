"""Arguments of calls, checked before a server sees them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from taskloom.kinds.api import TaskError
from taskloom.kinds.inputs import InvalidInput
from taskloom.kinds.schemas import check_value

MAX_SCHEMA_BYTES: Final = 64 * 1024
_REGEXES: Final = frozenset({"pattern", "patternProperties"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
"""Whose keys are names of the server's, not keywords."""


def check_arguments(schema: Mapping[str, Any], args: Mapping[str, Any]) -> None:
    """
    Raises:
        TaskError: they do not fit the tool's schema, or one is a reference to a secret, which no argument may be
            (``invalid_arguments``, not retryable); names the field, for example ``input.args.timezone``.
    """
    for field in _secrets(args, "input.args"):
        raise _invalid(f"{field}: arguments never take secrets; the tool server's registration does", field)
    try:
        check_value(plain(schema), args, "input.args")
    except InvalidInput as error:
        raise _invalid(error.message, error.field) from error


def plain(schema: Any, *, names: bool = False) -> Any:
    """The schema without regular expressions: a server's could keep the executor's loop busy for ever. The server still
    checks them itself."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    if names:
        return {name: plain(each) for name, each in schema.items()}
    return {
        word: each if word in ("const", "enum", "default", "examples") else plain(each, names=word in _NAMED)
        for word, each in schema.items()
        if word not in _REGEXES
    }


def fits(schema: Any) -> bool:
    """Whether it is an object of a size that is worked with."""
    return isinstance(schema, dict) and len(msgspec.json.encode(schema)) <= MAX_SCHEMA_BYTES


def _secrets(value: Any, path: str) -> Iterator[str]:
    """Paths of everything below the arguments that looks like a reference to a secret."""
    parts: Iterator[tuple[str, Any]] = iter(())
    if isinstance(value, Mapping):
        parts = ((f"{path}.{name}", each) for name, each in value.items())
    elif isinstance(value, list):
        parts = ((f"{path}[{place}]", each) for place, each in enumerate(value))
    for field, each in parts:
        if isinstance(each, Mapping) and each.keys() == {"secret"} and isinstance(each["secret"], str):
            yield field
        else:
            yield from _secrets(each, field)


def _invalid(message: str, field: str) -> TaskError:
    return TaskError("invalid_arguments", message, retryable=False, details={"field": field})
