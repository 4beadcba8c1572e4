"""The MCP SDK, imported when it is first needed: that takes seconds."""

import asyncio
import importlib
import sys
from typing import Final

MODULES: Final = ("mcp", "mcp.client.streamable_http", "anyio", "httpx2")


async def ready() -> None:
    """Returns once the SDK can be imported at once. In a thread: the executor's heartbeats must not wait for it."""
    if not all(name in sys.modules for name in MODULES):
        await asyncio.to_thread(_load)


def _load() -> None:
    for name in MODULES:
        importlib.import_module(name)
