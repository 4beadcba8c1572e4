"""Finds handlers that other packages bring, by entry points."""

from importlib.metadata import entry_points
from typing import Final

from taskloom.errors import TaskloomError
from taskloom.kinds.api import Handler

GROUP: Final = "taskloom.kinds"


class PluginError(TaskloomError):
    """A package names a handler that cannot be used."""


def load_plugins() -> dict[str, Handler]:
    """Handlers of all installed packages, by kind.

    Raises:
        PluginError: one cannot be imported, is no ``Handler``, or two packages bring the same kind.
    """
    found: dict[str, Handler] = {}
    for entry in entry_points(group=GROUP):
        try:
            made = entry.load()()
        except Exception as error:
            raise PluginError(f"the handler {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
        if not isinstance(made, Handler) or not getattr(made, "kind", ""):
            raise PluginError(f"{entry.value} is not a taskloom.kinds.Handler with a kind")
        if made.kind in found:
            raise PluginError(f"two packages bring the kind {made.kind!r}; uninstall one: {entry.value}")
        found[made.kind] = made
    return found
