"""Titles and removals of sessions: whatever order the events come in, the session holds what came after its removal."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from taskloom.domain.entities.events import SessionRemoved, SessionTitled
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.task import commands as c
from taskloom.replay.verify import Verifier
from taskloom.store.batch import Batch, OffsetMove
from taskloom.store.history import HistoryReader
from taskloom.store.shard import ShardStore
from taskloom.testing.histories import START, TaskLife
from taskloom.views.reading import Pool, read_pool
from taskloom.views.sessions import query
from taskloom.views.sessions.query import Filters
from taskloom.views.task_executions import query as tasks
from taskloom.wire.recorded import GENESIS, seal
from taskloom.wire.topics import partition_of, shard_of
from tests.integration.projection.world import PARTITIONS, SHARDS, TOPICS, World, bodies_of, execute, store_lives

pytestmark = pytest.mark.integration

SESSION = entity_id("session", "default", "s")


def lives() -> list[TaskLife]:
    found = [
        TaskLife(f"task-{n}", c.SubmitTask(kind="echo", session_id="s"), at=START + timedelta(seconds=10 * n))
        for n in range(4)
    ]
    for life in found[:3]:
        life.start().complete()
    return found


def said() -> list[Recorded]:
    """Titled, removed between the second and the third task, and titled again."""
    history: list[Recorded] = []
    for event, at_s in ((SessionTitled("old"), 5), (SessionRemoved(), 15), (SessionTitled("new"), 40)):
        meta = EventMeta(SESSION, len(history) + 1, START + timedelta(seconds=at_s), "default")
        history.append(seal(event, meta, history[-1].digest if history else GENESIS))
    return history


def bodies(recorded: list[Recorded]) -> list[tuple[str, bytes]]:
    return [(each.task_id, each.body) for each in recorded]


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    opened = read_pool(database_dsn)
    await opened.open(wait=True)
    yield opened
    await opened.close()


@pytest.fixture
async def world(database_dsn: str) -> AsyncIterator[World]:
    made = await World(database_dsn).start()
    yield made
    await made.stop()


@pytest.mark.parametrize("order", ["tasks first", "removal first", "by turns"])
async def test_it_holds_what_came_after_its_removal_in_whatever_order(world: World, pool: Pool, order: str) -> None:
    of_tasks, of_session = bodies_of(lives()), bodies(said())
    if order == "tasks first":
        await world.feed(of_tasks)
        await world.feed(of_session)
    elif order == "removal first":
        await world.feed(of_session)
        assert await query.get(pool, "default", "s") is None
        await world.feed(of_tasks)
    else:
        for place, one in enumerate(of_tasks):
            await world.feed([one, *of_session[place : place + 1]])
    found = await query.get(pool, "default", "s")
    assert found is not None
    assert (found.title, found.task_count, found.successful_tasks, found.tokens_used) == ("new", 2, 1, 8)
    assert found.created_at == START + timedelta(seconds=20.5)
    assert found.latest_task_id == "task-3"
    rows, _ = await tasks.of_session(pool, "default", "s", since=found.removed_at)
    assert [row.task_id for row in rows] == ["task-2", "task-3"]
    assert world.dead.buried == []


async def test_one_whose_tasks_are_all_from_before_is_gone_until_the_next(world: World, pool: Pool) -> None:
    of_session = bodies(said())
    await world.feed(bodies_of(lives()[:2]))
    await world.feed(of_session[:2])
    assert await query.get(pool, "default", "s") is None
    assert (await query.list_sessions(pool, "default")).sessions == []
    await world.feed(bodies_of(lives()[2:3]))
    found = await query.get(pool, "default", "s")
    assert found is not None
    assert (found.title, found.task_count) == ("", 1)


async def test_lists_are_narrowed_and_paged(world: World, pool: Pool) -> None:
    await world.feed(bodies(said()) + bodies_of(lives()))
    others = [TaskLife(f"o-{n}", c.SubmitTask(kind="echo", session_id=f"o-{n}"), actor="bob") for n in range(3)]
    await world.feed(bodies_of(others))

    async def names(**wanted: object) -> list[str]:
        page = await query.list_sessions(pool, "default", Filters(**wanted))  # type: ignore[arg-type]
        assert page.total_count == len(page.sessions)
        return [each.session_id for each in page.sessions]

    assert await names(q="NEW") == ["s"]
    assert await names(q="o-_") == []
    assert sorted(await names(user_id="bob")) == ["o-0", "o-1", "o-2"]
    assert await names(created_after=START + timedelta(seconds=20)) == ["s"]
    assert len(await names(active_since=START)) == 4
    assert await names(active_since=START + timedelta(days=1)) == []
    seen: list[str] = []
    cursor = None
    while True:
        page = await query.list_sessions(pool, "default", limit=3, cursor=cursor)
        seen += [each.session_id for each in page.sessions]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ["s", "o-2", "o-1", "o-0"]


async def test_verify_expects_titles_and_removals_and_names_what_was_changed(
    world: World, pool: Pool, database_dsn: str
) -> None:
    all_lives, history = lives(), said()
    store_lives(database_dsn, all_lives)
    partition = partition_of(SESSION, PARTITIONS)
    shard = ShardStore(database_dsn, shard_of(partition, SHARDS), partitions=PARTITIONS, shards=SHARDS)
    shard.open()
    owned = shard.take_over(partition)
    move = OffsetMove(partition, owned.epoch, owned.next_offset, owned.next_offset + 1, owned.published)
    shard.put(Batch(events=history, moves=[move]))
    shard.close()
    await world.feed(bodies_of(all_lives) + bodies(history))

    async def faults() -> list[str]:
        async with HistoryReader(database_dsn) as reader:
            report = await Verifier(reader, pool, shards=2, events_topic=TOPICS.events, timeout_s=0.3).run()
        return [f"{each.subject}: {each.field}" for each in report.differences]

    assert await faults() == []
    execute(database_dsn, "UPDATE session_marks SET title = 'other'")
    assert await faults() == [f"{SESSION}: session marks"]
