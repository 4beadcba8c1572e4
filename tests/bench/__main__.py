"""``make bench``: prints a JSON line for each figure as it is measured, and a table at the end."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from taskloom.testing.processes import RunningSystem
from tests.bench import load
from tests.bench.system import (
    SETTINGS,
    cpu_seconds,
    difference,
    facts,
    memory_mib,
    per_task_ms,
    processes,
    refuse_without_fsync,
)

Figure = dict[str, Any]


async def rate(system: RunningSystem, name: str, target: str, run: Callable[[], Awaitable[load.Rate]]) -> Figure:
    """One throughput figure with the CPU that it cost, by process."""
    before = cpu_seconds(system)
    measured = await run()
    used = difference(cpu_seconds(system), before)
    return {
        "figure": name,
        "tasks": measured.tasks,
        "tasks_per_s": round(measured.per_s),
        "acknowledged_per_s": round(measured.tasks / measured.sent_s),
        "cpu_ms_per_task": per_task_ms(used.values(), measured.tasks),
        "cpu_ms_by_process": {name: per_task_ms([seconds], measured.tasks) for name, seconds in used.items()},
        "target": target,
    }


async def measure(system: RunningSystem, tasks: int, flat_to: int) -> list[Figure]:
    figures: list[Figure] = []

    def note(figure: Figure) -> None:
        figures.append(figure)
        print(json.dumps(figure), flush=True)

    await load.by_kafka(system, 2_000)  # Warm-up: connections, prepared statements, the JVM.
    idle = await load.idle_latency_ms(system, 200)
    note(
        {
            "figure": "idle latency, POST until COMPLETED is read",
            "p50_ms": round(idle[len(idle) // 2], 1),
            "p99_ms": round(idle[int(len(idle) * 0.99)], 1),
            "target": "p50 <= 30 ms, p99 <= 100 ms",
        }
    )
    note(await rate(system, "echo by Kafka", ">= 1,500/s", lambda: load.by_kafka(system, tasks)))
    note(await rate(system, "echo by HTTP batches of 500", ">= 1,500/s", lambda: load.by_batches(system, tasks)))
    note(
        await rate(
            system,
            "echo by single POSTs, 50 connections",
            ">= 400/s",
            lambda: load.by_single_posts(system, tasks // 4),
        )
    )
    memory = memory_mib(system)
    note(
        {
            "figure": "memory after the runs (PSS)",
            "mib": round(sum(memory.values())),
            "mib_by_process": memory,
            "processes": sum(len(members) for members in processes(system).values()),
            "target": "<= 1,638 MiB",
        }
    )
    await flat_cost(system, flat_to, note)
    return figures


async def flat_cost(system: RunningSystem, flat_to: int, note: Callable[[Figure], None]) -> None:
    """CPU per task as the store grows: the last thousands of ``flat_to`` tasks must not cost more than the first."""
    stored = 0
    while stored < flat_to:
        step = min(20_000, flat_to - stored)
        figure = await rate(
            system,
            f"echo by Kafka, {stored:,} more tasks stored",
            "flat",
            lambda n=step: load.by_kafka(system, n),  # type: ignore[misc]
        )
        note(figure)
        stored += step


def table(figures: list[Figure]) -> Table:
    drawn = Table("figure", "measured", "CPU ms/task", "target", title="Taskloom, one machine, everything on it")
    for figure in figures:
        if "tasks_per_s" in figure:
            measured = f"{figure['tasks_per_s']:,} tasks/s"
        elif "p50_ms" in figure:
            measured = f"p50 {figure['p50_ms']} ms, p99 {figure['p99_ms']} ms"
        else:
            measured = f"{figure['mib']:,} MiB"
        drawn.add_row(figure["figure"], measured, str(figure.get("cpu_ms_per_task", "")), figure["target"])
    return drawn


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of each throughput run")
    parser.add_argument("--flat-to", type=int, default=100_000, help="tasks in the store at the end; 0 leaves that out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskloom-bench-") as home:
        system = RunningSystem(Path(home), SETTINGS)
        await system.start()
        try:
            await system.wait_all_ready()
            measured = facts(system)
            refuse_without_fsync(measured)
            print(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **measured}), flush=True)
            figures = await measure(system, options.tasks, options.flat_to)
        finally:
            await system.stop(20.0)
    Console(width=120).print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
