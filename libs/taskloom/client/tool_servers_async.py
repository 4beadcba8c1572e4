"""``client.tool_servers``: MCP servers whose tools tasks may call."""

from __future__ import annotations

from typing import Protocol, TypeVar, Unpack

from taskloom.client import tool_server_calls as calls
from taskloom.client.calls import Call
from taskloom.client.tool_server_calls import ToolServerWish

T = TypeVar("T")


class Calls(Protocol):
    async def call(self, call: Call[T]) -> T: ...


class AsyncToolServers:
    """Every call may raise ``Unreachable`` or a kind of ``Refused``, whose ``field`` is the one at fault."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    async def put(self, name: str, **wish: Unpack[ToolServerWish]) -> calls.ToolServer:
        """Registers one, or takes the place of the one that was there."""
        return await self._client.call(calls.put(name, wish))

    async def page(self, *, cursor: str = "", limit: int = 100) -> calls.ToolServerPage:
        """By name."""
        return await self._client.call(calls.list_tool_servers(cursor, limit))

    async def get(self, name: str) -> calls.ToolServer:
        return await self._client.call(calls.get(name))

    async def remove(self, name: str) -> None:
        """Calls that run go on."""
        await self._client.call(calls.remove(name))

    async def tools(self, name: str) -> calls.ToolsOfServer:
        """What it has, asked by an executor now: also whether it answers, and how fast."""
        return await self._client.call(calls.tools(name))
