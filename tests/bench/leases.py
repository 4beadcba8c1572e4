"""What limits cost: tasks with concurrency keys beside tasks without, in turn, in one running system.

``python -m tests.bench.leases [orchestrators] [tasks] [turns]``; a JSON line a turn and shape, then the medians.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from taskloom.bus.publish import OutRecord, Publisher
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import Concurrency
from taskloom.testing.processes import RunningSystem
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, encode_command
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import Topics, partition_of
from tests.bench import load
from tests.bench.system import SETTINGS

Key = Callable[[int], Concurrency | None]
SHAPES: dict[str, tuple[float, Key]] = {
    "no key": (1, lambda number: None),
    "100 keys with room for all": (1, lambda number: Concurrency(f"wide-{number % 100}", 100_000)),
    "100 keys with one place each": (0.5, lambda number: Concurrency(f"narrow-{number % 100}", 1)),
    "one key with one place": (0.04, lambda number: Concurrency("one", 1)),
}
"""Share of the tasks, and each task's key."""


def record(session: str, number: int, key: Concurrency | None) -> OutRecord:
    task_id = f"{session}-{number}"
    command = SubmitTask(kind="echo", input=load.PAYLOAD, session_id=session, concurrency=key)
    attributes = Attributes(id=f"submit-{task_id}", type="taskloom.task.submit.v1", source="bench")
    encoded = encode_command(Envelope(task_id, command, attributes))
    return OutRecord(Topics("taskloom").commands, partition_of(task_id, load.PARTITIONS), *encoded)


async def run(system: RunningSystem, tasks: int, key: Key) -> tuple[str, float]:
    """The session, and tasks a second until all were seen completed."""
    publisher = Publisher(system.bootstrap, "bench")
    await publisher.start()
    session = f"bench-{uuid.uuid4().hex[:12]}"
    started = time.perf_counter()
    try:
        for first in range(0, tasks, load.BATCH):
            numbers = range(first, min(first + load.BATCH, tasks))
            await publisher.publish([record(session, number, key(number)) for number in numbers])
        await load.wait_completed(system, session, tasks)
        return session, tasks / (time.perf_counter() - started)
    finally:
        await publisher.stop()


def gaps_ms(dsn: str, session: str) -> dict[str, float]:
    """From an attempt's end to the next one's assignment, of one key with one place, by the times of the events."""
    times: list[tuple[float, float]] = []
    with psycopg.connect(dsn) as connection:
        for shard in (0, 1):
            found: dict[str, list[Any]] = {}
            query = f"SELECT originator_id, state FROM events_{shard} WHERE originator_id LIKE %s"
            for task_id, state in connection.execute(query, (f"{session}-%",)):
                found.setdefault(task_id, []).append(unseal(bytes(state)))
            for events in found.values():
                at = {event.type: event.meta.at.timestamp() for event in events}
                times.append((at["taskloom.attempt.assigned.v1"], at["taskloom.task.completed.v1"]))
    times.sort()
    gaps = sorted(1000 * (after[0] - before[1]) for before, after in pairwise(times))
    return {
        "p50": round(gaps[len(gaps) // 2], 1),
        "p90": round(gaps[len(gaps) * 9 // 10], 1),
        "most": round(gaps[-1], 1),
    }


async def main(orchestrators: int, tasks: int, turns: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in SHAPES}
    with tempfile.TemporaryDirectory(prefix="taskloom-bench-") as home:
        system = RunningSystem(Path(home), {**SETTINGS, "TASKLOOM_ORCHESTRATORS": str(orchestrators)})
        await system.start()
        try:
            await system.wait_all_ready()
            await run(system, 2_000, SHAPES["no key"][1])
            for _ in range(turns):
                for name, (share, key) in SHAPES.items():
                    session, rate = await run(system, int(tasks * share), key)
                    rates[name].append(rate)
                    line: dict[str, Any] = {"figure": name, "tasks_per_s": round(rate)}
                    if name == "one key with one place":
                        line["gap_ms"] = gaps_ms(system.dsn, session)
                    print(json.dumps(line), flush=True)
        finally:
            await system.stop(20.0)
    medians = {name: round(statistics.median(found)) for name, found in rates.items()}
    print(json.dumps({"orchestrators": orchestrators, "median_tasks_per_s": medians}), flush=True)


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    asyncio.run(main(*(given + [1, 5_000, 3][len(given) :])))
