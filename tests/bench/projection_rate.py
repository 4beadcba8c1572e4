"""How fast, and for how much CPU, events become rows: ``python -m tests.bench.projection_rate [tasks]``.

Real Kafka, real PostgreSQL with fsync on, the projection as a process of its own. Events of one-step tasks are made and
published first, in waves as an orchestrator would (each wave: one state change of many tasks); then the projection
starts, and time runs from its first row to its last. One JSON line.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
from psycopg import OperationalError

from taskloom.bus.admin import ensure_topics
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.local.jars import ensure_jars
from taskloom.local.kafka import EmbeddedKafka
from taskloom.local.postgres import EmbeddedPostgres
from taskloom.store.migrate import migrate
from taskloom.testing.eventually import eventually
from taskloom.testing.histories import TaskLife, one_step_task
from taskloom.views.reading import Pool, read_pool
from taskloom.views.task_executions.query import count_by_status
from taskloom.wire.topics import Topics, partition_of

WAVE_TASKS = 400
START_LIMIT_S = 60.0
RUN_LIMIT_S = 600.0


async def main(tasks: int) -> None:
    ensure_jars()
    with tempfile.TemporaryDirectory(prefix="taskloom-bench-") as directory:
        kafka, postgres = EmbeddedKafka(Path(directory)), EmbeddedPostgres(Path(directory))
        await kafka.start()
        await postgres.start()
        try:
            print(json.dumps(await measure(kafka, postgres, tasks)))
        finally:
            await kafka.stop()
            await postgres.stop()


async def measure(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tasks: int) -> dict[str, object]:
    dsn = postgres.dsn()
    migrate(dsn)
    await ensure_topics(kafka.bootstrap, "taskloom", 8)
    events = await publish(kafka.bootstrap, [one_step_task(f"task-{n:08}", datetime.now(UTC)) for n in range(tasks)])
    pool = read_pool(dsn)
    await pool.open(wait=True)
    environment = {**os.environ, "TASKLOOM_KAFKA_BOOTSTRAP": kafka.bootstrap, "TASKLOOM_DATABASE_DSN": dsn}
    service = await asyncio.create_subprocess_exec(sys.executable, "-m", "taskloom", "projection", env=environment)
    try:
        watched, backends = psutil.Process(service.pid), psutil.Process(postgres.pid)
        await eventually(lambda: count_by_status(pool, "default"), START_LIMIT_S, 0.005)
        began, cpu, pg_cpu = time.perf_counter(), used_s(watched), tree_s(backends)
        first = sum((await count_by_status(pool, "default")).values())
        await eventually(lambda: completed(pool, tasks), RUN_LIMIT_S, 0.02)
        seconds, done = time.perf_counter() - began, tasks - first
        cpu, pg_cpu = used_s(watched) - cpu, tree_s(backends) - pg_cpu
        return {
            "bench": "projection", "tasks": tasks, "events": events, "seconds": round(seconds, 3),
            "tasks_per_s": round(done / seconds), "projection_cpu_ms_per_task": round(cpu / done * 1000, 4),
            "postgres_cpu_ms_per_task": round(pg_cpu / done * 1000, 4),
            "rss_mib": round(watched.memory_info().rss / 2**20),
        }  # fmt: skip
    except OperationalError as error:
        raise SystemExit(f"PostgreSQL went away: {error}") from error
    finally:
        service.terminate()
        await service.wait()
        await pool.close()


async def completed(pool: Pool, tasks: int) -> bool:
    return (await count_by_status(pool, "default")).get("COMPLETED", 0) >= tasks


async def publish(bootstrap: str, lives: list[TaskLife]) -> int:
    """Publishes all events, a wave of tasks at a time, each state change of the wave together."""
    publisher, topic, count = Publisher(bootstrap, "bench", delivery_timeout_s=120), Topics().events, 0
    await publisher.start()
    for first in range(0, len(lives), WAVE_TASKS):
        wave = lives[first : first + WAVE_TASKS]
        for version in range(max(len(life.bodies) for life in wave)):
            records = [
                OutRecord(topic, partition_of(life.task_id, 8), life.task_id.encode(), life.bodies[version])
                for life in wave
                if version < len(life.bodies)
            ]
            await publisher.publish(records)
            count += len(records)
    await publisher.stop()
    return count


def used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def tree_s(process: psutil.Process) -> float:
    """CPU of a server and all its backends, those that ended included."""
    times = process.cpu_times()
    own = float(times.user + times.system + times.children_user + times.children_system)
    return own + sum(used_s(child) for child in process.children(recursive=True))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
