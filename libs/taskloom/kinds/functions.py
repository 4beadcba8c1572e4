"""Functions that ``python`` tasks may call. Only registered ones can be called, whatever a task asks for."""

import importlib
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import Any, Final, ParamSpec, TypeVar, overload

from msgspec import Struct

from taskloom.errors import TaskloomError
from taskloom.kinds.api import Context

P = ParamSpec("P")
R = TypeVar("R")

GROUP: Final = "taskloom.functions"
"""Entry points of this group name modules; importing them registers their functions."""


class UnknownFunction(TaskloomError):
    """No function is registered under that name."""


class Function(Struct, frozen=True):
    """``process``: runs in a process of its own, which can be killed; else async, or in a thread, which cannot."""

    name: str
    module: str
    call: Callable[..., Any]
    process: bool = False

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.call)


_REGISTRY: Final[dict[str, Function]] = {}
_context: ContextVar[Context | None] = ContextVar("taskloom_context", default=None)


@overload
def function(call: Callable[P, R]) -> Callable[P, R]: ...
@overload
def function(*, name: str | None = None, process: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def function(call: Callable[..., Any] | None = None, *, name: str | None = None, process: bool = False) -> Any:
    """Registers a function as ``module:name`` and returns it unchanged.

    A plain function runs in a thread: it cannot be stopped from outside, so a cancel is confirmed only when it
    returns (it may ask ``current_context().cancelled.is_set()``). With ``process=True`` it runs in a process of its own
    that is killed with its group; arguments and result then travel as JSON.
    """

    def register(target: Callable[..., Any]) -> Callable[..., Any]:
        known = name or f"{target.__module__}:{target.__qualname__}"
        if ":" not in known:
            raise ValueError(f"{known!r} is not a function's name; choose module:name")
        _REGISTRY[known] = Function(known, target.__module__, target, process)
        return target

    return register if call is None else register(call)


def registered(name: str) -> Function:
    """The function of that name.

    Raises:
        UnknownFunction: it is not registered; says which are.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        known = ", ".join(sorted(_REGISTRY)) or "none"
        raise UnknownFunction(f"{name!r} is not a registered function; registered are: {known}") from None


def load_functions(modules: Iterable[str]) -> list[str]:
    """Imports modules that register functions, and those of the entry-point group; returns all registered names.

    Raises:
        ImportError: a module cannot be imported.
    """
    for module in (*modules, *(found.module for found in entry_points(group=GROUP))):
        importlib.import_module(module)
    return sorted(_REGISTRY)


def current_context() -> Context:
    """The attempt that this function runs in, in its task or thread (not in a process of its own).

    Raises:
        LookupError: called outside a ``python`` task.
    """
    ctx = _context.get()
    if ctx is None:
        raise LookupError("no task runs here")
    return ctx


def set_context(ctx: Context) -> None:
    """Called by the handler of ``python`` tasks."""
    _context.set(ctx)
