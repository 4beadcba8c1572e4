"""Output of tasks on agents: real ``taskloom agent`` processes behind links, on the same machine."""

import asyncio
import os
import sys
from typing import Any, Final

import httpx
import psutil

from taskloom.testing.processes import RunningSystem
from tests.bench import agents, output

MANY: Final = 20
ONE_MIB: Final = 256
EACH_MIB: Final = 16


class Machines:
    """So many agents, online until the end of the block."""

    def __init__(self, system: RunningSystem, count: int) -> None:
        self._system, self._count = system, count
        self._running: dict[str, asyncio.subprocess.Process] = {}

    @property
    def names(self) -> list[str]:
        return list(self._running)

    async def __aenter__(self) -> "Machines":
        tokens = await agents.enrolled(self._system.url, self._count)
        for name, token in tokens.items():
            self._running[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "taskloom", "agent", "--id", name, f"--url={self._system.url}"),
                env={**os.environ, "TASKLOOM_AGENT_TOKEN": token, "TASKLOOM_LOG_LEVEL": "warning"},
            )
        await agents.until_online(self._system.url, self._count)
        return self

    async def __aexit__(self, *_: object) -> None:
        for running in self._running.values():
            running.terminate()
        await asyncio.gather(*(running.wait() for running in self._running.values()))

    def cpu_s(self) -> float:
        """Used so far by all of them, with what they run."""
        used = 0.0
        for running in self._running.values():
            agent = psutil.Process(running.pid)
            for process in (agent, *agent.children(recursive=True)):
                times = process.cpu_times()
                used += times.user + times.system
        return used


async def measure(system: RunningSystem) -> list[dict[str, Any]]:
    """One task on one agent, and one on each of 20 agents at once."""
    limits = httpx.Limits(max_connections=4 * MANY)
    async with (
        Machines(system, MANY) as machines,
        httpx.AsyncClient(base_url=system.url, timeout=120, trust_env=False, limits=limits) as http,
    ):
        await output.throughput(system, http, MANY, 1, machines.names)
        found = []
        for tasks, mib in ((1, ONE_MIB), (MANY, EACH_MIB)):
            before = machines.cpu_s()
            figure = await output.throughput(system, http, tasks, mib, machines.names)
            figure["figure"] += " over the link of an agent" if tasks == 1 else ", each over the link of another agent"
            figure["cpu_s_by_process"]["agents"] = round(machines.cpu_s() - before, 2)
            found.append(figure)
        return found
