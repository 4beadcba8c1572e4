"""A secret through the front door: the command has it, and nothing that Taskloom keeps or tells does."""

import asyncio
import hashlib
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from psycopg import sql

from taskloom.testing.processes import RunningSystem
from taskloom.wire.topics import Topics
from tests.e2e.support import Api, Json, door

pytestmark = pytest.mark.e2e
SECRET = "tall-ships-and-a-star-4711"


async def test_a_secret_is_in_no_table_topic_log_or_answer(running_system: RunningSystem) -> None:
    """On an executor, and on an agent, which hears it over its link."""
    async with door(running_system) as api:
        put = await api.http.put("/api/v1/secrets/star", json={"value": SECRET})
        assert put.status_code == 200, put.text
        await asyncio.gather(*(used_and_told_by_nobody(api, name) for name in ("executor-1", "agent1")))
    assert _tables_with(running_system.dsn) == []
    assert await _topics_with(running_system) == []
    assert _files_with(running_system.home / "logs") == []


async def used_and_told_by_nobody(api: Api, executor_id: str) -> None:
    where: Json = {"kind": "shell", "executor_id": executor_id}
    given = {
        "cmd": 'echo $STAR; echo -n $STAR | md5sum; printf %s "${STAR:0:9}"; sleep 0.2; printf "%s\n" "${STAR:9}"',
        "env": {"STAR": {"secret": "star"}},
    }
    task_id = await api.submit(**where, input=given)
    done = await api.ended(task_id)
    assert (done["state"], done["executor_id"]) == ("completed", executor_id), done
    output = (await api.http.get(f"/api/v1/tasks/{task_id}/output", params={"format": "text"})).text
    digest = hashlib.md5(SECRET.encode()).hexdigest()
    assert output == f"***\n{digest}  -\n***\n"
    once = {"max_attempts": 1}
    failed = await api.ended(await api.submit(**where, input={**given, "cmd": "echo $STAR >&2; exit 1"}, retry=once))
    assert failed["state"] == "failed"
    steps = [{"step_type": "task", "id": "a", "task_template": {**where, "input": given}}]
    run = await api.ended(await api.submit(kind="workflow", input={"definition": {"name": "w", "steps": steps}}))
    step = await api.task(f"{run['task_id']}~a")
    assert (run["state"], step["executor_id"], step["result"]) == ("completed", executor_id, output.strip()), step
    missing = await api.ended(await api.submit(**where, input={"cmd": "true", "env": {"A": {"secret": "none"}}}))
    assert (missing["state"], missing["error_type"]) == ("failed", "secret_missing"), missing
    events = [event for each in (done, failed, run, step) for event in await api.events(each["task_id"])]
    assert SECRET not in repr([done, failed, run, step, events, (await api.get("/secrets"))])


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
