"""Agents as processes, and a network between them and the gateway that can be cut."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from taskloom.local.child import ManagedProcess
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, door

SKEWED: Final = """
import datetime, sys
from services.executor import output, register
from services.executor.link import client
class Ahead:
    @staticmethod
    def now(tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(hours={hours})
for module in (output, register, client):
    module.datetime = Ahead
sys.argv = ["taskloom", *sys.argv[1:]]
from taskloom.cli.main import app
app()
"""
"""A program that runs the command line with the agent's clocks set wrong."""


class Agent(ManagedProcess):
    """``taskloom agent``. Ready when the gateway says that it is online."""

    start_timeout_s = 60.0

    def __init__(
        self,
        system: RunningSystem,
        home: Path,
        agent_id: str,
        token: str,
        *urls: str,
        hours: float = 0,
        **settings: Any,
    ) -> None:
        super().__init__(agent_id, home / f"{agent_id}-{len(list(home.iterdir()))}.log")
        self._system = system
        self._urls, self._hours = urls or (system.url,), hours
        self._settings = {"TASKLOOM_AGENT_TOKEN": token}
        self._settings |= {f"TASKLOOM_{name.upper()}": str(value) for name, value in settings.items()}

    async def prepare(self) -> None:
        """Nothing: it keeps no files."""

    def command(self) -> list[str]:
        program = ["-c", SKEWED.format(hours=self._hours)] if self._hours else ["-m", "taskloom"]
        return [sys.executable, *program, "agent", "--id", self.name, *(f"--url={url}" for url in self._urls)]

    def environment(self) -> dict[str, str]:
        short = {"TASKLOOM_RECONNECT_FIRST_S": "0.1", "TASKLOOM_RECONNECT_MOST_S": "0.5", "TASKLOOM_HEARTBEAT_S": "1"}
        return dict(os.environ) | short | self._settings

    async def is_ready(self) -> bool:
        """Online, and by a process of ours: it says so in its log."""
        async with door(self._system) as api:
            found = (await api.get(f"/agents/{self.name}"))["machine"]
        return found["status"] == "online" and '"event":"started"' in self.log_path.read_text()


async def enroll(api: Api, agent_id: str) -> str:
    """A token."""
    answer = await api.http.post(f"/api/v1/agents/{agent_id}/token")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@asynccontextmanager
async def running_agent(agent: Agent) -> AsyncIterator[Agent]:
    try:
        await agent.start()
        yield agent
    finally:
        await agent.stop(15.0)


class Network:
    """A TCP proxy in front of a gateway. ``cut``: all connections are dropped, and no new ones are taken."""

    def __init__(self, url: str) -> None:
        self._to = (urlsplit(url).hostname, urlsplit(url).port)
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.is_cut = False

    async def __aenter__(self) -> "Network":
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.is_cut = False

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(*self._to)
        self._writers |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            pipe = asyncio.create_task(self._pump(source, target))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        self._writers.discard(target)
        target.close()
