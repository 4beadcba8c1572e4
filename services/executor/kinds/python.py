"""``python``: registered functions, in this process, in its threads, or in processes of their own."""

import asyncio
import functools

from services.executor.kinds.calling import Threads, call_in_process
from services.executor.kinds.text import text_of
from taskloom.kinds import Context, Handler, Outcome, TaskError, UnknownFunction, registered
from taskloom.kinds.functions import load_functions, set_context
from taskloom.kinds.inputs import PythonInput, read
from taskloom.settings import SettingsError


class Python(Handler):
    """Async functions run in the executor's loop, plain ones in a thread, those with ``process=True`` in a process.

    The response is what the function returns (anything JSON can hold), the result its text. A thread cannot be stopped:
    a cancelled attempt ends only when its function returns. A process can, and is.
    """

    kind = "python"

    def __init__(self, threads: Threads, modules: tuple[str, ...]) -> None:
        self._modules = modules
        self._threads = threads

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
            modules = [*self._modules, function.module]
            order = {"function": function.name, "modules": modules, "args": wished.args, "kwargs": wished.kwargs}
            value = await call_in_process(ctx, order)
        elif function.is_async:
            set_context(ctx)
            value = await function.call(*wished.args, **wished.kwargs)
        else:
            value = await self._threads.call(ctx, functools.partial(function.call, *wished.args, **wished.kwargs))
        return Outcome(result=text_of(value), response=value)
