"""Retried, changed and deleted tasks through the real tables: whatever the batches, store and views agree."""

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.values import Retry
from taskloom.testing.histories import START, TaskLife
from taskloom.views.reading import read_pool
from taskloom.views.sessions import query as sessions
from taskloom.views.task_executions import query as tasks
from taskloom.views.task_executions.filters import Filters
from tests.integration.projection.world import World, bodies_of, execute, store_lives
from tests.integration.replay.test_verify import verify

pytestmark = pytest.mark.integration

CHANGE = msgspec.convert(
    {
        "name": "renamed",
        "description": "a text",
        "priority": 5,
        "assigned_to": "ex-9",
        "metadata": {"team": "blue", "old": None},
        "tags": ["x"],
        "deadline": "2031-01-01T00:00:00Z",
    },
    c.UpdateTask,
)


def life(task_id: str, second: int, session_id: str) -> TaskLife:
    command = c.SubmitTask(kind="echo", session_id=session_id, metadata={"old": 1}, retry=Retry(max_attempts=1))
    return TaskLife(task_id, command, at=START + timedelta(seconds=second))


def lives() -> list[TaskLife]:
    retried = life("retried", 1, "s").start()
    retried.fail()
    retried.do(c.RetryTask("mended"))
    again = life("completed-after-retry", 2, "s").start()
    again.fail()
    again.do(c.RetryTask())
    again.start().complete()
    changed = life("changed", 3, "s")
    changed.do(CHANGE)
    kept = life("kept", 4, "s").start().complete()
    deleted = life("deleted", 0, "s").start().complete()
    deleted.do(c.DeleteTask())
    last = life("deleted-last", 9, "s").start().complete()
    last.do(CHANGE)
    last.do(c.DeleteTask())
    last.do(c.ReportHeartbeat(1, "e1"))
    alone = life("deleted-alone", 5, "alone")
    alone.do(c.DeleteTask())
    return [retried, again, changed, kept, deleted, last, alone]


def batches(bodies: list[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    for first in range(0, len(bodies), size):
        yield bodies[first : first + size]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_whatever_the_batches_verify_finds_nothing_and_reads_leave_deleted_tasks_out(
    database_dsn: str, size: int
) -> None:
    world = await World(database_dsn).start()
    store_lives(database_dsn, all_lives := lives())
    for batch in batches(bodies_of(all_lives), size):
        await world.feed(batch)
    await world.feed(bodies_of(all_lives))  # what comes twice brings nothing back
    await world.stop()
    report = await verify(database_dsn)
    assert [str(each) for each in report.differences] == []
    assert world.dead.buried == []

    pool = read_pool(database_dsn)
    await pool.open(wait=True)
    try:
        session = await sessions.get(pool, "default", "s")
        assert session is not None
        assert (session.task_count, session.successful_tasks, session.failed_tasks) == (4, 2, 0)
        assert (session.tokens_used, round(session.cost_usd, 6)) == (16, 0.002)
        assert session.created_at == START + timedelta(seconds=1.5)
        assert await sessions.get(pool, "default", "alone") is None
        assert await tasks.count_by_status(pool, "default") == {"QUEUED": 2, "COMPLETED": 2}
        shown = {"retried", "completed-after-retry", "changed", "kept"}
        for filters, expected in (
            (Filters(), shown),
            (Filters(metadata={"team": "blue"}), {"changed"}),
            (Filters(assigned_to="ex-9", priority=5), {"changed"}),
            (Filters(statuses=("QUEUED",)), {"retried", "changed"}),
            (Filters(statuses=("FAILED",)), set()),
            (Filters(task_ids=("kept", "deleted")), {"kept"}),
            (Filters(overdue=True), set()),
            (Filters(scheduled=False), shown),
            (Filters(deleted_too=True), {one.task_id for one in all_lives}),
        ):
            page = await tasks.list_tasks(pool, "default", filters)
            assert ({row.task_id for row in page.rows}, page.total_count) == (expected, len(expected)), filters
        assert await tasks.known(pool, "default", ["kept", "deleted"]) == {"kept"}
    finally:
        await pool.close()


async def test_verify_names_a_deleted_task_that_is_shown_again(database_dsn: str) -> None:
    world = await World(database_dsn).start()
    store_lives(database_dsn, all_lives := lives())
    await world.feed(bodies_of(all_lives))
    await world.stop()
    execute(database_dsn, "UPDATE task_executions SET deleted_at = NULL WHERE task_id = 'deleted'")
    report = await verify(database_dsn)
    assert {(each.subject, each.field) for each in report.differences} >= {("deleted", "deleted_at")}
