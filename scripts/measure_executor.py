"""Rate and CPU cost of one executor over a real Kafka: directives in, reports out. Prints one JSON line a run.

.venv/bin/python scripts/measure_executor.py HOST:PORT [tasks] [kind] [tasks a second, 0 as fast as it goes]
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.integration.executor.rig import Rig, started

INPUTS: dict[str, dict[str, Any]] = {
    "echo": {"payload": "x" * 180, "n": 1},
    "sleep": {"seconds": 0},
    "shell": {"cmd": "echo one; echo two >&2"},
    "python": {"function": "tests.integration.executor.functions:add", "args": [1, 2]},
}


async def measure(bootstrap: str, tasks: int, kind: str, rate: int) -> dict[str, object]:
    log = Path(tempfile.gettempdir()) / "measure-executor.log"
    rig = Rig(bootstrap, f"measure-{uuid4().hex[:8]}", log)
    async with started(rig, prefetch=10_000, heartbeat_s=5):
        assert rig.process is not None
        process = psutil.Process(rig.process.pid)
        await rig.run(kind, INPUTS[kind])
        before, began = process.cpu_times(), time.monotonic()
        orders = [rig.order(kind, INPUTS[kind]) for _ in range(tasks)]
        size = max(1, rate // 100) if rate else 500
        for start in range(0, tasks, size):
            await asyncio.sleep(began + start / rate - time.monotonic() if rate else 0)
            await rig.send(*orders[start : start + size])
        await rig.heard(lambda: all(rig.reports.get(order.task_id, ())[-1:] for order in orders[-100:]), 300)
        await rig.heard(lambda: all(rig.ended(order) is not None for order in orders), 300)
        took, after = time.monotonic() - began, process.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        kinds = {type(rig.ended(order)).__name__ for order in orders}
        return {
            "kind": kind,
            "tasks": tasks,
            "tasks_per_s": round(tasks / took),
            "executor_cpu_ms_per_task": round(1000 * cpu_s / tasks, 4),
            "rss_mib": round(process.memory_info().rss / 2**20),
            "ends": sorted(kinds),
        }


if __name__ == "__main__":
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    kind = sys.argv[3] if len(sys.argv) > 3 else "echo"
    rate = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    sys.stdout.write(json.dumps(asyncio.run(measure(sys.argv[1], wanted, kind, rate))) + "\n")
