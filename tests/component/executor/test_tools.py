"""Calls of tools: real MCP servers, over stdio and streamable HTTP, below an executor's toolbox."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from services.executor.secrets import Secrets
from services.executor.tools.registrations import Registrations
from services.executor.tools.results import MAX_RESULT_BYTES
from services.executor.tools.sessions import Sessions
from services.executor.tools.toolbox import Toolbox
from taskloom.domain.entities.commands import SecretName, ToolServerSpec
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.tool_servers import ToolServer
from taskloom.domain.tools import AllowedTools
from taskloom.kinds import Context, TaskError
from taskloom.secrets import Vault
from taskloom.testing.eventually import eventually

SERVER = str(Path(__file__).parents[2] / "tool_server.py")
STDIO = (sys.executable, SERVER)
TOKEN = "a-word-that-nobody-shall-see"
NOW = datetime(2026, 11, 21, tzinfo=UTC)
CTX = cast(Context, SimpleNamespace(tenant_id="acme"))
LONG_S = 60.0


class Table:
    """The entities that an executor reads."""

    def __init__(self) -> None:
        self.specs: dict[str, ToolServerSpec] = {}
        self.versions: dict[str, int] = {}

    def put(self, name: str, **fields: Any) -> None:
        self.specs[name] = ToolServerSpec(**{"transport": "stdio", "command": STDIO, **fields})
        self.versions[name] = self.versions.get(name, 0) + 1

    async def get(self, tenant_id: str, name: str) -> Entity | None:
        if tenant_id != "acme" or name not in self.specs:
            return None
        value = ToolServer(self.specs[name])
        return Entity(f"@tool-server/acme/{name}", self.versions[name], b"", tenant_id, NOW, NOW, value)

    async def names(self, tenant_id: str) -> list[str]:
        return sorted(self.specs) if tenant_id == "acme" else []

    async def close(self) -> None:
        pass


class Sealed:
    async def find(self, tenant_id: str, names: list[str]) -> dict[str, bytes]:
        return {name: Vault(("k" * 32,)).seal(tenant_id, name, TOKEN) for name in names if name == "token"}


class Tools:
    def __init__(
        self, commands: tuple[str, ...] = (f"{sys.executable} *",), most: int = 8, idle_s: float = 3600
    ) -> None:
        self.table = Table()
        self.sessions = Sessions(most=most, idle_s=idle_s, start_timeout_s=LONG_S, commands=commands)
        self.registrations = Registrations(self.table, Secrets(Vault(("k" * 32,)), Sealed()))
        self.box = Toolbox(self.registrations, self.sessions)

    def put(self, name: str = "tests", **fields: Any) -> None:
        self.table.put(name, **fields)
        self.registrations._kept.clear()

    async def call(self, tool: str, server: str = "tests", allowed: Any = None, **args: Any) -> Any:
        return await self.box.call(CTX, server, tool, args, allowed)

    async def refused(self, tool: str, server: str = "tests", allowed: Any = None, **args: Any) -> TaskError:
        with pytest.raises(TaskError) as caught:
            await self.call(tool, server, allowed, **args)
        return caught.value


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    made = Tools()
    made.put()
    yield made
    await made.box.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serve(port: int) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([*STDIO, str(port)]))
        return started[-1]

    yield begin
    for server in started:
        server.kill()
        server.wait()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_a_server_of_the_package_index_tells_the_time_and_its_process_is_used_again(tools: Tools) -> None:
    tools.put("time", command=(sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"))
    done = await tools.call("convert_time", "time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo")
    assert "21:00" in str(done.result["target"]["datetime"])
    assert (done.server, done.tool, done.status, done.truncated) == ("time", "convert_time", "success", False)
    session = next(iter(tools.sessions._open.values()))
    wrong = await tools.refused("convert_time", "time", source_timezone="UTC", time="12:00")
    assert wrong.type == "invalid_arguments"
    assert not wrong.retryable
    assert wrong.details == {"field": "input.args.target_timezone"}
    failed = await tools.refused(
        "convert_time", "time", source_timezone="Atlantis", time="12:00", target_timezone="Asia/Tokyo"
    )
    assert failed.type == "tool_failed"
    assert failed.retryable
    assert list(tools.sessions._open.values()) == [session]


async def test_results_and_failures_of_a_server_over_stdio(tools: Tools, tmp_path: Path) -> None:
    tools.put(env={"TOKEN": SecretName("token"), "PLAIN": "plain"}, idempotent=("crash",))
    assert (await tools.call("add", a=1, b=2)).result == {"total": 3}
    assert (await tools.call("say", value="hello")).result == "hello"
    wrong = await tools.refused("add", a="one", b=2)
    assert wrong.details == {"field": "input.args.a"}
    for args in ({"value": {"secret": "token"}}, {"value": [{"deep": {"secret": "token"}}]}):
        denied = await tools.refused("say", **args)
        assert denied.type == "invalid_arguments"
        assert "take secrets" in denied.message
    failed = await tools.refused("fail")
    assert failed.type == "tool_failed"
    assert failed.retryable
    assert "no such luck, ***" in failed.message
    assert TOKEN not in failed.message
    assert (await tools.call("environment", name="TOKEN")).result == "***"
    assert (await tools.call("environment", name="PLAIN")).result == "plain"
    assert (await tools.call("environment", name="TASKLOOM_DATABASE_DSN")).result == ""
    long = await tools.call("huge", size=MAX_RESULT_BYTES + 1)
    assert long.truncated
    assert len(long.result) <= MAX_RESULT_BYTES
    assert long.result.endswith("4194304 are kept]")
    told = await tools.call("hostile")
    assert told.result["secret"] == "token"
    unknown = await tools.refused("no_such_tool")
    assert unknown.type == "tool_denied"
    assert not unknown.retryable
    # Over the bound of a message the connection ends; what the tool did is not known.
    beyond = await tools.refused("huge", size=17 * 1024 * 1024)
    assert beyond.type == "tool_server_unavailable"
    assert not beyond.retryable
    # A server that dies is started again, and the call repeated only where that was said to be right.
    notes = tmp_path / "notes"
    died = await tools.refused("crash", notes=str(notes))
    assert died.type == "tool_server_unavailable"
    assert died.retryable
    assert (await tools.call("add", a=1, b=2)).result == {"total": 3}
    tools.put(idempotent=())
    died = await tools.refused("crash", notes=str(notes))
    assert not died.retryable
    assert "not called again" in died.message
    assert notes.read_text() == "called\ncalled\n"


async def test_lists_that_were_pinned_and_the_live_registration_both_hold(tools: Tools) -> None:
    pinned = {"tests": AllowedTools(("add", "hostile"))}
    assert (await tools.call("add", allowed=pinned, a=1, b=2)).result == {"total": 3}
    before = dict(pinned)
    await tools.call("hostile", allowed=pinned)
    assert pinned == before
    assert {(each.server, each.name) for each in await tools.box.describe("acme", pinned)} == {
        ("tests", "add"),
        ("tests", "hostile"),
    }
    for server, tool in (("tests", "say"), ("taskloom", "shell"), ("other", "add")):
        assert (await tools.refused(tool, server, pinned)).type == "tool_denied"
    tools.put(tools=("say",))
    assert (await tools.refused("add", allowed=pinned, a=1, b=2)).type == "tool_denied"
    everything = {(each.server, each.name) for each in await tools.box.describe("acme", None)}
    assert {("tests", "say"), ("taskloom", "shell"), ("taskloom", "sql")} <= everything
    assert ("tests", "add") not in everything
    tools.put(enabled=False)
    assert (await tools.refused("say", value=1)).type == "tool_denied"
    assert await tools.box.describe("globex", pinned) == []
    other = cast(Context, SimpleNamespace(tenant_id="globex"))
    with pytest.raises(TaskError, match="no tool server"):
        await tools.box.call(other, "tests", "say", {"value": 1})


async def test_what_a_server_may_be_is_the_operators_choice() -> None:
    closed = Tools(commands=("mcp-server-time", "uvx mcp-server-*"))
    closed.put()
    for command in (STDIO, ("bash", "-c", "mcp-server-time"), ("uvx", "mcp-server-time;", "id"), ("mcp-server-time ",)):
        closed.put(command=command)
        error = await closed.refused("add", a=1, b=2)
        if command[0] == "uvx":
            continue  # one argument that holds a semicolon is still an argument: there is no shell
        assert error.type == "tool_denied"
        assert "TASKLOOM_MCP_COMMANDS" in error.message
    await closed.box.close()


async def test_a_call_that_takes_too_long_or_is_cancelled_is_stopped(tools: Tools, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    tools.put(timeout_s=LONG_S)
    await tools.call("add", a=1, b=2)
    calling = asyncio.create_task(tools.call("slow", notes=str(notes)))
    await eventually(lambda: notes.exists() and notes.read_text() == "began\n", timeout_s=LONG_S)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await eventually(lambda: notes.read_text() == "began\ncancelled\n", timeout_s=LONG_S)
    assert (await tools.call("add", a=1, b=2)).result == {"total": 3}
    assert tools.sessions.size == 1
    # The same session, which has listed its tools: only the call runs into this limit.
    registered = next(iter(tools.sessions._open.values())).registered
    hasty = structs.replace(registered, spec=structs.replace(registered.spec, timeout_s=0.2))
    tools.registrations._kept["acme", "tests"] = float("inf"), hasty
    late = await tools.refused("slow", notes=str(notes))
    assert late.type == "tool_timeout"
    assert not late.retryable
    pinned = {"tests": AllowedTools(None, ("slow",))}
    assert (await tools.refused("slow", allowed=pinned, notes=str(notes))).retryable


async def test_connections_are_bounded_and_closed_when_nobody_uses_them(tmp_path: Path) -> None:
    few = Tools(most=1)
    few.put("a")
    few.put("b")
    notes = tmp_path / "notes"
    busy = asyncio.create_task(few.call("slow", "a", notes=str(notes)))
    await eventually(notes.exists, timeout_s=LONG_S)
    full = await few.refused("add", "b", a=1, b=2)
    assert full.type == "tool_server_unavailable"
    assert full.retryable
    assert "TASKLOOM_MCP_SESSIONS" in full.message
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    assert (await few.call("add", "b", a=1, b=2)).result == {"total": 3}
    assert few.sessions.size == 1
    few.sessions._idle_s = 0.01
    few.sessions._looking.cancel()  # type: ignore[union-attr]
    looking = asyncio.create_task(few.sessions._look())
    await eventually(lambda: few.sessions.size == 0, timeout_s=LONG_S)
    looking.cancel()
    await few.box.close()


async def test_nothing_of_a_server_outlives_its_session(tools: Tools, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    await tools.call("start", notes=str(notes))
    pids = [int(line) for line in notes.read_text().split()]
    assert len(pids) == 2
    assert all(map(lives, pids))
    await tools.box.close()
    await eventually(lambda: not any(map(lives, pids)), timeout_s=LONG_S)


OWNER = """
import asyncio, sys
sys.path[:0] = {path!r}
from tests.component.executor.test_tools import Tools

