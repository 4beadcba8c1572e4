"""Serves the tools over stdin and stdout, or over streamable HTTP on an address of this machine."""

import ipaddress
from typing import Final

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from taskloom.client import AsyncClient
from taskloom.errors import TaskloomError
from taskloom.mcp_server.tools import Tools

INSTRUCTIONS: Final = (
    "Taskloom runs durable tasks. Submit one, then ask for its status, or wait for it; a task's timeline says what "
    "happened to it, and why says what holds it."
)
READS: Final = ("status", "list", "timeline", "why")


class OpenAddress(TaskloomError):
    """Anybody who reaches the address could use this program's key."""


def server_of(client: AsyncClient) -> MCPServer:
    """An MCP server whose tools call this client."""
    made = MCPServer("taskloom", instructions=INSTRUCTIONS, log_level="WARNING")
    tools = Tools(client)
    for name in ("submit", *READS, "cancel"):
        reads = name in READS
        about = ToolAnnotations(
            read_only_hint=reads, idempotent_hint=name != "submit", destructive_hint=name == "cancel"
        )
        made.tool(name=name, annotations=about, structured_output=True)(getattr(tools, name))
    return made


async def serve(url: str, *, address: tuple[str, int] | None = None) -> None:
    """Until stdin ends, or the process is told to stop. ``address``: host and port of streamable HTTP, path /mcp.

    Raises:
        OpenAddress: the host is not an address of this machine alone.
    """
    if address is not None and not _is_own(address[0]):
        raise OpenAddress(
            f"{address[0]}: whoever reaches it would act with this program's key; serve on 127.0.0.1, behind a proxy "
            "that asks who comes"
        )
    async with AsyncClient(url) as client:
        made = server_of(client)
        if address is None:
            await made.run_stdio_async()
        else:
            await made.run_streamable_http_async(host=address[0], port=address[1])


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
