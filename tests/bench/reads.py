"""Reads over HTTP with a million tasks in the tables, which are filled by COPY: rows, counts, and every event."""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

import httpx
import msgspec
import psycopg

from taskloom.domain.envelope import Recorded
from taskloom.testing.histories import one_step_task
from taskloom.testing.processes import RunningSystem
from taskloom.views.task_executions import write
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.row import Row
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import partition_of, shard_of

STEP: Final = 50_000
SPREAD: Final = timedelta(days=30)
KINDS: Final = ("echo", "shell", "http", "python")
RARE: Final = "xylophone"
PARTITIONS: Final = 8
SHARDS: Final = 2
BEGINNINGS: Final = ("ba", "ko", "ti", "mu", "re")
ENDINGS: Final = ("", "s", "ing", "ed")
WORDS: Final = tuple(map("".join, product(BEGINNINGS, ("lan", "der", "fix"), ENDINGS)))

READS: Final[tuple[tuple[str, str, dict[str, Any], str], ...]] = (
    ("a task", "/api/v1/tasks/{id}", {}, "p99 <= 20 ms"),
    ("a timeline", "/api/v1/tasks/{id}/timeline", {}, "p99 <= 50 ms"),
    ("a task's events", "/api/v1/tasks/{id}/events", {}, "p99 <= 50 ms"),
    ("the newest 20", "/api/v1/tasks", {}, "p99 <= 50 ms"),
    ("the newest 100", "/api/v1/tasks", {"limit": 100}, "p99 <= 50 ms"),
    ("20 from the middle, by cursor", "/api/v1/tasks", {"cursor": "{cursor}"}, "p99 <= 50 ms"),
    ("20 FAILED", "/api/v1/tasks", {"status": "FAILED"}, "p99 <= 50 ms"),
    ("20 of a kind", "/api/v1/tasks", {"kind": "shell"}, "p99 <= 50 ms"),
    ("a kind that nobody has", "/api/v1/tasks", {"kind": "nonesuch"}, "p99 <= 50 ms"),
    ("a queue that nobody has", "/api/v1/tasks", {"queue": "nonesuch"}, "p99 <= 50 ms"),
    ("a tag", "/api/v1/tasks", {"tag": "tag-{n}"}, "p99 <= 50 ms"),
    ("a session's", "/api/v1/tasks", {"session_id": "session-{n}"}, "p99 <= 50 ms"),
    ("an hour's", "/api/v1/tasks", {"created_after": "{from}", "created_before": "{to}"}, "p99 <= 50 ms"),
    ("q: a common word", "/api/v1/tasks", {"q": WORDS[5]}, "p99 <= 50 ms"),
    ("q: ten in all", "/api/v1/tasks", {"q": RARE}, "p99 <= 50 ms"),
    ("q: nothing", "/api/v1/tasks", {"q": "zzzzqqq"}, "p99 <= 50 ms"),
)


def ids(count: int) -> Iterator[tuple[int, str]]:
    return ((n, f"filled-{n:08}") for n in range(count))


def fill(dsn: str, count: int) -> float:
    """Copies ``count`` ended tasks with their events in; gives the seconds that the rows alone took."""
    began_at = datetime.now(UTC) - SPREAD
    bodies = one_step_task("TASK-ID", began_at).bodies
    template = fold_all([unseal(body) for body in bodies])
    assert template is not None
    with psycopg.connect(dsn) as connection:
        seconds = _fill_rows(connection, template, count, began_at)
        for shard in range(SHARDS):
            _fill_events(connection, [unseal(body) for body in bodies], count, shard)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE task_executions")
    return seconds


def _fill_rows(connection: psycopg.Connection[Any], template: Row, count: int, began_at: datetime) -> float:
    chance, seconds = random.Random(7), 0.0
    failure: dict[str, Any] = {"status": "FAILED", "state": "failed", "phase": "failed"}
    rare = set(range(0, count, max(1, count // 10)))

    def row(n: int, task_id: str) -> Row:
        at = began_at + SPREAD * (n / count)
        failed = n % 50 == 0
        text = " ".join(chance.choices(WORDS, k=8)) + (f" {RARE}" if n in rare else "")
        return msgspec.structs.replace(
            template,
            task_id=task_id, kind=KINDS[n % 4], query=text, session_id=f"session-{n % 20_000}",
            tags=(f"tag-{n % 10_000}",) if n % 3 == 0 else (),
            metadata={"n": str(n % 1000)} if n % 5 == 0 else {},
            created_at=at, started_at=at, completed_at=at, updated_at=at,
            **(failure | {"failed_at": at, "error": text} if failed else {}),
        )  # fmt: skip

    with connection.cursor(binary=True) as cursor:
        for first in range(0, count, STEP):
            rows = [row(n, f"filled-{n:08}") for n in range(first, min(count, first + STEP))]
            began = time.perf_counter()
            write.insert(cursor, rows)
            seconds += time.perf_counter() - began
        failed = -(-count // 50)
        write.count(cursor, {write.CountKey("default", 0, "FAILED"): failed})
        write.count(cursor, {write.CountKey("default", 0, "COMPLETED"): count - failed})
    connection.commit()
    return seconds


def _fill_events(connection: psycopg.Connection[Any], events: list[Recorded], count: int, shard: int) -> None:
    statement = f"COPY events_{shard} (originator_id, originator_version, topic, state) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(("text", "int8", "text", "bytea"))
        for _, task_id in ids(count):
            if shard_of(partition_of(task_id, PARTITIONS), SHARDS) == shard:
                name = task_id.encode()
                for event in events:
                    body = event.body.replace(b"TASK-ID", name)
                    copy.write_row((task_id, event.version, event.type, body))


async def measure(system: RunningSystem, count: int, samples: int, note: Callable[[dict[str, Any]], None]) -> None:
    """Notes a figure for each of ``READS``: one caller, one connection, ``samples`` requests."""
    chance = random.Random(11)
    async with httpx.AsyncClient(base_url=system.url, timeout=30, trust_env=False) as http:
        newest = datetime.now(UTC) - SPREAD / 2
        middle = (await http.get("/api/v1/tasks", params={"created_before": newest.isoformat()})).json()["next_cursor"]
        for name, path, query, target in READS:
            taken, too_slow = [], 0
            for _ in range(samples):
                n = chance.randrange(count)
                hour = newest - timedelta(hours=chance.randrange(200))
                known = {"id": f"filled-{n:08}", "n": n % 10_000, "cursor": middle, "from": hour.isoformat()}
                known["to"] = (hour + timedelta(hours=1)).isoformat()
                params = {key: str(value).format(**known) for key, value in query.items()}
                began = time.perf_counter()
                answer = await http.get(path.format(**known), params=params)
                taken.append((time.perf_counter() - began) * 1000)
                too_slow += answer.status_code == 400  # over the time limit of a read: told so, and counted here
                assert answer.status_code in (200, 400), answer.text
            taken.sort()
            note(
                {
                    "figure": f"read {name}, {count:,} tasks",
                    "p50_ms": round(taken[len(taken) // 2], 1),
                    "p99_ms": round(taken[int(len(taken) * 0.99)], 1),
                    "too_slow": too_slow,
                    "target": target,
                }
            )
