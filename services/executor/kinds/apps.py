"""Tasks of apps (``taskloom.app``): each is a kind of its own."""

import asyncio
from typing import Any

from services.executor.kinds.calling import Threads, call_in_process
from services.executor.kinds.text import text_of
from taskloom.app import Task, load_apps
from taskloom.app.context import ThreadContext
from taskloom.app.errors import AppError
from taskloom.kinds import Context, Handler, Outcome
from taskloom.kinds.functions import set_context
from taskloom.settings import SettingsError


class AppTask(Handler):
    """Arguments get their declared types, the result is checked against the declared one and becomes JSON."""

    def __init__(self, task: Task[Any], app: str, threads: Threads) -> None:
        self.kind = task.kind  # type: ignore[misc]  # one class for all tasks
        self.schema = task.signature.schema
        self.task = task
        self._app = app
        self._threads = threads

    async def run(self, ctx: Context) -> Outcome:
        response = await self._response(ctx)
        return Outcome(result=text_of(response), response=response)

    async def _response(self, ctx: Context) -> Any:
        task = self.task
        if task.process:
            task.arguments(ctx.input, None)  # what is wrong is said without a process
            return await call_in_process(ctx, {"app": self._app, "kind": task.kind, "input": ctx.input})
        if task.is_async:
            set_context(ctx)
            return task.dumped(await task.function(**task.arguments(ctx.input, ctx)))
        arguments = task.arguments(ctx.input, ThreadContext(ctx, asyncio.get_running_loop()))
        return await self._threads.call(ctx, lambda: task.dumped(task.function(**arguments)))


def app_tasks(names: tuple[str, ...], threads: Threads) -> list[AppTask]:
    """Handlers of all tasks of the apps that ``names`` (``module:app``) lead to.

    Raises:
        SettingsError: a name leads to no app, or the app cannot be used.
    """
    try:
        apps = load_apps(names)
    except AppError as error:
        raise SettingsError(str(error)) from error
    return [AppTask(task, name, threads) for name, app in zip(names, apps, strict=True) for task in app.tasks.values()]
