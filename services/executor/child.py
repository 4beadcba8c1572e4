"""The process of a function with ``process=True``: one call; heartbeats and its result on a pipe of their own."""

import asyncio
import os
import sys
import time
import traceback
from typing import Any, BinaryIO, Final

import msgspec

from taskloom.domain.values import Stream
from taskloom.kinds.api import TaskError
from taskloom.kinds.functions import load_functions, registered

HEARTBEAT_EVERY_S: Final = 0.25


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read())
    sys.path[:] = order["path"]
    with os.fdopen(int(os.environ["TASKLOOM_CONTROL_FD"]), "wb") as control:
        answer = _answer(order, control)
        sys.stdout.flush()
        sys.stderr.flush()
        control.write(answer)


class ProcessContext:
    """A ``taskloom.app.SyncContext``. A process is killed, not asked: ``checkpoint`` never holds and ``cancelled`` is
    never true."""

    cancelled = False

    def __init__(self, order: dict[str, Any], control: BinaryIO) -> None:
        self.task_id, self.attempt, self.name = order["task_id"], order["attempt"], order["name"]
        self.idempotency_key = self.task_id
        self._control = control
        self._beat_at = float("-inf")

    def heartbeat(self, progress: float | None = None, message: str = "", **_details: Any) -> None:
        if progress is not None and not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress must be from 0.0 to 1.0, not {progress}")
        if time.monotonic() - self._beat_at < HEARTBEAT_EVERY_S and progress != 1.0:
            return
        self._beat_at = time.monotonic()
        beat = {"progress": progress, "message": message}
        self._control.write(msgspec.json.encode({"heartbeat": beat}) + b"\n")
        self._control.flush()

    def checkpoint(self, name: str = "checkpoint") -> None:
        """Returns at once."""

    def write(self, data: str | bytes, stream: Stream = "stdout") -> None:
        target = sys.stderr if stream == "stderr" else sys.stdout
        target.buffer.write(data.encode() if isinstance(data, str) else data)
        target.flush()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _answer(order: dict[str, Any], control: BinaryIO) -> bytes:
    try:
        value = _app_task(order, control) if "app" in order else _function(order)
        return msgspec.json.encode({"value": value}) + b"\n"
    except TaskError as error:
        return _error(error.type, error.message, retryable=error.retryable, details=error.details, fault=error.fault)
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the attempt's error
        details = {"traceback": traceback.format_exc()[-8_000:]}
        return _error(type(error).__name__, str(error), retryable=True, details=details, fault=True)


def _function(order: dict[str, Any]) -> Any:
    load_functions(order["modules"])
    value = registered(order["function"]).call(*order["args"], **order["kwargs"])
    return asyncio.run(value) if asyncio.iscoroutine(value) else value


def _app_task(order: dict[str, Any], control: BinaryIO) -> Any:
    from taskloom.app import load_app

    task = load_app(order["app"]).tasks[order["kind"]]
    return task.dumped(task.function(**task.arguments(order["input"], ProcessContext(order, control))))


def _error(kind: str, message: str, *, retryable: bool, details: dict[str, Any], fault: bool) -> bytes:
    error = {"type": kind, "message": message, "retryable": retryable, "details": details, "fault": fault}
    return msgspec.json.encode({"error": error}) + b"\n"


if __name__ == "__main__":
    main()
