"""``verify`` over a real store and real views: silent when nothing was touched, and naming each thing that was."""

from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest
from typer.testing import CliRunner

from taskloom.cli.main import app
from taskloom.domain.task import commands as c
from taskloom.domain.values import OutputSummary
from taskloom.replay.verify import Report, Verifier
from taskloom.store.history import HistoryReader
from taskloom.testing.histories import START, STEPS, TaskLife, varied_submission
from taskloom.views.reading import read_pool
from taskloom.wire.messages import OutputChunk
from taskloom.wire.topics import partition_of, shard_of
from tests.integration.projection.world import TOPICS, World, bodies_of, execute, store_lives

pytestmark = pytest.mark.integration

WRITER = "task-writer"


def lives() -> list[TaskLife]:
    found = []
    for number in range(60):
        life = TaskLife(f"task-{number}", varied_submission(number), at=START + timedelta(seconds=number))
        for step in range(number % 12):
            choice = number * 5 + step * 3
            life.step(choice if choice % STEPS not in (4, 5, 6, 15) else 0)  # no output: only the writer's is stored
        found.append(life)
    writer = TaskLife(WRITER, c.SubmitTask(kind="echo", session_id="session-w")).start()
    return [*found, writer.complete(output=OutputSummary(3, 3, 6))]


@pytest.fixture
async def stored(database_dsn: str) -> AsyncIterator[str]:
    """DSN of a database in which store and views agree."""
    world = await World(database_dsn).start()
    store_lives(database_dsn, all_lives := lives())
    await world.feed(bodies_of(all_lives))
    pieces = [OutputChunk(WRITER, 1, seq, "stdout", START, "ab") for seq in (1, 2, 3)]
    await world.feed_topic(TOPICS.outputs, [(WRITER, msgspec.json.encode(piece)) for piece in pieces])
    yield database_dsn
    await world.stop()


async def verify(dsn: str) -> Report:
    pool = read_pool(dsn)
    async with HistoryReader(dsn) as history:
        await pool.open(wait=True)
        try:
            return await Verifier(history, pool, shards=2, events_topic=TOPICS.events, timeout_s=0.3).run()
        finally:
            await pool.close()


def events_table(task_id: str) -> str:
    return f"events_{shard_of(partition_of(task_id, 8), 2)}"


async def faults(dsn: str) -> set[tuple[str, str]]:
    return {(difference.subject, difference.field) for difference in (await verify(dsn)).differences}


async def test_untouched_store_and_views_agree(stored: str) -> None:
    report = await verify(stored)
    assert report.differences == []
    assert (report.tasks, report.complete) == (61, True)
    assert report.events == sum(len(life.recorded) for life in lives())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("result", "'other'"),
        ("attempt", "7"),
        ("completed_at", "now()"),
        ("input", "'{\"a\": 1}'"),
        ("is_paused", "true"),
    ],
)
async def test_changed_field_of_a_row_is_named(stored: str, column: str, value: str) -> None:
    execute(stored, f"UPDATE task_executions SET {column} = {value} WHERE task_id = '{WRITER}'")
    assert (WRITER, column) in await faults(stored)


async def test_missing_row_is_named(stored: str) -> None:
    execute(stored, f"DELETE FROM task_executions WHERE task_id = '{WRITER}'")
    assert (WRITER, "read row") in await faults(stored)


async def test_row_without_a_history_is_named(stored: str) -> None:
    execute(stored, f"DELETE FROM {events_table(WRITER)} WHERE originator_id = '{WRITER}'")
    assert await faults(stored) == {(WRITER, "read row")}


@pytest.mark.parametrize("version", [1, 3])
async def test_deleted_event_is_named(stored: str, version: int) -> None:
    execute(
        stored,
        f"DELETE FROM {events_table(WRITER)} WHERE originator_id = '{WRITER}' AND originator_version = {version}",
    )
    found = await faults(stored)
    assert {subject for subject, _ in found} == {WRITER}
    assert (WRITER, "hash chain") in found


