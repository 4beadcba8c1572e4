"""``python``: registered functions, in this process, in its threads, or in processes of their own."""

import asyncio
import contextvars
import functools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from services.executor.attempt import Attempt
from taskloom.kinds import Context, Function, Handler, Outcome, TaskError, UnknownFunction, registered
from taskloom.kinds.functions import load_functions, set_context
from taskloom.kinds.inputs import PythonInput, read
from taskloom.settings import SettingsError

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024


class Python(Handler):
    """Async functions run in the executor's loop, plain ones in a thread, those with ``process=True`` in a process.

    The response is what the function returns (anything JSON can hold), the result its text. A thread cannot be stopped:
    a cancelled attempt ends only when its function returns. A process can, and is.
    """

    kind = "python"

    def __init__(self, threads: int, modules: tuple[str, ...]) -> None:
        self._modules = modules
        self._threads = asyncio.Semaphore(threads)

    async def open(self) -> None:
        try:
            await asyncio.to_thread(load_functions, self._modules)
        except ImportError as error:
            wanted = ",".join(self._modules)
            raise SettingsError(f"TASKLOOM_PYTHON_MODULES={wanted!r}: cannot be imported: {error}") from error

    async def run(self, ctx: Context) -> Outcome:
        wished = read(PythonInput, ctx.input)
        try:
            function = registered(wished.function)
        except UnknownFunction as error:
            raise TaskError("unknown_function", str(error), retryable=False) from error
        if function.process:
            assert isinstance(ctx, Attempt)
            value = await self._in_process(ctx, function, wished)
        elif function.is_async:
            set_context(ctx)
            value = await function.call(*wished.args, **wished.kwargs)
        else:
            value = await self._in_thread(ctx, function, wished)
        return Outcome(result=value if isinstance(value, str) else _text(value), response=value)

    async def _in_thread(self, ctx: Context, function: Function, wished: PythonInput) -> Any:
        context = contextvars.copy_context()
        context.run(set_context, ctx)
        _ = ctx.cancelled  # made here, in the loop, before the thread asks for it
        async with self._threads:
            future = _in_daemon(functools.partial(context.run, function.call, *wished.args, **wished.kwargs))
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

    async def _in_process(self, ctx: Attempt, function: Function, wished: PythonInput) -> Any:
        order = {
            "function": function.name,
            "modules": [*self._modules, function.module],
            "path": sys.path,
            "args": wished.args,
            "kwargs": wished.kwargs,
        }
        process = await ctx.spawn(
            [sys.executable, "-m", "services.executor.child"], stdin=msgspec.json.encode(order), control=True
        )
        answer = bytearray()
        async for stream, data in process.output():
            if stream == "control":
                answer += data
                if len(answer) > MAX_ANSWER_BYTES:
                    raise TaskError("result_too_large", "the function's result is too large", retryable=False)
            else:
                await ctx.write(data, stream)
        ended = await process.wait()
        if not answer:
            how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
            raise TaskError(
                "process_died", f"the function's process ended with {how} before it had a result", fault=True
            )
        told = msgspec.json.decode(bytes(answer))
        if "error" in told:
            error = told["error"]
            raise TaskError(error.pop("type"), error.pop("message"), **error)
        return told["value"]


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


def _text(value: Any) -> str:
    try:
        return "" if value is None else msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        message = f"the function's result is not JSON: {error}"
        raise TaskError("result_not_json", message, retryable=False) from error
