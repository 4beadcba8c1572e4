"""Agents linked to one gateway: what they cost in memory and CPU, and how soon they are back after it was killed.

The agents are the real client of a link with real heartbeats, many in each of a few processes, without executors behind
them: what is measured is the gateway's end.
"""

import asyncio
import json
import resource
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import httpx
import msgspec
import psutil

from services.executor.link.client import Link
from services.executor.link.host import Host
from services.executor.link.settings import AgentSettings
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord
from taskloom.telemetry import configure_logging
from taskloom.testing.processes import RunningSystem
from taskloom.wire.messages import ExecutorHeartbeat

BEAT_S: Final = 5.0
WATCHED_S: Final = 30.0
HOSTS: Final = 2
"""Processes that the agents are spread over."""

FILES: Final = 16_384


async def agent(agent_id: str, token: str, url: str, host: Host) -> None:
    """Keeps a link and beats."""
    settings = AgentSettings(executor_id=agent_id, agent_token=token, gateway_urls=(url,), reconnect_most_s=2)
    link = Link(settings, uuid4().hex)
    keeping = asyncio.create_task(link.run())
    await link.opened()
    beat = ExecutorHeartbeat(
        executor_id=link.executor_id,
        incarnation="",
        status="ready",
        at=datetime.now(UTC),
        kinds=("echo", "http", "python", "query", "shell", "sleep"),
        labels={"bench": "yes"},
        slots=100,
        host="bench",
        version="0",
        started_at=datetime.now(UTC),
    )
    while not keeping.done():
        told = msgspec.structs.replace(beat, metrics=host.measure())
        try:
            await link.heartbeats.publish([OutRecord("", 0, b"", msgspec.json.encode(told))])
        except BusUnavailable:
            await asyncio.sleep(0.2)
        else:
            await asyncio.sleep(BEAT_S)


async def host_of(url: str, tokens: dict[str, str]) -> None:
    """A process's part: runs its agents until it is killed."""
    host = Host()
    await asyncio.gather(*(agent(name, token, url, host) for name, token in tokens.items()))


class Hosts:
    """The processes with the agents."""

    def __init__(self, url: str, tokens: dict[str, str]) -> None:
        self._url, self._tokens = url, tokens
        self._running: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> "Hosts":
        every = list(self._tokens.items())
        for number in range(HOSTS):
            running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.agents", self._url), stdin=asyncio.subprocess.PIPE
            )
            assert running.stdin is not None
            running.stdin.write(json.dumps(dict(every[number::HOSTS])).encode())
            running.stdin.close()
            self._running.append(running)
        return self

    async def __aexit__(self, *_: object) -> None:
        for running in self._running:
            running.kill()
        await asyncio.gather(*(running.wait() for running in self._running))


async def online(http: httpx.AsyncClient, since: datetime | None = None) -> int:
    found = (await http.get("/api/v1/agents", params={"category": "agent"})).json()["agents"]
    machines = [each["machine"] for each in found if each["machine"]["status"] == "online"]
    seen = [datetime.fromisoformat(each["last_seen_at"]) for each in machines]
    return sum(since is None or at > since for at in seen)


async def until_online(url: str, count: int, since: datetime | None = None) -> float:
    """Seconds until so many are, heard after ``since``."""
    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
        while True:
            try:
                if await online(http, since) >= count:
                    return time.perf_counter() - began
            except (httpx.HTTPError, KeyError):
                pass  # the gateway is being started
            await asyncio.sleep(0.25)


async def enrolled(url: str, count: int) -> dict[str, str]:
    """Tokens by agent."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        gate = asyncio.Semaphore(20)

        async def one(name: str) -> tuple[str, str]:
            async with gate:
                answer = await http.post(f"/api/v1/agents/{name}/token")
                answer.raise_for_status()
                return name, str(answer.json()["token"])

        return dict(await asyncio.gather(*(one(f"bench-{number:04}") for number in range(count))))


def cpu_s(system: RunningSystem) -> dict[str, float]:
    found = {}
    for name, pid in system.pids.items():
        times = psutil.Process(pid).cpu_times()
        found[name] = times.user + times.system
    return found


async def watched(system: RunningSystem) -> dict[str, float]:
    """CPU of each process as per cent of a core, over 30 s."""
    before = cpu_s(system)
    await asyncio.sleep(WATCHED_S)
    after = cpu_s(system)
    return {name: round(100 * (after[name] - before[name]) / WATCHED_S, 1) for name in after}


def pss_bytes(system: RunningSystem) -> int:
    return int(psutil.Process(system.pids["gateway"]).memory_full_info().pss)


async def measure(system: RunningSystem, count: int) -> list[dict[str, Any]]:
    """Memory, CPU, and the time to be back."""
    tokens = await enrolled(system.url, count)
    idle, without = await watched(system), pss_bytes(system)
    async with Hosts(system.url, tokens):
        connected_s = await until_online(system.url, count)
        busy, with_all = await watched(system), pss_bytes(system)
        killed_at = datetime.now(UTC)
        system.kill_process("gateway")
        back_s = await until_online(system.url, count, killed_at)
    each = {name: round((busy[name] - idle[name]) / count, 4) for name in ("gateway", "orchestrator-1", "projection-1")}
    return [
        {
            "figure": f"memory of the gateway for each of {count} linked agents (PSS)",
            "bytes": (with_all - without) // count,
            "target": "stated",
        },
        {
            "figure": f"CPU for {count} agents that beat every {BEAT_S:g} s, of a core",
            "gateway_percent": round(busy["gateway"] - idle["gateway"], 1),
            "percent_by_process": busy,
            "percent_idle": idle,
            "percent_each": each,
            "target": "stated",
        },
        {
            "figure": f"{count} agents: all online after their start; gateway killed: all back (started anew by up)",
            "connected_s": round(connected_s, 1),
            "back_s": round(back_s, 1),
            "target": "stated",
        },
    ]


if __name__ == "__main__":
    configure_logging("bench", level="error", log_format="console")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    asyncio.run(host_of(sys.argv[1], json.loads(sys.stdin.read())))
