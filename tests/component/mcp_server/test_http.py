"""``taskloom mcp --http``: the same tools over streamable HTTP, on an address of this machine alone."""

import asyncio
import os
import socket
import sys

import pytest
from mcp import Client

from taskloom.mcp_server.server import OpenAddress, serve
from taskloom.testing.eventually import eventually

LONG_S = 60.0


async def test_tools_are_served_over_http_and_say_when_the_server_is_away() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = ("-m", "taskloom", "mcp", "--http", "--port", str(port), "--url", "http://127.0.0.1:1")
    served = await asyncio.create_subprocess_exec(sys.executable, *words, env={**os.environ})

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        await eventually(listens, timeout_s=LONG_S)
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            tools = {each.name: each for each in (await client.list_tools()).tools}
            assert set(tools) == {"submit", "status", "list", "timeline", "cancel", "why"}
            assert tools["status"].annotations is not None
            assert tools["status"].annotations.read_only_hint
            assert tools["cancel"].input_schema["required"] == ["task_id"]
            away = await client.call_tool("cancel", {"task_id": "nobody"})
            assert away.is_error
            assert "127.0.0.1:1" in str(away.content[0])
    finally:
        served.terminate()
        await served.wait()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org", "::"])
async def test_an_address_that_others_reach_is_refused(host: str) -> None:
    with pytest.raises(OpenAddress, match="behind a proxy"):
        await serve("http://127.0.0.1:1", address=(host, 8765))
