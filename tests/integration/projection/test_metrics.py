"""Figures as the queries read them from real tables, against the histories that were fed."""

import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.values import Priority
from taskloom.testing.histories import TaskLife, one_step_task
from taskloom.views.metrics import query, write
from taskloom.views.metrics.fold import Tally
from taskloom.views.metrics.sums import Hour, HourKey, Second, SecondKey
from taskloom.views.queues.query import get as get_queue
from taskloom.views.reading import Pool, read_pool
from tests.integration.projection.world import World, bodies_of, execute

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module may have been imported minutes ago."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
async def world(database_dsn: str) -> AsyncIterator[World]:
    world = await World(database_dsn).start()
    yield world
    await world.stop()


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    pool = read_pool(database_dsn)
    await pool.open(wait=True)
    yield pool
    await pool.close()


def ran(task_id: str, ago_s: float, seconds: float = 1.0, deadline: datetime | None = None) -> TaskLife:
    """A task that completed so long ago."""
    at = NOW - timedelta(seconds=ago_s + seconds + 1.5)  # submit, assign and start take half a second each
    life = TaskLife(task_id, c.SubmitTask(kind="echo", deadline=deadline), at=at).start()
    return life.do(c.ReportCompleted(1, "e1"), after_s=seconds)


async def test_system_figures_are_of_the_last_minute_and_hour(world: World, pool: Pool) -> None:
    lives = [ran("old", 3_700, 7.0), ran("within", 600, 3.0), ran("new", 10, 1.0)]
    failed = TaskLife("failed", c.SubmitTask(kind="echo"), at=NOW - timedelta(seconds=30)).start()
    failed.fail(retryable=False)
    running = TaskLife("running", c.SubmitTask(kind="echo"), at=NOW - timedelta(seconds=5)).start()
    theirs = TaskLife("theirs", c.SubmitTask(kind="echo"), tenant_id="red", at=NOW - timedelta(seconds=5)).start()
    await world.feed(bodies_of([*lives, failed, running, theirs]))

    found = await query.last_hour(pool, "default")
    assert (found.running, found.ended_ever, found.completed_last_minute) == (1, 4, 1)
    assert (found.completed, found.failed, found.timed, found.duration_us) == (2, 1, 2, 4_000_000)
    assert abs((found.at - datetime.now(UTC)).total_seconds()) < 5
    assert (await query.last_hour(pool, "red")).running == 1
    assert (await query.last_hour(pool, "nobody")).ended_ever == 0


async def test_peak_is_the_highest_of_the_last_hour_though_it_is_over(world: World, pool: Pool) -> None:
    together = [ran(f"t-{number}", 100, 50.0 + number) for number in range(7)]
    alone = [ran("early", 3_000, 10.0), ran("late", 10, 5.0)]
    await world.feed(bodies_of([*together, *alone]))
    found = await query.last_hour(pool, "default")
    assert (found.running, found.peak) == (0, 7)
    running = TaskLife("running", c.SubmitTask(kind="echo"), at=NOW - timedelta(seconds=140)).start()
    await world.feed(bodies_of([running]))
    found = await query.last_hour(pool, "default")
    assert (found.running, found.peak) == (1, 8)


async def test_sums_are_read_by_hour_executor_and_kind(world: World, pool: Pool) -> None:
    await world.feed(bodies_of([ran("a", 10, 2.0), ran("b", 7_300, 4.0), ran("c", 400_000)]))
    at = (await query.last_hour(pool, "default")).at
    found = await query.hours_since(pool, "default", query.first_hour(at, 4))
    assert sum(hour.completed for hour in found.hours.values()) == 2
    assert all(hour.minute == hour.second == 0 for hour in found.hours)
    assert (found.executors["e1"].attempts_us, found.executors["e1"].attempts_max_us) == (6_000_000, 4_000_000)
    assert (found.kinds["echo"].duration_min_us, found.kinds["echo"].waits) == (2_000_000, 2)
    assert (await query.of_executors(pool, "default"))["e1"].attempts == 3
    assert await query.of_executors(pool, "default", "e2") == {}
    assert (await query.hours_since(pool, "red", query.first_hour(at, 4))).hours == {}


async def test_deadlines_met_and_violated_are_counted_in_the_day(world: World, pool: Pool) -> None:
    met = ran("met", 10, deadline=NOW + timedelta(hours=1))
    missed = ran("missed", 10, deadline=NOW - timedelta(seconds=11))
    await world.feed(bodies_of([met, missed]))
    at = (await query.last_hour(pool, "default")).at
    assert await query.sla_since(pool, "default", query.first_hour(at, 24)) == query.Sla(1, 1)
    assert (await query.last_hour(pool, "default")).sla_violated == 1


async def test_queue_says_what_is_pending_running_overdue_and_how_urgent(world: World, pool: Pool) -> None:
    waiting = TaskLife("w", c.SubmitTask(kind="echo", priority=Priority.CRITICAL), at=NOW)
    late = TaskLife("l", c.SubmitTask(kind="echo", deadline=NOW - timedelta(seconds=1)), at=NOW - timedelta(seconds=9))
    await world.feed(bodies_of([waiting, late.start(), one_step_task("done", NOW)]))
    stats = await get_queue(pool, "default", "default")
    assert stats is not None
    assert (stats.pending, stats.running, stats.overdue, stats.failed) == (1, 1, 1, 0)
    assert stats.priority_distribution == {"LOW": 0, "NORMAL": 0, "HIGH": 0, "URGENT": 0, "CRITICAL": 1}


async def test_old_seconds_are_forgotten_and_recent_ones_kept(world: World, pool: Pool) -> None:
    execute(world.dsn, "INSERT INTO metrics_seconds SELECT 'default', 5, 0, 1, 0, 0, 0, 0, 0")
    await world.feed(bodies_of([ran("recent", 60), ran("ancient", 400_000)]))
    seconds = "SELECT count(*) FROM metrics_seconds WHERE second = 5"
    assert execute(world.dsn, seconds) == [(1,)]
    await world.applier.forget()
    assert execute(world.dsn, seconds) == [(0,)]
    oldest = execute(world.dsn, "SELECT min(second) FROM metrics_seconds")[0][0]
    assert oldest > time.time() - write.SECONDS_KEPT_S
    assert (await query.last_hour(pool, "default")).completed == 1


async def test_each_sum_is_added_to_what_is_there(world: World) -> None:
    key, second = HourKey("default", 500_000, "echo", "e1"), SecondKey("default", int(time.time()))
    for hour in (
        Hour(completed=1, duration_max_us=5, duration_min_us=5, wait_us=3),
        Hour(completed=2, duration_max_us=9, duration_min_us=2, wait_us=4),
        Hour(),
    ):
        tally = Tally({key: hour}, {second: Second(running=-1, completed=1)})
        await world.database.transaction(lambda cursor, tally=tally: write.add(cursor, tally))  # type: ignore[misc]
    columns = "completed, duration_max_us, duration_min_us, wait_us"
    for table in ("metrics_hours", "metrics_totals"):
        assert execute(world.dsn, f"SELECT {columns} FROM {table}") == [(3, 9, 2, 7)]
    assert execute(world.dsn, "SELECT running, completed FROM metrics_seconds") == [(-3, 3)]
