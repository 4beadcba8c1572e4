"""The list of agents' tasks: what it shows, and that it does not walk through what ended long ago."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from taskloom.testing.histories import TaskLife
from taskloom.views.reading import read_pool
from taskloom.views.task_executions import write
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.of_agents import LIST, list_of_agents
from taskloom.views.task_executions.row import Row

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HALF_AN_HOUR = NOW - timedelta(minutes=30)
template = fold_all(TaskLife("template").recorded)


def made(
    name: str, *, kind: str = "shell", agent: str = "agent1", ended_minutes_ago: int | None = None, **more: Any
) -> Row:
    assert template is not None
    ended = None if ended_minutes_ago is None else NOW - timedelta(minutes=ended_minutes_ago)
    fields = {"task_id": name, "kind": kind, "assigned_to": agent, "completed_at": ended, "created_at": NOW}
    return msgspec.structs.replace(template, **{**fields, **more})


async def test_open_tasks_and_those_that_ended_lately_are_listed_and_the_index_finds_them(database_dsn: str) -> None:
    rows = [
        made("old-but-open", created_at=NOW - timedelta(days=9)),
        made("ended-lately", ended_minutes_ago=29, created_at=NOW - timedelta(days=8)),
        made("ended-long-ago", ended_minutes_ago=31),
        made("a-container", kind="docker", agent="agent2"),
        made("another-kind", kind="echo"),
        made("for-anybody", agent=""),
        made("anothers", tenant_id="other"),
        made("deleted", deleted_at=NOW),
        *(made(f"past-{number}", ended_minutes_ago=600) for number in range(5_000)),
    ]
    pool = read_pool(database_dsn)
    await pool.open(wait=True)
    try:
        with psycopg.connect(database_dsn) as connection:
            with connection.cursor(binary=True) as cursor:
                write.insert(cursor, rows)
            connection.execute("ANALYZE task_executions")
            connection.commit()
            values = {"tenant": "default", "agent": None, "ended_after": HALF_AN_HOUR, "limit": 100}
            plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {LIST}".encode(), values))
        assert "task_executions_of_agents" in plan, plan

        async def listed(agent_id: str | None, limit: int = 100, tenant_id: str = "default") -> list[str]:
            found = await list_of_agents(pool, tenant_id, agent_id, ended_after=HALF_AN_HOUR, limit=limit)
            return [row.task_id for row in found]

        assert await listed(None) == ["a-container", "ended-lately", "old-but-open"]
        assert await listed("agent1") == ["ended-lately", "old-but-open"]
        assert await listed("agent3") == []
        assert await listed(None, limit=1) == ["a-container"]
        assert await listed(None, tenant_id="other") == ["anothers"]
    finally:
        await pool.close()
