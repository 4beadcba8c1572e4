"""Open streams of one gateway: what each costs in memory, and how soon an event is with all who watch.

The readers are bare sockets in processes of their own, so that measuring costs little beside what is measured: each
keeps of what it reads only when an event came. Times are from an event's own timestamp (when it was decided) to its
arrival, on one machine with one clock.
"""

import asyncio
import json
import resource
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api

TASKS: Final = 20
ROUNDS: Final = 20
"""Events of each task that are measured, one every ``EVERY_S``."""

EVERY_S: Final = 0.5
READERS: Final = 2
"""Processes that the streams' other ends are spread over."""

OPENED_AT_ONCE: Final = 50
FILES: Final = 16_384


class Watch(asyncio.Protocol):
    """One stream's other end."""

    def __init__(self, task_id: str, delays: list[float], ended: list[str]) -> None:
        self._task_id, self._delays, self._ended = task_id, delays, ended
        self._rest = b""
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        path = f"/api/v1/stream/sse?workflow_id={self._task_id}"
        transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.time()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"event: TASK_SCHEDULED") and not self.opened.done():
                self.opened.set_result(None)
            elif line.startswith(b"data: [DONE]"):
                self._ended.append(self._task_id)
            elif line.startswith(b"data: ") and b'"timestamp":"' in line:
                at = line.partition(b'"timestamp":"')[2].partition(b'"')[0].decode()
                self._delays.append(now - datetime.fromisoformat(at).timestamp())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed before it was open"))


async def read_all(port: int, task_ids: list[str]) -> None:
    """A process's part: opens all, says so, waits for all ends; prints the delays of what came after the go."""
    delays: list[float] = []
    ended: list[str] = []
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(OPENED_AT_ONCE)

    async def open_one(task_id: str) -> None:
        async with gate:
            _, watch = await loop.create_connection(lambda: Watch(task_id, delays, ended), "127.0.0.1", port)
            await watch.opened

    await asyncio.gather(*(open_one(task_id) for task_id in task_ids))
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    delays.clear()
    print("going", flush=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(120):
            while len(ended) < len(task_ids):  # noqa: ASYNC110, an event a frame would be measured too
                await asyncio.sleep(0.05)
    print(json.dumps({"delays_ms": [round(delay * 1000, 1) for delay in delays], "ended": len(ended)}), flush=True)


class Readers:
    """Processes that read ``streams`` streams, as many of each task."""

    def __init__(self, port: int, task_ids: list[str], streams: int) -> None:
        watched = [task_ids[number % len(task_ids)] for number in range(streams)]
        self._port = port
        self._parts = [watched[first::READERS] for first in range(READERS)]
        self._processes: list[asyncio.subprocess.Process] = []

    async def open(self) -> None:
        for part in self._parts:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**27,
            )
            self._processes.append(process)
            self._say(process, json.dumps({"port": self._port, "task_ids": part}))
        for process in self._processes:
            await self._heard(process, b"open")

    async def go(self) -> None:
        for process in self._processes:
            self._say(process, "go")
            await self._heard(process, b"going")

    async def results(self) -> tuple[list[float], int]:
        """Delays in ms, in order, and how many streams ended as they should."""
        found = [json.loads(await self._line(process)) for process in self._processes]
        await asyncio.gather(*(process.wait() for process in self._processes))
        return sorted(delay for each in found for delay in each["delays_ms"]), sum(each["ended"] for each in found)

    def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()

    @staticmethod
    def _say(process: asyncio.subprocess.Process, text: str) -> None:
        assert process.stdin is not None
        process.stdin.write(text.encode() + b"\n")

    @staticmethod
    async def _line(process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        async with asyncio.timeout(180):
            return await process.stdout.readline()

    async def _heard(self, process: asyncio.subprocess.Process, word: bytes) -> None:
        line = await self._line(process)
        if line.strip() != word:
            raise RuntimeError(f"a reader of streams said {line!r}, not {word!r}")


async def measure(system: RunningSystem, streams: int) -> list[dict[str, Any]]:
    """Memory per open stream, then delays and CPU while each task's events go to all that watch it."""
    gateway = psutil.Process(system.pids["gateway"])
    async with httpx.AsyncClient(base_url=system.url, timeout=30, trust_env=False) as http:
        api = Api(http)
        task_ids = [await api.submit(kind="echo", run_at="2099-01-01T00:00:00Z") for _ in range(TASKS)]
        readers = Readers(urlsplit(system.url).port or 80, task_ids, streams)
        before = gateway.memory_info().rss
        try:
            began = time.perf_counter()
            await readers.open()
            opened_s = time.perf_counter() - began
            await asyncio.sleep(5)  # the looks at output after opening are over
            open_rss = gateway.memory_info().rss
            await readers.go()
            cpu = sum(gateway.cpu_times()[:2])
            for number in range(ROUNDS):
                await asyncio.gather(
                    *(http.patch(f"/api/v1/tasks/{task_id}", json={"name": f"n{number}"}) for task_id in task_ids)
                )
                await asyncio.sleep(EVERY_S)
            for task_id in task_ids:
                await api.control(task_id, "cancel")
            delays, ended = await readers.results()
            cpu = sum(gateway.cpu_times()[:2]) - cpu
        finally:
            readers.stop()
    if ended != streams or len(delays) < streams * ROUNDS:
        raise RuntimeError(f"{ended} of {streams} streams ended, with {len(delays)} events: this is no measurement")
    return [
        {
            "figure": f"{streams:,} open streams, memory of each",
            "bytes": round((open_rss - before) / streams),
            "gateway_mib_before": round(before / 2**20),
            "gateway_mib_open": round(open_rss / 2**20),
            "gateway_mib_after": round(gateway.memory_info().rss / 2**20),
            "opened_s": round(opened_s, 1),
            "target": "stated",
        },
        {
            "figure": f"an event until it is with all {streams // TASKS} streams of its task, {TASKS} tasks",
            "p50_ms": delays[len(delays) // 2],
            "p99_ms": delays[int(len(delays) * 0.99)],
            "worst_ms": delays[-1],
            "frames": len(delays),
            "cpu_us_per_frame": round(cpu * 1e6 / len(delays)),
            "target": "stated",
        },
    ]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    given = json.loads(sys.stdin.readline())
    asyncio.run(read_all(given["port"], given["task_ids"]))
