"""``taskloom mcp``: Taskloom as an MCP server."""

import asyncio
import contextlib
from typing import Annotated

import typer

from taskloom.cli.remote import HERE, Url


def command(
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP at /mcp instead of stdin and stdout.")] = (
        False
    ),
    host: Annotated[str, typer.Option(help="Address to serve HTTP on; one of this machine's own.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to serve HTTP on.")] = 8765,
    url: Url = HERE,
) -> None:
    """Serve submit, status, list, timeline, why and cancel to a model's client; TASKLOOM_API_KEY says what it may."""
    from taskloom.mcp_server.server import serve  # the SDK takes seconds to import

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(url, address=(host, port) if http else None))
