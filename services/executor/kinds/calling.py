"""Calls of Python functions: in the loop, in a thread, or in a process of their own."""

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from services.executor.attempt import Attempt
from taskloom.kinds import Context, TaskError
from taskloom.kinds.functions import set_context

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024


class Threads:
    """Plain functions, so many at once. A thread cannot be stopped: a cancelled call ends when its function returns."""

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)

    async def call(self, ctx: Context, call: Callable[[], Any]) -> Any:
        """What the function returns.

        Raises:
            asyncio.CancelledError: the attempt was cancelled; the function has returned.
        """
        context = contextvars.copy_context()
        context.run(set_context, ctx)
        _ = ctx.cancelled  # made here, in the loop, before the thread asks for it
        async with self._places:
            future = _in_daemon(lambda: context.run(call))
            waiting = asyncio.ensure_future(asyncio.wrap_future(future))
            cancelled = False
            while not waiting.done():
                try:
                    await asyncio.wait({waiting})
                except asyncio.CancelledError:
                    cancelled = True  # the thread goes on; so does the attempt, until it has returned
        if cancelled:
            waiting.exception()
            raise asyncio.CancelledError
        return waiting.result()


async def call_in_process(ctx: Context, order: Mapping[str, Any]) -> Any:
    """The answer of ``services.executor.child`` to an order; what the function prints is the attempt's output.

    Raises:
        TaskError: what the function raised, or its process died.
    """
    assert isinstance(ctx, Attempt)
    told = {**order, "path": sys.path, "task_id": ctx.task_id, "attempt": ctx.attempt, "name": ctx.name}
    process = await ctx.spawn(
        [sys.executable, "-m", "services.executor.child"], stdin=msgspec.json.encode(told), control=True
    )
    control = bytearray()
    answer: dict[str, Any] | None = None
    async for stream, data in process.output():
        if stream != "control":
            await ctx.write(data, stream)
            continue
        control += data
        if len(control) > MAX_ANSWER_BYTES:
            raise TaskError("result_too_large", "the function's result is too large", retryable=False)
        while (end := control.find(b"\n")) >= 0:
            message = msgspec.json.decode(bytes(control[:end]))
            del control[: end + 1]
            if "heartbeat" in message:
                await ctx.heartbeat(message["heartbeat"]["progress"], message["heartbeat"]["message"])
            else:
                answer = message
    ended = await process.wait()
    if answer is None:
        how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
        message = f"the function's process ended with {how} before it had a result"
        raise TaskError("process_died", message, fault=True)
    if "error" in answer:
        error = answer["error"]
        raise TaskError(error.pop("type"), error.pop("message"), **error)
    return answer["value"]


def _in_daemon(call: Callable[[], Any]) -> Future[Any]:
    """Runs a call in a daemon thread, which does not keep the process from ending as a pool's thread would."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except SystemExit as error:
            future.set_exception(TaskError("SystemExit", f"the function called sys.exit({error.code!r})"))
        except Exception as error:  # noqa: BLE001 - whatever the function raises is the attempt's error
            future.set_exception(error)

    threading.Thread(target=run, name="python task", daemon=True).start()
    return future
