"""Search in query and error: by words, wherever they stand, few or many."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskloom.testing.histories import TaskLife
from taskloom.views.reading import read_pool
from taskloom.views.task_executions import write
from taskloom.views.task_executions.filters import Filters
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.query import COUNT_COMMON_UP_TO, COUNT_UP_TO, Page, list_tasks
from taskloom.views.task_executions.row import Row
from taskloom.views.task_executions.words import words_of

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 1, tzinfo=UTC)
template = fold_all(TaskLife("template").recorded)


def made(name: str, query: str = "", error: str = "", second: int = 0) -> Row:
    assert template is not None
    at = START + timedelta(seconds=second)
    return msgspec.structs.replace(template, task_id=name, query=query, error=error, tags=(), created_at=at)


def insert(dsn: str, rows: list[Row]) -> None:
    with psycopg.connect(dsn) as connection, connection.cursor(binary=True) as cursor:
        write.insert(cursor, rows)


async def listed(dsn: str, wanted: Filters, limit: int = 100, cursor: str | None = None) -> Page:
    pool = read_pool(dsn)
    await pool.open(wait=True)
    try:
        return await list_tasks(pool, "default", wanted, limit=limit, cursor=cursor)
    finally:
        await pool.close()


@pytest.mark.parametrize(
    ("looked_for", "found"),
    [
        ("timeout", {"camel", "plain"}),
        ("TIMEOUT err", {"camel"}),
        ("ConnectTimeoutError", {"camel"}),
        ("connect error", {"camel"}),
        ("server", {"acronym"}),
        ("http", {"acronym", "path"}),
        ("meout", set()),
        ("orders_2026.csv", {"path"}),
        ("2026", {"path"}),
        ("/data/orders", {"path"}),
        ("caf", {"foreign"}),
        ("CAFÉ", {"foreign"}),
        ("o'brien & \\", {"quoted"}),
        ("%", {"percent"}),
        ("???", set()),
        ("waiting timeout", set()),
        ("end", set()),
    ],
)
async def test_each_word_has_to_begin_a_word_of_the_query_or_of_the_error(
    database_dsn: str, looked_for: str, found: set[str]
) -> None:
    insert(
        database_dsn,
        [
            made("camel", error="ConnectTimeoutError: gave up"),
            made("plain", query="raise the timeout", error="still waiting"),
            made("acronym", query="ask HTTPServer"),
            made("path", query="load /data/orders_2026.csv from http://there"),
            made("foreign", query="un café, s'il vous plaît"),
            made("quoted", query="call O'Brien"),
            made("percent", query="100 %"),
            made("empty"),
            made("long", query="x " * 1_000_000 + "end"),
        ],
    )
    page = await listed(database_dsn, Filters(q=looked_for))
    assert ({row.task_id for row in page.rows}, page.total_count) == (found, len(found))


async def test_what_very_many_have_is_paged_as_what_few_have(database_dsn: str) -> None:
    many = COUNT_UP_TO + 500
    rows = [made(f"t-{n:05}", query=f"every number {n % 7}", second=n // 3) for n in range(many)]
    insert(database_dsn, rows)
    for wanted, expected, counted in (
        (Filters(q="every"), rows, COUNT_COMMON_UP_TO),
        (Filters(q="num 3"), rows[3::7], len(rows[3::7])),
    ):
        page = await listed(database_dsn, wanted, 20)
        assert (page.total_count, page.total_is_exact) == (counted, counted == len(expected))
        ids = [row.task_id for row in page.rows]
        while page.next_cursor is not None:
            page = await listed(database_dsn, wanted, 700, page.next_cursor)
            ids += [row.task_id for row in page.rows]
        assert ids == sorted((row.task_id for row in expected), reverse=True)


@given(st.text(st.characters(max_codepoint=0x17F, exclude_characters="\0"), max_size=40))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_python_and_postgresql_split_alike(searching: psycopg.Connection[tuple[bool]], text: str) -> None:
    words = words_of(text)
    assert all(re.search(re.escape(word), text) for word in words)
    asked = " & ".join(f"'{word}':*" for word in words)
    [found] = searching.execute(
        "SELECT coalesce(task_words(%s) @@ to_tsquery('simple', %s) OR numnode(to_tsquery('simple', %s)) = 0, false)",
        (text, asked, asked),
    ).fetchall()
    assert found == (True,)


@pytest.fixture
def searching(database_dsn: str) -> Iterator[psycopg.Connection[tuple[bool]]]:
    with psycopg.connect(database_dsn) as connection:
        yield connection
