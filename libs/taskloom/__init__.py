"""Durable tasks and workflows. What programs use is importable from here, and loaded when it is first asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.app import *  # noqa: F403
    from taskloom.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    import taskloom.app
    import taskloom.client

    for module in (taskloom.app, taskloom.client):
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"module 'taskloom' has no attribute {name!r}")
