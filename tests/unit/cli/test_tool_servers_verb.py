"""``taskloom tool-servers``, with the calls that it makes."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from taskloom.cli.main import app
from tests.unit.cli.conftest import Server

SERVERS = "/api/v1/tool-servers"
TIME: dict[str, Any] = {
    "name": "time",
    "transport": "stdio",
    "command": ["mcp-server-time", "--local-timezone", "UTC [x]"],
    "tools": ["now"],
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
TOOLS: dict[str, Any] = {
    "name": "time",
    "healthy": True,
    "task_id": "t1",
    "latency_ms": 41,
    "tools": [{"name": "now", "description": "Tells\nthe time", "schema": {"properties": {"zone": {}}}}],
}


@pytest.fixture
def servers(server: Server) -> Server:
    server.answers = {
        SERVERS: (200, {"tool_servers": [TIME], "total_count": 2, "next_cursor": "time"}),
        f"{SERVERS}/time": (200, TIME),
        f"{SERVERS}/time/tools": (200, TOOLS),
    }
    return server


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["tool-servers", *words])


def test_servers_and_their_tools_are_shown(servers: Server) -> None:
    listed = run("list").stdout
    assert [word for word in ("mcp-server-time", "'UTC [x]'", "now", "--cursor time") if word not in listed] == []
    assert json.loads(run("get", "time", "--json").stdout)["command"] == TIME["command"]
    shown = run("tools", "time").stdout
    assert [word for word in ("now", "zone", "Tells the time", "within 41 ms") if word not in shown] == []
    servers.answers[f"{SERVERS}/time/tools"] = (200, {**TOOLS, "healthy": False, "error": "no licence", "tools": []})
    ill = run("tools", "time")
    assert ill.exit_code == 1
    assert "no licence" in ill.stderr


def test_a_server_is_a_command_or_an_address(servers: Server) -> None:
    common: dict[str, Any] = {"timeout_s": 60.0, "enabled": True, "tools": None, "idempotent": []}
    stdio = {"transport": "stdio", "command": ["mcp-server-time", "--local-timezone", "UTC"], "env": {"A": "b=c"}}
    assert run("put", "time", "--env", "A=b=c", "--", "mcp-server-time", "--local-timezone", "UTC").exit_code == 0
    assert servers.asked[-1] == ("PUT", f"{SERVERS}/time", {**common, **stdio})
    words = ("--to", "https://a/mcp", "--header", "A=b", "--header-secret", "C=token", "--tool", "x", "--off")
    assert run("put", "time", *words, "--idempotent", "x", "--timeout", "5").exit_code == 0
    headers = {"A": "b", "C": {"secret": "token"}}
    http = {"transport": "http", "url": "https://a/mcp", "headers": headers, "tools": ["x"], "idempotent": ["x"]}
    assert servers.asked[-1] == ("PUT", f"{SERVERS}/time", {**http, "timeout_s": 5.0, "enabled": False})
    for wrong in ((), ("--to", "https://a/", "--", "b"), ("--env", "nothing", "--", "b")):
        assert run("put", "time", *wrong).exit_code == 2
    servers.answers[f"{SERVERS}/time"] = (200, {"success": True})
    assert run("remove", "time").stdout == "time is removed\n"
