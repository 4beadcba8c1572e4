"""The process of a ``python`` function with ``process=True``: one call, its result on a pipe of its own."""

import asyncio
import os
import sys
import traceback
from typing import Any

import msgspec

from taskloom.kinds.api import TaskError
from taskloom.kinds.functions import load_functions, registered


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read())
    sys.path[:] = order["path"]
    answer = _answer(order)
    sys.stdout.flush()
    sys.stderr.flush()
    with os.fdopen(int(os.environ["TASKLOOM_CONTROL_FD"]), "wb") as control:
        control.write(answer)


def _answer(order: dict[str, Any]) -> bytes:
    try:
        load_functions(order["modules"])
        value = registered(order["function"]).call(*order["args"], **order["kwargs"])
        if asyncio.iscoroutine(value):
            value = asyncio.run(value)
        return msgspec.json.encode({"value": value})
    except TaskError as error:
        return _error(error.type, error.message, retryable=error.retryable, details=error.details, fault=error.fault)
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the attempt's error
        details = {"traceback": traceback.format_exc()[-8_000:]}
        return _error(type(error).__name__, str(error), retryable=True, details=details, fault=True)


def _error(kind: str, message: str, *, retryable: bool, details: dict[str, Any], fault: bool) -> bytes:
    error = {"type": kind, "message": message, "retryable": retryable, "details": details, "fault": fault}
    return msgspec.json.encode({"error": error})


if __name__ == "__main__":
    main()
