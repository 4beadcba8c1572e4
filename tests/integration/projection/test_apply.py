"""The applier on real tables: each record once, whatever happens to the database or to the owner."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest
from aiokafka import TopicPartition

from services.projection.apply import Rewound
from taskloom.domain.task import commands as c
from taskloom.domain.values import OUTPUT_SEQ_SPAN, OutputSummary
from taskloom.testing.histories import START, TaskLife, one_step_task, varied_submission
from taskloom.views.executors import query as executors
from taskloom.views.outputs import query as outputs
from taskloom.views.reading import Pool, read_pool
from taskloom.views.sessions import query as sessions
from taskloom.views.task_executions import query as tasks
from taskloom.views.task_executions.filters import Filters
from taskloom.views.task_executions.fold import fold_all
from taskloom.wire.messages import ExecutorHeartbeat, OutputChunk
from tests.integration.projection.world import TOPICS, World, bodies_of, execute

pytestmark = pytest.mark.integration


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


def varied_lives(count: int) -> list[TaskLife]:
    lives = []
    for number in range(count):
        life = TaskLife(f"task-{number}", varied_submission(number), at=START + timedelta(seconds=number))
        for step in range(number % 25):
            life.step(number * 7 + step * 11)
        lives.append(life)
    return lives


async def test_rows_read_back_are_what_the_fold_gives(world: World, pool: Pool) -> None:
    lives = varied_lives(120)
    bodies = bodies_of(lives)
    for first in range(0, len(bodies), 37):
        await world.feed(bodies[first : first + 37])
    for life in lives:
        assert await tasks.get(pool, "default", life.task_id) == fold_all(life.recorded)
    assert world.dead.buried == []
    counted = await tasks.count_by_status(pool, "default")
    assert sum(counted.values()) == sum(life.state is not None and not life.state.deleted for life in lives)
    rows = execute(world.dsn, "SELECT status, count(*) FROM task_executions WHERE deleted_at IS NULL GROUP BY status")
    assert counted == dict(rows)


async def test_records_that_come_twice_change_nothing(world: World, pool: Pool) -> None:
    lives = [one_step_task(f"task-{number}", START, session_id="s") for number in range(20)]
    await world.feed(bodies_of(lives))
    await world.feed(bodies_of(lives))
    await world.feed(bodies_of(lives[:3]) * 2)
    session = await sessions.get(pool, "default", "s")
    assert session is not None
    assert (session.task_count, session.successful_tasks, session.tokens_used) == (20, 20, 160)
    assert await tasks.count_by_status(pool, "default") == {"COMPLETED": 20}
    assert execute(world.dsn, "SELECT sum(completed), sum(attempts_completed) FROM metrics_totals") == [(20, 20)]


async def test_gap_is_filled_from_the_store(database_dsn: str, pool: Pool) -> None:
    life = one_step_task("task-1", START)
    world = await World(database_dsn, [life]).start()
    await world.feed([("task-1", life.bodies[0])])
    await world.feed([("task-1", life.bodies[4])])
    assert await tasks.get(pool, "default", "task-1") == fold_all(life.recorded)
    assert execute(database_dsn, "SELECT waits, attempts_completed FROM metrics_totals") == [(1, 1)]
    await world.stop()


async def test_poison_record_goes_to_the_dead_letters_and_blocks_nothing(world: World, pool: Pool) -> None:
    life = one_step_task("task-1", START)
    await world.feed([("task-1", life.bodies[0]), ("task-1", b"poison"), *bodies_of([life])])
    assert [dead.record.value for dead in world.dead.buried] == [b"poison"]
    row = await tasks.get(pool, "default", "task-1")
    assert row is not None
    assert row.status == "COMPLETED"


async def test_record_that_postgresql_refuses_is_found_and_set_aside(world: World, pool: Pool) -> None:
    """A number too large for its column passes the fold and fails in the transaction, among many good ones."""
    lives = [one_step_task(f"task-{number}", START) for number in range(10)]
    huge = TaskLife("task-huge").start().complete(output=OutputSummary(1, 2**70, 1))
    bodies = bodies_of([*lives[:5], huge, *lives[5:]])
    await world.feed(bodies)
    assert [dead.record.value for dead in world.dead.buried] == [huge.bodies[-1]]
    assert await tasks.count_by_status(pool, "default") == {"COMPLETED": 10, "RUNNING": 1}
    assert await world.feed_until_applied(bodies_of([one_step_task("task-after", START)])) == 0


async def test_stale_owner_writes_nothing_and_reads_on_from_where_the_table_stands(
    database_dsn: str, pool: Pool
) -> None:
    stale, fresh = await World(database_dsn).start(), await World(database_dsn).start()
    lives = [one_step_task(f"task-{number}", START, session_id="s") for number in range(30)]
    bodies = bodies_of(lives)
    await stale.feed(bodies[:50])
    await fresh.applier.take([TopicPartition(TOPICS.events, number) for number in range(8)])
    fresh.offsets = dict(stale.offsets)
    await fresh.feed(bodies[50:])
    with pytest.raises(Rewound) as rewound:
        await stale.feed(bodies[50:])
    assert {tp: offset for tp, offset in rewound.value.offsets.items() if offset} == fresh.offsets
    session = await sessions.get(pool, "default", "s")
    assert session is not None
    assert (session.task_count, session.successful_tasks) == (30, 30)
    await stale.stop()
    await fresh.stop()


async def test_connection_lost_in_the_middle_loses_and_repeats_nothing(world: World, pool: Pool) -> None:
    lives = [one_step_task(f"task-{number}", START, session_id="s") for number in range(300)]
    bodies = bodies_of(lives)

    async def cut_connections() -> None:
        for _ in range(8):
            execute(
                world.dsn,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'taskloom.projection' AND datname = current_database()",
            )
            await asyncio.sleep(0.05)

    cutting = asyncio.create_task(cut_connections())
    for first in range(0, len(bodies), 100):
        await world.feed_until_applied(bodies[first : first + 100])
        await asyncio.sleep(0.02)
    await cutting
    session = await sessions.get(pool, "default", "s")
    assert session is not None
    assert (session.task_count, session.successful_tasks, session.tokens_used) == (300, 300, 2400)
    assert await tasks.count_by_status(pool, "default") == {"COMPLETED": 300}
    assert execute(world.dsn, "SELECT sum(completed) FROM metrics_hours") == [(300,)]


def chunk(seq: int, text: str = "", data: bytes = b"", attempt: int = 1, stream: str = "stdout") -> tuple[str, bytes]:
    piece = OutputChunk("task-1", attempt, seq, stream, START, text, data)  # type: ignore[arg-type]
    return "task-1", msgspec.json.encode(piece)


async def test_output_is_stored_whole_once_and_says_when_it_is_complete(world: World, pool: Pool) -> None:
    life = TaskLife("task-1").start()
    await world.feed(bodies_of([life]))
    await world.feed_topic(TOPICS.outputs, [chunk(1, "a\x00ü"), chunk(2, data=b"\xff\xfe", stream="stderr")])
    await world.feed_topic(TOPICS.outputs, [chunk(1, "a\x00ü"), chunk(2, data=b"\xff\xfe"), chunk(1, "a\x00ü")])
    page = await outputs.chunks(pool, "default", "task-1")
    assert page is not None
    assert [(one.seq, one.stream, one.is_text, one.body) for one in page.chunks] == [
        (1, "stdout", True, "a\x00ü".encode()),
        (2, "stderr", False, b"\xff\xfe"),
    ]
    assert not page.complete
    await world.feed([("task-1", body) for body in life.complete(output=OutputSummary(3, 3, 10)).bodies[-1:]])
    page = await outputs.chunks(pool, "default", "task-1")
    assert page is not None
    assert not page.complete
    await world.feed_topic(TOPICS.outputs, [chunk(3, "end")])
    first = await outputs.chunks(pool, "default", "task-1", limit=2)
    assert first is not None
    assert (first.next, first.complete) == (2, False)
    last = await outputs.chunks(pool, "default", "task-1", after=first.next)
    assert last is not None
    assert ([one.body for one in last.chunks], last.next, last.complete) == ([b"end"], 3, True)


async def test_output_is_chosen_by_stream_and_attempt_and_hidden_from_other_tenants(world: World, pool: Pool) -> None:
    await world.feed(bodies_of([TaskLife("task-1").start()]))
    second = OUTPUT_SEQ_SPAN + 1
    await world.feed_topic(
        TOPICS.outputs, [chunk(1, "o"), chunk(2, "e", stream="stderr"), chunk(second, "2", attempt=2)]
    )
    err = await outputs.chunks(pool, "default", "task-1", streams=["stderr"])
    again = await outputs.chunks(pool, "default", "task-1", attempt=2)
    assert err is not None
    assert again is not None
    assert [one.seq for one in err.chunks] == [2]
    assert [one.seq for one in again.chunks] == [second]
    assert await outputs.chunks(pool, "other", "task-1") is None
    assert await outputs.chunks(pool, "default", "nothing") is None
    assert await outputs.last_seq(pool, "task-1") == second


async def test_executors_show_their_newest_heartbeat(world: World, pool: Pool) -> None:
    beats = [
        ExecutorHeartbeat("e1", "i1", "ready", START + timedelta(seconds=s), ("echo", kind), host="h\x00")
        for s, kind in ((1, "old"), (5, "new"), (3, "late"))
    ]
    for beat in beats:
        await world.feed_topic(TOPICS.executors, [("e1", msgspec.json.encode(beat))])
    [found] = await executors.list_executors(pool)
    assert (found.heartbeat.kinds, found.status, found.heartbeat.host) == (("echo", "new"), "lost", "h\ufffd")
    assert await executors.known_kinds(pool) == set()
    assert await executors.known_kinds(pool, within_s=1e9) == {"echo", "new"}
    await world.feed_topic(TOPICS.executors, [("e1", None)])
    assert await executors.get(pool, "e1") is None


async def test_paused_task_is_listed_under_its_status(world: World, pool: Pool) -> None:
    await world.feed(bodies_of([TaskLife("task-1").do(c.PauseTask("wait")), TaskLife("task-2")]))
    page = await tasks.list_tasks(pool, "default", Filters(statuses=["PAUSED"]))
    assert ([row.task_id for row in page.rows], page.total_count) == (["task-1"], 1)
