"""A function's result as text for people."""

from typing import Any

import msgspec

from taskloom.kinds import TaskError


def text_of(value: Any) -> str:
    """Text as it is, nothing for None, else JSON.

    Raises:
        TaskError: it is not JSON (``result_not_json``, not retryable).
    """
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        message = f"the function's result is not JSON: {error}"
        raise TaskError("result_not_json", message, retryable=False) from error
