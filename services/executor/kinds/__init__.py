"""The built-in kinds of work, and those that installed packages bring."""

from services.executor.kinds.echo import Echo
from services.executor.kinds.http import Http
from services.executor.kinds.python import Python
from services.executor.kinds.query import Query
from services.executor.kinds.shell import Shell
from services.executor.kinds.sleep import Sleep
from taskloom import telemetry
from taskloom.kinds import Handler, load_plugins

log = telemetry.get_logger(__name__)


def handlers(*, threads: int, python_modules: tuple[str, ...]) -> dict[str, Handler]:
    """All handlers by kind. A package that brings a built-in kind replaces it, which is logged.

    Raises:
        PluginError: a package's handler cannot be used.
        ImportError: one of ``python_modules`` cannot be imported.
    """
    built_in: list[Handler] = [Echo(), Sleep(), Shell(), Python(threads, python_modules), Http(), Query()]
    found = {handler.kind: handler for handler in built_in}
    for kind, plugin in load_plugins().items():
        log.info("handler of a package", kind=kind, handler=type(plugin).__qualname__, replaces=kind in found)
        found[kind] = plugin
    return found
