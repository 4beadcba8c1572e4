"""A secret through the front door: the command has it, and nothing that Taskloom keeps or tells does."""

import hashlib
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from psycopg import sql

from taskloom.testing.processes import RunningSystem
from taskloom.wire.topics import Topics
from tests.e2e.support import door

pytestmark = [pytest.mark.e2e]
SECRET = "tall-ships-and-a-star-4711"


async def test_a_secret_is_in_no_table_topic_log_or_answer(running_system: RunningSystem) -> None:
    async with door(running_system) as api:
        put = await api.http.put("/api/v1/secrets/star", json={"value": SECRET})
        assert put.status_code == 200, put.text
        given = {
            "cmd": 'echo $STAR; echo -n $STAR | md5sum; printf %s "${STAR:0:9}"; sleep 0.2; printf "%s\n" "${STAR:9}"',
            "env": {"STAR": {"secret": "star"}},
        }
        task_id = await api.submit(kind="shell", input=given)
        done = await api.ended(task_id)
        assert done["state"] == "completed"
        output = (await api.http.get(f"/api/v1/tasks/{task_id}/output", params={"format": "text"})).text
        digest = hashlib.md5(SECRET.encode()).hexdigest()
        assert output == f"***\n{digest}  -\n***\n"
        failed = await api.ended(
            await api.submit(kind="shell", input={**given, "cmd": "echo $STAR >&2; exit 1"}, retry={"max_attempts": 1})
        )
        assert failed["state"] == "failed"
        events = await api.events(task_id) + await api.events(failed["task_id"])
        assert SECRET not in repr([done, failed, events, (await api.get("/secrets"))])
    assert _tables_with(running_system.dsn) == []
    assert await _topics_with(running_system) == []
    assert _files_with(running_system.home / "logs") == []


def _tables_with(dsn: str) -> list[str]:
    """Tables one of whose rows holds the secret, as text or within bytes."""
    found = []
    with psycopg.connect(dsn) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert ("secrets",) in names
        assert ("claims",) in names
        for (name,) in names:
            rows = sql.SQL("SELECT count(*) FROM {table} AS t WHERE t::text LIKE %s OR t::text LIKE %s")
            forms = (f"%{SECRET}%", f"%{SECRET.encode().hex()}%")
            [(count,)] = connection.execute(rows.format(table=sql.Identifier(name)), forms).fetchall()
            found += [name] if count else []
    return found


async def _topics_with(system: RunningSystem) -> list[str]:
    """Topics one of whose records holds it."""
    t = Topics(str(system.run["topic_prefix"]))
    topics = (t.commands, t.events, t.outputs, t.assignments, t.replies, t.executors, t.audit, t.dead_letters)
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=system.bootstrap, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    try:
        places = consumer.assignment()
        assert {place.topic for place in places} == set(topics)
        ends = await consumer.end_offsets(list(places))
        found, seen = set(), set()
        while any([await consumer.position(place) < ends[place] for place in places]):
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                seen.add(place.topic)
                whole = b"".join((record.value or b"") + repr(record.headers).encode() for record in records)
                found |= {place.topic} if SECRET.encode() in whole else set()
        assert {t.commands, t.events, t.outputs, t.assignments, t.audit} <= seen
        return sorted(found)
    finally:
        await consumer.stop()


def _files_with(folder: Path) -> list[str]:
    logs = list(folder.glob("*"))
    assert logs
    return [path.name for path in logs if SECRET.encode() in path.read_bytes()]
