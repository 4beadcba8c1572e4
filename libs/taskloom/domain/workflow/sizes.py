"""How large values are, and what is said of those that are too large."""

from typing import Any, Final

import msgspec

from taskloom.domain.workflow.expressions import BadExpression

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""What is stored apart: the input of a step's task, the result of a run."""

MAX_TASK_BYTES: Final = 1024 * 1024
"""A step's task without its input; an item of a map; all of a child workflow."""

MAX_VARIABLES_BYTES: Final = 768 * 1024
"""All variables of a run: together they fit into one event."""

MAX_TEXT_BYTES: Final = 16 * 1024
"""A text for people: the message of an approval."""

_encoder = msgspec.json.Encoder()


class TooLarge(BadExpression):
    """An expression gave a value that no event could hold."""


def size_of(value: Any) -> int:
    """Bytes of a value as JSON."""
    return len(_encoder.encode(value))


def check_size(what: str, value: Any, limit: int, advice: str) -> None:
    """Raises TooLarge: ``value`` has more bytes than ``limit``."""
    size = size_of(value)
    if size > limit:
        raise TooLarge(f"{what} would have {size} bytes, {limit} are allowed: {advice}")