async def main():
    tools = Tools()
    tools.put()
    await tools.call("start", notes={notes!r})
    await tools.call("slow", notes={notes!r})

asyncio.run(main())
"""


async def test_nothing_of_a_server_outlives_an_executor_that_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    code = OWNER.format(path=sys.path, notes=str(notes))
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await eventually(lambda: notes.exists() and "began" in notes.read_text(), timeout_s=LONG_S)
    pids = [int(line) for line in notes.read_text().split() if line.isdigit()]
    assert len(pids) == 2
    assert all(map(lives, pids))
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    await eventually(lambda: not any(map(lives, pids)), timeout_s=LONG_S)


async def test_a_server_that_cannot_be_started_says_why(tools: Tools) -> None:
    tools.put(command=(sys.executable, "-c", "import sys; sys.exit('there is no licence')"))
    error = await tools.refused("add", a=1, b=2)
    assert error.type == "tool_server_unavailable"
    assert error.retryable
    assert "there is no licence" in error.message
    tools.put(transport="http", command=(), url="http://127.0.0.1:1/mcp")
    error = await tools.refused("add", a=1, b=2)
    assert error.type == "tool_server_unavailable"
    assert error.retryable
    assert "connect" in error.message


async def test_a_server_over_http_is_used_again_and_found_again_after_its_restart(
    tools: Tools, serve: Callable[[], subprocess.Popen[bytes]], port: int, tmp_path: Path
) -> None:
    first = serve()
    tools.put(
        transport="http", command=(), url=f"http://127.0.0.1:{port}/mcp", headers={"X-Token": SecretName("token")}
    )
    notes = tmp_path / "notes"
    await eventually(lambda: _answers(port), timeout_s=LONG_S)
    assert (await tools.call("add", a=1, b=2)).result == {"total": 3}
    assert (await tools.call("count", notes=str(notes))).result == 1
    assert (await tools.refused("fail")).type == "tool_failed"
    assert (await tools.call("huge", size=2 * 1024 * 1024)).truncated is False
    assert (await tools.refused("huge", size=17 * 1024 * 1024)).retryable is False
    # Away while nothing was under way: nothing was sent, so trying again is right whatever the tool is.
    first.kill()
    first.wait()
    away = await tools.refused("count", notes=str(notes))
    assert away.type == "tool_server_unavailable"
    assert away.retryable
    second = serve()
    await eventually(lambda: _answers(port), timeout_s=LONG_S)
    assert (await tools.call("count", notes=str(notes))).result == 2
    # Gone in the middle of a call: nobody knows.
    calling = asyncio.create_task(tools.refused("slow", notes=str(notes)))
    await eventually(lambda: "began" in notes.read_text(), timeout_s=LONG_S)
    second.kill()
    lost = await calling
    assert lost.type == "tool_server_unavailable"
    assert not lost.retryable


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
