"""Entities in their table: applied once, gaps filled, and as ``verify`` expects them."""

from collections.abc import AsyncIterator, Sequence

import pytest

from taskloom.domain.entities.commands import RemoveDefinition, SaveDefinition
from taskloom.domain.entities.definitions import Definition
from taskloom.domain.envelope import Recorded
from taskloom.replay.verify import Verifier
from taskloom.store.batch import Batch, OffsetMove
from taskloom.store.history import HistoryReader
from taskloom.store.shard import ShardStore
from taskloom.views.entities import query
from taskloom.views.reading import Pool, read_pool
from taskloom.wire.topics import partition_of, shard_of
from tests.integration.projection.world import PARTITIONS, SHARDS, TOPICS, World, execute
from tests.unit.domain.entities.test_entities import ETL, body, history

pytestmark = pytest.mark.integration

SAVED = history(SaveDefinition(body("a")), SaveDefinition(body("b")), SaveDefinition(body("c")))


def bodies(recorded: Sequence[Recorded]) -> list[tuple[str, bytes]]:
    return [(each.task_id, each.body) for each in recorded]


def store(dsn: str, events: Sequence[Recorded]) -> None:
    partition = partition_of(ETL, PARTITIONS)
    shard = ShardStore(dsn, shard_of(partition, SHARDS), partitions=PARTITIONS, shards=SHARDS)
    shard.open()
    owned = shard.take_over(partition)
    move = OffsetMove(partition, owned.epoch, owned.next_offset, owned.next_offset + 1, owned.published)
    shard.put(Batch(events=list(events), moves=[move]))
    shard.close()


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


async def test_the_newest_version_stands_in_the_table_whatever_came_twice(world: World, pool: Pool) -> None:
    await world.feed(bodies(SAVED[:2]))
    await world.feed(bodies(SAVED[:2] + SAVED))
    entity = await query.get(pool, "definition", "acme", "etl")
    assert entity is not None
    assert isinstance(entity.value, Definition)
    assert (entity.version, entity.value.body) == (3, body("c"))
    assert await query.get(pool, "definition", "default", "etl") is None, "another tenant's"
    assert world.dead.buried == []


async def test_an_event_without_those_before_it_goes_to_the_dead_letters_and_the_others_go_on(
    world: World, pool: Pool
) -> None:
    await world.feed(bodies([SAVED[2], SAVED[0]]))
    entity = await query.get(pool, "definition", "acme", "etl")
    assert entity is not None
    assert entity.version == 1
    assert ["Unfillable" in each.reason for each in world.dead.buried] == [True]


async def test_a_removed_definition_is_in_no_list(world: World, pool: Pool) -> None:
    await world.feed(bodies(SAVED))
    assert [
        each.value.facts()["revision"]
        for each in await query.list_entities(pool, "definition", "acme", after="", limit=9)
    ] == [3]
    assert await query.count(pool, "definition", "acme") == 1
    removed = history(
        SaveDefinition(body("a")), SaveDefinition(body("b")), SaveDefinition(body("c")), RemoveDefinition()
    )
    await world.feed(bodies(removed))
    assert await query.get(pool, "definition", "acme", "etl") is None
    assert await query.list_entities(pool, "definition", "acme", after="", limit=9) == []


async def test_verify_names_an_entity_whose_row_or_history_was_changed(
    world: World, pool: Pool, database_dsn: str
) -> None:
    async def differences() -> list[tuple[str, str]]:
        async with HistoryReader(database_dsn) as stored:
            verifier = Verifier(stored, pool, shards=SHARDS, events_topic=TOPICS.events, timeout_s=0.1)
            return [(each.subject, each.field) for each in (await verifier.run()).differences]

    store(database_dsn, SAVED)
    await world.feed(bodies(SAVED))
    assert await differences() == []
    execute(database_dsn, "UPDATE entities SET entity = replace(encode(entity, 'escape'), 'etl', 'elt')::bytea")
    assert await differences() == [(ETL, "read row")]
    execute(database_dsn, "DELETE FROM entities")
    assert await differences() == [(ETL, "read row")]
