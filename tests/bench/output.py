"""Output and cancel through nodelink's door: how fast output reaches a subscriber, how soon a command is heard, and how
soon after a cancel nothing of it runs.

The subscriber is a process of its own, which reads frames as they come and counts what they carry; it starts its clock
with the first one. Process groups are looked at from here, every millisecond, on the same machine.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from taskloom.testing.processes import RunningSystem
from tests.bench.system import cpu_seconds, difference

AGENT: Final = "executor-1"
MIB: Final = 2**20
WARM_UP_MIB: Final = 8
ONE_MIB: Final = 256
MANY: Final = 100
EACH_MIB: Final = 2
STARTS: Final = 200
CANCELS: Final = 200
CANCELS_AT_ONCE: Final = 10
STUBBORN_AT_ONCE: Final = 25
GRACE_S: Final = 5.0
LOOK_EVERY_S: Final = 0.001

LINE: Final = "The quick brown fox jumps over the lazy dog 0123456789 \\"
"""63 characters and a line feed; one of them has to be escaped."""


class _Data(Struct):
    output: str
    is_final: bool


class _Result(Struct):
    data: _Data


class _Response(Struct):
    result: _Result
    status: str


class _Event(Struct):
    event_response: _Response


_decoder = msgspec.json.Decoder(_Event)


class Subscriber:
    """Reads one stream to its end over a bare socket."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.bytes = 0
        self.first_at = self.last_at = 0.0
        self.status = ""

    async def read(self, task_id: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=8 * MIB)
        writer.write(f"GET /stream?ref={task_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async for line in reader:
            if line.startswith(b"data: "):
                self._take(line)
            if self.status:
                break
        writer.close()

    def _take(self, line: bytes) -> None:
        now = time.time()
        response = _decoder.decode(line[6:]).event_response
        self.first_at = self.first_at or now
        self.bytes += len(response.result.data.output.encode())
        if response.result.data.is_final:
            self.last_at, self.status = now, response.status


async def subscribe(port: int, task_ids: list[str]) -> None:
    """A process's part: reads all streams at once and prints what came of them."""
    subscribers = [Subscriber(port) for _ in task_ids]
    await asyncio.gather(*(each.read(task_id) for each, task_id in zip(subscribers, task_ids, strict=True)))
    told = {
        "bytes": sum(each.bytes for each in subscribers),
        "first_at": min(each.first_at for each in subscribers),
        "last_at": max(each.last_at for each in subscribers),
        "statuses": sorted({each.status for each in subscribers}),
    }
    print(json.dumps(told), flush=True)


async def subscribed(port: int, task_ids: list[str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate(json.dumps({"port": port, "task_ids": task_ids}).encode())
    found: dict[str, Any] = json.loads(said)
    return found


async def shell(http: httpx.AsyncClient, cmd: str, agent_id: str = AGENT) -> str:
    answer = await http.post("/tasks/shell", json={"agent_id": agent_id, "cmd": cmd, "timeout": 600})
    answer.raise_for_status()
    return str(answer.json()["task_id"])


def writing(mib: int) -> str:
    return f"yes '{LINE}' | head -c {mib * MIB}"


async def throughput(
    system: RunningSystem, http: httpx.AsyncClient, tasks: int, mib: int, on: Sequence[str] = (AGENT,)
) -> dict[str, Any]:
    """MB/s (10**6) of output, from the first piece that a subscriber had to the last one; all that was written came.
    The tasks run on these agents by turns."""
    port = urlsplit(system.url).port or 80
    before = cpu_seconds(system)
    task_ids = list(await asyncio.gather(*(shell(http, writing(mib), on[number % len(on)]) for number in range(tasks))))
    found = await subscribed(port, task_ids)
    used = difference(cpu_seconds(system), before)
    expected = tasks * mib * MIB
    if found["bytes"] != expected or found["statuses"] != ["SUCCESS"]:
        raise RuntimeError(f"{found['bytes']} of {expected} bytes came, {found['statuses']}: this is no measurement")
    seconds = found["last_at"] - found["first_at"]
    return {
        "figure": f"output of {tasks} tasks at once to a subscriber each, {mib} MiB each"
        if tasks > 1
        else f"output of one task to a subscriber, {mib} MiB",
        "mb_per_s": round(expected / 1e6 / seconds, 1),
        "seconds": round(seconds, 2),
        "cpu_s_by_process": {name: round(each, 2) for name, each in used.items()},
        "target": ">= 20 MB/s" if tasks == 1 else "stated",
    }


async def starts(system: RunningSystem, http: httpx.AsyncClient) -> dict[str, Any]:
    """From the request that submits a command to the first byte of its output at a subscriber; and, of that, the time
    until the command itself ran, by its own clock."""
    delays, begun = [], []
    for _ in range(STARTS):
        began = time.time()
        task_id = await shell(http, "echo $EPOCHREALTIME")
        async with http.stream("GET", "/stream", params={"ref": task_id}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    delays.append(time.time() - began)
                    begun.append(float(json.loads(line[6:])["shellExecute"]["stdout"]) - began)
                    break
    delays.sort()
    return {
        "figure": "shell start, submit until the first byte is with a subscriber",
        "p50_ms": round(delays[len(delays) // 2] * 1000, 1),
        "p99_ms": round(delays[int(len(delays) * 0.99)] * 1000, 1),
        "command_runs_p50_ms": round(statistics.median(begun) * 1000, 1),
        "target": "p50 <= 60 ms",
    }


def group_lives(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    return True


async def one_cancel(http: httpx.AsyncClient, cmd: str) -> float:
    """Seconds from the request until no process of the group is left."""
    task_id = await shell(http, cmd)
    pgid = 0
    async with http.stream("GET", "/stream", params={"ref": task_id}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                pgid = int(json.loads(line[6:])["shellExecute"]["stdout"])
                break
    began = time.perf_counter()
    cancelling = asyncio.create_task(http.delete(f"/tasks/{task_id}"))
    while group_lives(pgid):
        if time.perf_counter() - began > 60:
            raise RuntimeError(f"the process group {pgid} lives on a minute after its cancel")
        await asyncio.sleep(LOOK_EVERY_S)
    took = time.perf_counter() - began
    (await cancelling).raise_for_status()
    return took


async def cancels(http: httpx.AsyncClient, name: str, cmd: str, at_once: int, target: str) -> dict[str, Any]:
    gate = asyncio.Semaphore(at_once)

    async def gated() -> float:
        async with gate:
            return await one_cancel(http, cmd)

    taken = sorted(await asyncio.gather(*(gated() for _ in range(CANCELS))))
    return {
        "figure": f"cancel until the process group is gone, {name}, {CANCELS} cancels, {at_once} at once",
        "p50_ms": round(taken[len(taken) // 2] * 1000, 1),
        "p99_ms": round(taken[int(len(taken) * 0.99)] * 1000, 1),
        "target": target,
    }


async def measure(system: RunningSystem, note: Any) -> None:
    limits = httpx.Limits(max_connections=4 * MANY)
    async with httpx.AsyncClient(base_url=system.url, timeout=120, trust_env=False, limits=limits) as http:
        await throughput(system, http, 1, WARM_UP_MIB)
        note(await starts(system, http))
        note(await throughput(system, http, 1, ONE_MIB))
        note(await throughput(system, http, MANY, EACH_MIB))
        obeying = "echo $$; sleep 1000 & sleep 1000 & wait"
        note(await cancels(http, "SIGTERM obeyed", obeying, CANCELS_AT_ONCE, "p99 <= 1,000 ms"))
        stubborn = "trap '' TERM; echo $$; while true; do sleep 1000; done"
        most = f"p99 <= {1000 * (GRACE_S + 1):,.0f} ms"
        note(await cancels(http, f"SIGTERM ignored, grace {GRACE_S:g} s", stubborn, STUBBORN_AT_ONCE, most))


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    asyncio.run(subscribe(given["port"], given["task_ids"]))