async def test_deleted_last_event_is_named_by_the_row_that_is_ahead(stored: str) -> None:
    execute(stored, f"DELETE FROM {events_table(WRITER)} WHERE originator_id = '{WRITER}' AND originator_version = 5")
    assert {(WRITER, "version"), (WRITER, "open_tasks")} <= await faults(stored)


async def test_edited_event_is_named_by_its_hash(stored: str) -> None:
    changed = execute(
        stored,
        f"UPDATE {events_table(WRITER)} SET state = replace(convert_from(state, 'UTF8'), 'done', 'gone')::bytea "
        f"WHERE originator_id = '{WRITER}' AND originator_version = 5 RETURNING 1",
    )
    assert changed
    assert {(WRITER, "hash chain"), (WRITER, "result")} <= await faults(stored)


async def test_swapped_events_are_named(stored: str) -> None:
    table = events_table(WRITER)
    for old, new in ((2, 99), (3, 2), (99, 3)):
        execute(
            stored,
            f"UPDATE {table} SET originator_version = {new} "
            f"WHERE originator_id = '{WRITER}' AND originator_version = {old}",
        )
    assert (WRITER, "hash chain") in await faults(stored)


async def test_missing_and_changed_output_is_named(stored: str) -> None:
    execute(stored, f"DELETE FROM task_outputs WHERE task_id = '{WRITER}' AND seq = 2")
    assert await faults(stored) == {(WRITER, "output of attempt 1, chunks"), (WRITER, "output of attempt 1, bytes")}


async def test_changed_session_is_named(stored: str) -> None:
    execute(stored, "UPDATE sessions SET task_count = task_count + 1 WHERE session_id = 'session-w'")
    assert await faults(stored) == {("session default/session-w", "task_count")}


async def test_wrong_count_is_named(stored: str) -> None:
    execute(stored, "UPDATE task_counts SET tasks = tasks + 1 WHERE status = 'QUEUED'")
    [(subject, field)] = await faults(stored)
    assert (subject, field) == ("counts of tenant default", "QUEUED")


@pytest.mark.parametrize("table", ["metrics_hours", "metrics_totals"])
async def test_wrong_sum_of_the_metrics_is_named(stored: str, table: str) -> None:
    execute(stored, f"UPDATE {table} SET completed = completed + 1, cpu_us = 7 WHERE executor_id = 'e1'")
    found = await faults(stored)
    assert {field for _, field in found} == {"completed", "cpu_us"}
    assert {subject.rpartition(", ")[2] for subject, _ in found} == {"e1"}


async def test_missing_sum_of_the_metrics_is_named(stored: str) -> None:
    execute(stored, "DELETE FROM metrics_hours")
    assert "attempts_completed" in {field for _, field in await faults(stored)}


async def test_open_tasks_that_are_not_the_open_ones_are_named(stored: str) -> None:
    [(forgotten,)] = execute(stored, "SELECT task_id FROM open_tasks ORDER BY task_id LIMIT 1")
    execute(stored, "DELETE FROM open_tasks WHERE task_id = %s", forgotten)
    execute(stored, f"INSERT INTO open_tasks VALUES ({partition_of(WRITER, 8)}, '{WRITER}', NULL)")
    execute(stored, "INSERT INTO open_tasks VALUES (0, 'nobody', NULL)")
    assert await faults(stored) == {(forgotten, "open_tasks"), (WRITER, "open_tasks"), ("nobody", "open task")}


async def test_command_exits_1_and_names_the_difference(stored: str) -> None:
    import asyncio

    arguments = ["verify", "--dsn", stored, "--timeout", "0.3", "--topic-prefix", TOPICS.prefix]
    unharmed = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert (unharmed.exit_code, "verified" in unharmed.output) == (0, True), unharmed.output
    execute(stored, f"UPDATE task_executions SET result = 'other' WHERE task_id = '{WRITER}'")
    harmed = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert harmed.exit_code == 1
    assert f"{WRITER}: result: stored other, expected done" in harmed.output
