"""Pages by cursor while tasks arrive: each that was there at the start is seen once, whatever the filter."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from taskloom.testing.histories import TaskLife
from taskloom.views.reading import read_pool
from taskloom.views.task_executions import write
from taskloom.views.task_executions.filters import Filters
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.query import list_tasks
from taskloom.views.task_executions.row import Row

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 1, tzinfo=UTC)
FILTERS = [
    Filters(),
    Filters(kind="shell"),
    Filters(queue="slow"),
    Filters(session_id="s-1"),
    Filters(tag="red"),
    Filters(metadata={"team": "1"}),
    Filters(q="needle"),
    Filters(statuses=("QUEUED",)),
    Filters(created_after=START + timedelta(seconds=100), created_before=START + timedelta(seconds=300)),
    Filters(kind="shell", tag="red", queue="slow"),
]
template = fold_all(TaskLife("template").recorded)


def made(chance: random.Random, name: str, at: datetime) -> Row:
    assert template is not None
    return msgspec.structs.replace(
        template,
        task_id=name,
        kind=chance.choice(("echo", "shell")),
        queue=chance.choice(("default", "slow")),
        session_id=f"s-{chance.randrange(3)}",
        tags=chance.choice(((), ("red",), ("red", "blue"))),
        metadata=chance.choice(({}, {"team": "1"}, {"team": 1}, {"team": "2"})),
        query=chance.choice(("", "a NEEDLE in hay", "hay")),
        created_at=at,
    )


def fits(row: Row, wanted: Filters) -> bool:
    return (
        wanted.kind in (None, row.kind)
        and wanted.queue in (None, row.queue)
        and wanted.session_id in (None, row.session_id)
        and (wanted.tag is None or wanted.tag in row.tags)
        and all(str(row.metadata.get(key)) == value for key, value in wanted.metadata.items())
        and (wanted.q is None or wanted.q in row.query.lower())
        and (wanted.created_after is None or row.created_at >= wanted.created_after)
        and (wanted.created_before is None or row.created_at < wanted.created_before)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_pages_by_cursor_neither_skip_nor_repeat_while_tasks_arrive(database_dsn: str, seed: int) -> None:
    chance = random.Random(seed)

    def insert(connection: psycopg.Connection[Any], prefix: str, count: int, at: datetime) -> list[Row]:
        # Many of one moment, so that the id decides; and late ones, whose time lies among those already read.
        rows = [
            made(chance, f"{prefix}-{chance.randrange(10**9)}-{n}", at + timedelta(seconds=chance.randrange(400)))
            for n in range(count)
        ]
        with connection.cursor(binary=True) as cursor:
            write.insert(cursor, rows)
            write.count(cursor, {write.CountKey("default", 0, "QUEUED"): count})
        connection.commit()
        return rows

    pool = read_pool(database_dsn)
    await pool.open(wait=True)
    try:
        with psycopg.connect(database_dsn) as connection:
            there = insert(connection, "old", 600, START)
            for number, wanted in enumerate(FILTERS):
                seen: list[str] = []
                cursor: str | None = ""
                while cursor is not None:
                    limit = chance.randrange(1, 60)
                    page = await list_tasks(pool, "default", wanted, limit=limit, cursor=cursor or None)
                    seen += [row.task_id for row in page.rows]
                    cursor = page.next_cursor
                    there += insert(connection, f"new-{number}", 3, START) if chance.random() < 0.3 else []
                expected = {row.task_id for row in there if fits(row, wanted) and row.task_id.startswith("old")}
                assert len(seen) == len(set(seen)), wanted
                assert expected <= set(seen), wanted
                whole = await list_tasks(pool, "default", wanted, limit=100)
                now = {row.task_id for row in there if fits(row, wanted)}
                assert (whole.total_count, whole.total_is_exact) == (len(now), True), wanted
                assert set(seen) <= now, wanted
    finally:
        await pool.close()


async def test_the_last_page_by_offset_knows_the_number_of_all(database_dsn: str) -> None:
    pool = read_pool(database_dsn)
    await pool.open(wait=True)
    try:
        with psycopg.connect(database_dsn) as connection, connection.cursor(binary=True) as cursor:
            chance = random.Random(1)
            write.insert(cursor, [made(chance, f"t-{n}", START) for n in range(25)])
        pages = [await list_tasks(pool, "default", Filters(q="%") if offset is None else Filters(created_after=START),
                                  limit=10, offset=offset or 0) for offset in (0, 20, 30, None)]  # fmt: skip
        assert [(len(page.rows), page.total_count) for page in pages] == [(10, 25), (5, 25), (0, 25), (0, 0)]
    finally:
        await pool.close()
