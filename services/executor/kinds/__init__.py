"""The built-in kinds of work, those that installed packages bring, and the tasks of apps."""

from typing import Final

from services.executor.kinds.apps import app_tasks
from services.executor.kinds.calling import Threads
from services.executor.kinds.docker import Docker
from services.executor.kinds.echo import Echo
from services.executor.kinds.http import Http
from services.executor.kinds.llm import Llm
from services.executor.kinds.python import Python
from services.executor.kinds.query import Query
from services.executor.kinds.shell import Shell
from services.executor.kinds.sleep import Sleep
from services.executor.kinds.sql import Sql
from services.executor.kinds.tool import ToolCall
from services.executor.kinds.webhook import Webhook
from services.executor.models.make import make_model
from services.executor.settings import ExecutorSettings
from services.executor.tools.toolbox import make_toolbox
from taskloom import telemetry
from taskloom.kinds import Handler, load_plugins
from taskloom.settings import SettingsError

log = telemetry.get_logger(__name__)

OF_GOALS: Final = frozenset({"llm", "tool"})
"""Kinds of work that goals ask for: calls of models and of tools."""


def handlers(settings: ExecutorSettings) -> dict[str, Handler]:
    """All handlers by kind. A package that brings a built-in kind replaces it, which is logged.

    Raises:
        FilesUnavailable: the store of files has no such address or option.
        PluginError: a package's handler cannot be used.
        SettingsError: an app cannot be loaded, or has a task of a package's kind.
    """
    threads = Threads(settings.threads)
    found: dict[str, Handler] = {}
    if settings.common_kinds:
        shell = Shell(settings.shell_users, settings.files, settings.max_file_mb)
        model = make_model(settings)
        built_in: list[Handler] = [*(Echo(), Sleep(), shell, Python(threads, settings.python_modules), Http())]
        toolbox = make_toolbox(settings)
        built_in += [Llm(model, toolbox), Query(model)]
        if key := settings.webhook_key.get_secret_value():
            built_in.append(Webhook(key, allow_private=settings.webhook_allow_private))
        if settings.has_database:
            built_in.append(ToolCall(toolbox))
        if settings.sql_databases:
            built_in.append(Sql(settings.sql_databases))
        if settings.docker:
            about = (settings.executor_id, settings.docker_host, settings.containers)
            built_in.append(Docker(*about, settings.files, settings.max_file_mb))
        found |= {each.kind: each for each in built_in if not (settings.disable_task_worker and each.kind in OF_GOALS)}
        for kind, plugin in load_plugins().items():
            log.info("handler of a package", kind=kind, handler=type(plugin).__qualname__, replaces=kind in found)
            found[kind] = plugin
    for handler in app_tasks(settings.apps, threads):
        if handler.kind in found:
            raise SettingsError(f"TASKLOOM_APPS: the kind {handler.kind!r} is a package's already")
        found[handler.kind] = handler
    if not found:
        raise SettingsError("TASKLOOM_COMMON_KINDS=false: name apps in TASKLOOM_APPS, or there is nothing to run")
    return found
