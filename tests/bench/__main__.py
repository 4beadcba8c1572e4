"""``make bench``: prints a JSON line for each figure as it is measured, and a table at the end.

``--only`` names the parts to run: latency, tasks, memory, workflows, fan-out, scheduler, flat, take-over, streams,
output, agents, reads (fills the tables with ``--rows`` tasks; not run unless it is named).
"""

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
from tests.bench import agents, load, machines, output, reads, scheduler_rate, streams, take_over, workflows
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


Note = Callable[[Figure], None]


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


async def latency(system: RunningSystem, _options: argparse.Namespace, note: Note) -> None:
    idle = await load.idle_latency_ms(system, 200)
    note(
        {
            "figure": "idle latency, POST until COMPLETED is read",
            "p50_ms": round(idle[len(idle) // 2], 1),
            "p99_ms": round(idle[int(len(idle) * 0.99)], 1),
            "target": "p50 <= 30 ms, p99 <= 100 ms",
        }
    )


async def tasks(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    count = options.tasks
    note(await rate(system, "echo by Kafka", ">= 1,500/s", lambda: load.by_kafka(system, count)))
    note(await rate(system, "echo by HTTP batches of 500", ">= 1,500/s", lambda: load.by_batches(system, count)))
    singly = "echo by single POSTs, 50 connections"
    note(await rate(system, singly, ">= 400/s", lambda: load.by_single_posts(system, count // 4)))


async def memory(system: RunningSystem, _options: argparse.Namespace, note: Note) -> None:
    used = memory_mib(system)
    note(
        {
            "figure": "memory after the runs (PSS)",
            "mib": round(sum(used.values())),
            "mib_by_process": used,
            "processes": sum(len(members) for members in processes(system).values()),
            "target": "<= 1,638 MiB",
        }
    )


async def workflow_runs(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    """Rates of whole runs. Right before them as many plain tasks as such runs have: the ratio of the two stays when the
    machine is not quiet."""
    runs = options.runs
    plain = await load.by_kafka(system, runs * workflows.TASKS_OF_A_RUN)
    for name, run in (("Kafka", workflows.runs_by_kafka), ("HTTP batches of 500", workflows.runs_by_batches)):
        figure = await rate(system, f"three-step workflows by {name}", ">= 500/s", lambda run=run: run(system, runs))  # type: ignore[misc]
        ratio = figure["tasks_per_s"] * workflows.TASKS_OF_A_RUN / plain.per_s
        note({**figure, "tasks_to_plain_tasks": round(ratio, 2)})


async def fan_out(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    shapes: tuple[workflows.Shape, ...] = ("map", "parallel")
    for shape in shapes:
        taken = sorted([await workflows.fan_out_s(system, options.children, shape) for _ in range(5)])
        figure = f"{options.children:,} children of one {shape} step, POST until COMPLETED is read, of 5"
        note({"figure": figure, "median_s": round(taken[2], 2), "worst_s": round(taken[4], 2), "target": "<= 2 s"})


async def orchestrator_killed(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    taken = await take_over.kill_half_way(system, 2 * options.children)
    await system.wait_all_ready()
    note(
        {
            "figure": f"orchestrator killed, {taken.done:,} of {2 * options.children:,} children done: goes on, ends",
            "goes_on_s": round(taken.until_next_event_s, 2),
            "ends_s": round(taken.until_ended_s, 2),
            "target": "stated",
        }
    )


async def scheduler(_system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    """The scheduler alone: how many tasks it pairs while so many wait, to none waiting; and the memory of those."""
    for shape in scheduler_rate.SHAPES:
        note(await asyncio.to_thread(scheduler_rate.measure, shape, options.waiting))
    note(await asyncio.to_thread(scheduler_rate.measure_memory, options.waiting))


async def flat(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    await flat_cost(system, options.flat_to, note)


async def open_streams(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    for figure in await streams.measure(system, options.streams):
        note(figure)


async def outputs_and_cancels(system: RunningSystem, _options: argparse.Namespace, note: Note) -> None:
    await output.measure(system, note)


async def linked_agents(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    for figure in await machines.measure(system):
        note(figure)
    for figure in await agents.measure(system, options.agents):
        note(figure)
    await system.wait_all_ready()


async def read_rates(system: RunningSystem, options: argparse.Namespace, note: Note) -> None:
    """Latency of reads over HTTP, one at a time, with so many tasks and all their events in the tables."""
    copied_s = await asyncio.to_thread(reads.fill, system.dsn, options.rows)
    print(json.dumps({"rows": options.rows, "copied_s": round(copied_s, 1)}), flush=True)
    await reads.measure(system, options.rows, options.samples, note)


PARTS: dict[str, Callable[[RunningSystem, argparse.Namespace, Note], Awaitable[None]]] = {
    "latency": latency,
    "tasks": tasks,
    "memory": memory,
    "workflows": workflow_runs,
    "fan-out": fan_out,
    "scheduler": scheduler,
    "flat": flat,
    "take-over": orchestrator_killed,
    "streams": open_streams,
    "output": outputs_and_cancels,
    "agents": linked_agents,
    "reads": read_rates,
}


async def measure(system: RunningSystem, options: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []

    def note(figure: Figure) -> None:
        figures.append(figure)
        print(json.dumps(figure), flush=True)

    await load.by_kafka(system, 2_000)  # Warm-up: connections, prepared statements, the JVM.
    await workflows.runs_by_kafka(system, 200)
    for name, part in PARTS.items():
        if name in options.only:
            await part(system, options, note)
    return figures


async def flat_cost(system: RunningSystem, flat_to: int, note: Note) -> None:
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
        if "goes_on_s" in figure:
            measured = f"after {figure['goes_on_s']} s, {figure['ends_s']} s"
        elif "back_s" in figure:
            measured = f"{figure['connected_s']} s; {figure['back_s']} s"
        elif "gateway_percent" in figure:
            measured = f"gateway {figure['gateway_percent']} % more than without"
        elif "percent" in figure:
            measured = f"{figure['percent']} %, {figure['bytes_per_waiting']:,} bytes a waiting task"
        elif "tasks_per_s" in figure:
            measured = f"{figure['tasks_per_s']:,} {'runs' if 'workflows' in figure['figure'] else 'tasks'}/s"
        elif "p50_ms" in figure:
            measured = f"p50 {figure['p50_ms']} ms, p99 {figure['p99_ms']} ms"
        elif "median_s" in figure:
            measured = f"median {figure['median_s']} s, worst {figure['worst_s']} s"
        elif "mb_per_s" in figure:
            measured = f"{figure['mb_per_s']} MB/s"
        elif "bytes" in figure:
            measured = f"{figure['bytes']:,} bytes"
        else:
            measured = f"{figure['mib']:,} MiB"
        drawn.add_row(figure["figure"], measured, str(figure.get("cpu_ms_per_task", "")), figure["target"])
    return drawn


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of each throughput run")
    parser.add_argument("--flat-to", type=int, default=100_000, help="tasks in the store at the end; 0 leaves that out")
    parser.add_argument("--runs", type=int, default=5_000, help="workflow runs of each throughput run")
    parser.add_argument("--children", type=int, default=1_000, help="children of a fan-out")
    parser.add_argument("--waiting", type=int, default=100_000, help="tasks that wait while the scheduler is measured")
    parser.add_argument("--streams", type=int, default=2_000, help="open streams of one gateway")
    parser.add_argument("--agents", type=int, default=200, help="agents linked to one gateway")
    parser.add_argument("--rows", type=int, default=1_000_000, help="tasks in the tables while reads are measured")
    parser.add_argument("--samples", type=int, default=200, help="reads of each sort")
    usual = [part for part in PARTS if part != "reads"]
    parser.add_argument("--only", nargs="+", choices=PARTS, default=usual, metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskloom-bench-") as home:
        system = RunningSystem(Path(home), SETTINGS)
        await system.start()
        try:
            await system.wait_all_ready()
            measured = facts(system)
            refuse_without_fsync(measured)
            print(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **measured}), flush=True)
            figures = await measure(system, options)
        finally:
            await system.stop(20.0)
    Console(width=120).print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
