"""What the end-to-end tests share: the HTTP door in few words, further executors, and /proc."""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from taskloom.local.child import ManagedProcess
from taskloom.local.ports import free_ports
from taskloom.local.services import ServiceProcess
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem

ENDS: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})
TASKS: Final = "/api/v1/tasks"
Json = dict[str, Any]


class Api:
    """The HTTP door as one tenant sees it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def submit(self, headers: Mapping[str, str] | None = None, **body: Any) -> str:
        """Id of a task that was taken."""
        answer = await self.http.post(TASKS, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    async def get(self, path: str, **query: Any) -> Json:
        """JSON of a read that must succeed; ``path`` below /api/v1."""
        answer = await self.http.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        body: Json = answer.json()
        return body

    async def task(self, task_id: str, **query: Any) -> Json:
        return await self.get(f"/tasks/{task_id}", **query)

    async def control(self, task_id: str, verb: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"{TASKS}/{task_id}/{verb}", json=body)

    async def until(self, task_id: str, *states: str, timeout_s: float = 60.0) -> Json:
        """The task, once it is in one of the states; fails at once when it ended in another one."""

        async def reached() -> Json | None:
            task = await self.task(task_id)
            if task["state"] in states:
                return task
            if task["state"] in ENDS:
                raise RuntimeError(f"{task_id} ended as {task['state']}: {task.get('error')}")
            return None

        return await eventually(reached, timeout_s) or {}

    async def ended(self, task_id: str, timeout_s: float = 60.0) -> Json:
        return await self.until(task_id, *ENDS, timeout_s=timeout_s)

    async def events(self, task_id: str, **query: Any) -> list[Json]:
        """All events of a task, page by page."""
        found: list[Json] = []
        while page := (await self.get(f"/tasks/{task_id}/events", limit=200, offset=len(found), **query))["events"]:
            found += page
        return found

    async def types(self, task_id: str) -> list[str]:
        """Types of the stored events in order, signs of life and output left out."""
        left_out = {"PROGRESS", "OUTPUT_STARTED"}
        return [event["type"] for event in await self.events(task_id) if event["type"] not in left_out]


@asynccontextmanager
async def door(system: RunningSystem, tenant: str = "") -> AsyncIterator[Api]:
    headers = {"X-Tenant-Id": tenant} if tenant else {}
    async with httpx.AsyncClient(base_url=system.url, timeout=30, trust_env=False, headers=headers) as http:
        yield Api(http)


class FurtherExecutor(ManagedProcess):
    """An executor beside those of the system, for queues of its own. Ready when it is in the list of executors."""

    start_timeout_s = 120.0

    def __init__(self, system: RunningSystem, home: Path, executor_id: str, **settings: Any) -> None:
        super().__init__(executor_id, home / f"{executor_id}.log")
        self._system = system
        self._settings = {f"TASKLOOM_{name.upper()}": str(value) for name, value in settings.items()}

    async def prepare(self) -> None:
        """Nothing: it keeps no files."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "taskloom", "executor"]

    def environment(self) -> dict[str, str]:
        system = self._system
        own = {
            "TASKLOOM_EXECUTOR_ID": self.name,
            "TASKLOOM_KAFKA_BOOTSTRAP": system.bootstrap,
            "TASKLOOM_DATABASE_DSN": system.dsn,
            "TASKLOOM_TOPIC_PREFIX": str(system.run["topic_prefix"]),
        }
        return dict(os.environ) | own | self._settings

    async def is_ready(self) -> bool:
        async with door(self._system) as api:
            found = (await api.get("/executors"))["executors"]
        return any(each["executor_id"] == self.name and each["status"] == "ready" for each in found)


@asynccontextmanager
async def further_executor(
    system: RunningSystem, home: Path, executor_id: str, **settings: Any
) -> AsyncIterator[FurtherExecutor]:
    """Runs one until the end of the block. ``settings`` are those of an executor: queues, slots, prefetch, …"""
    executor = FurtherExecutor(system, home, executor_id, **settings)
    try:
        await executor.start()
        yield executor
    finally:
        await executor.stop(15.0)


@asynccontextmanager
async def further_gateway(
    system: RunningSystem, home: Path, name: str, **settings: Any
) -> AsyncIterator[ServiceProcess]:
    """Runs a gateway beside that of the system until the end of the block, on a port of its own."""
    [port] = free_ports(1)
    own = {
        "TASKLOOM_INSTANCE": name,
        "TASKLOOM_HTTP_PORT": str(port),
        "TASKLOOM_KAFKA_BOOTSTRAP": system.bootstrap,
        "TASKLOOM_DATABASE_DSN": system.dsn,
        "TASKLOOM_TOPIC_PREFIX": str(system.run["topic_prefix"]),
    }
    further = {f"TASKLOOM_{key.upper()}": str(value) for key, value in settings.items()}
    gateway = ServiceProcess("gateway", name, port=port, logs=home, environment=own | further)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop(15.0)


def processes_with(marker: str) -> list[int]:
    """Processes that carry ``marker`` in their environment or command line, from /proc; zombies have neither."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in told:
                found.append(int(entry.name))
    return found


async def all_processes_gone(marker: str, timeout_s: float = 60.0) -> None:
    await eventually(lambda: not processes_with(marker), timeout_s)


async def row_is(api: Api, task_id: str, **fields: Any) -> None:
    """Returns when the task's row has these values."""

    async def has() -> bool:
        task = await api.task(task_id)
        for name, value in fields.items():
            assert task.get(name) == value, f"{name} is {task.get(name)!r}"
        return True

    await eventually(partial(has))
