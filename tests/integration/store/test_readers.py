from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import psycopg
import pytest

from taskloom.store.batch import Batch, OpenTask
from taskloom.store.claims import ClaimStore
from taskloom.store.errors import ClaimCorrupt, ClaimMissing, LayoutMismatch, StoreError, StoreUnavailable
from taskloom.store.history import HistoryReader, ShardCounts
from taskloom.store.shard import ShardStore
from taskloom.wire.claims import check_in
from taskloom.wire.recorded import chain_fault, unseal
from tests.integration.store.histories import PARTITIONS, history, task_on

pytestmark = pytest.mark.integration

EVEN, ODD = task_on(2), task_on(3)


@pytest.fixture
def stores(database_dsn: str) -> Iterator[list[ShardStore]]:
    stores = [ShardStore(database_dsn, shard, partitions=PARTITIONS, shards=2) for shard in range(2)]
    for store in stores:
        store.open()
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[HistoryReader]:
    async with HistoryReader(database_dsn, partitions=PARTITIONS, shards=2, max_connections=2) as reader:
        yield reader


@pytest.fixture
async def claims(database_dsn: str) -> AsyncIterator[ClaimStore]:
    async with ClaimStore(database_dsn) as claims:
        yield claims


async def test_events_are_read_from_the_right_shard_between_two_versions(
    stores: list[ShardStore], reader: HistoryReader
) -> None:
    even, odd = history(EVEN, 6), history(ODD, 2)
    stores[0].put(Batch(events=even))
    stores[1].put(Batch(events=odd))
    assert await reader.events(EVEN) == even
    assert await reader.events(ODD) == odd
    assert await reader.events(EVEN, after=1, up_to=4) == even[1:4]
    assert await reader.events(EVEN, after=1, limit=2) == even[1:3]
    assert await reader.events("unknown") == []


async def test_the_log_is_read_in_its_order_in_parts_and_narrowed_by_bytes(
    stores: list[ShardStore], reader: HistoryReader
) -> None:
    other = task_on(0, "other")
    stores[0].put(Batch(events=[*history(EVEN, 3), *history(other, 2)]))
    stores[0].put(Batch(events=history(EVEN, 5)[3:]))
    whole = await reader.log(0, 0, limit=100)
    positions = [position for position, _ in whole]
    assert positions == sorted(set(positions))
    assert [unseal(body).task_id for _, body in whole] == [EVEN] * 3 + [other] * 2 + [EVEN] * 2
    assert await reader.log_end(0) == positions[-1]
    assert await reader.log_end(1) == 0
    assert await reader.log(0, positions[0], positions[-2], limit=100) == whole[1:-1]
    assert await reader.log(0, positions[0], limit=2) == whole[1:3]
    assert await reader.log(0, 0, limit=100, holding=f'"task_id":"{other}"'.encode()) == whole[3:5]
    assert await reader.log(0, positions[-1], limit=100) == []


async def test_first_events_come_from_both_shards(stores: list[ShardStore], reader: HistoryReader) -> None:
    even, odd = history(EVEN, 3), history(ODD, 1)
    stores[0].put(Batch(events=even))
    stores[1].put(Batch(events=odd))
    found = await reader.firsts([EVEN, "unknown", ODD])
    assert sorted(found, key=lambda recorded: recorded.task_id) == sorted(
        [even[0], odd[0]], key=lambda recorded: recorded.task_id
    )


async def test_a_changed_byte_in_the_store_breaks_the_chain(
    stores: list[ShardStore], reader: HistoryReader, database_dsn: str
) -> None:
    stores[0].put(Batch(events=history(EVEN, 4)))
    assert chain_fault(await reader.bodies(EVEN)) is None
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "UPDATE events_0 SET state = convert_to(replace(convert_from(state, 'UTF8'), 'attempt\":1', 'attempt\":2'),"
            " 'UTF8') WHERE originator_version = 3"
        )
    assert chain_fault(await reader.bodies(EVEN)) == (
        "event 3 does not match its hash: it or the one before it was changed"
    )


async def test_streams_walks_all_task_ids_of_a_shard_in_pages(stores: list[ShardStore], reader: HistoryReader) -> None:
    ids = sorted(task_on(partition, name) for partition in (0, 2) for name in ("Upper", "lower", "x:y", "z"))
    stores[0].put(Batch(events=[event for task_id in ids for event in history(task_id, 3)]))
    stores[1].put(Batch(events=history(ODD, 1)))
    walked: list[str] = []
    while page := await reader.streams(0, walked[-1] if walked else "", limit=3):
        walked += page
    assert walked == ids


async def test_counts_are_those_of_the_tables(stores: list[ShardStore], reader: HistoryReader) -> None:
    [*_, last] = stores[0].put(Batch(events=history(EVEN, 3) + history(task_on(0), 2), open=[OpenTask(EVEN, 2, None)]))
    counts = await reader.counts()
    assert counts.shards == (ShardCounts(0, events=5, tasks=2, position=last), ShardCounts(1, 0, 0, 0))
    assert (counts.open_tasks, counts.claims) == (1, 0)


async def test_a_reader_goes_on_after_its_connections_were_closed(
    stores: list[ShardStore], reader: HistoryReader, database_dsn: str
) -> None:
    stores[0].put(Batch(events=history(EVEN, 1)))
    with psycopg.connect(database_dsn, autocommit=True) as killer:
        killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'taskloom-history'"
        )
    assert len(await reader.events(EVEN)) == 1


async def test_a_reader_with_other_settings_than_the_stored_data_is_refused(
    stores: list[ShardStore], database_dsn: str
) -> None:
    with pytest.raises(LayoutMismatch, match="TASKLOOM_SHARDS=2"):
        await HistoryReader(database_dsn, partitions=PARTITIONS, shards=4).open()


async def test_a_reader_of_a_database_without_tables_says_what_to_run(empty_database_dsn: str) -> None:
    with pytest.raises(StoreError, match="taskloom migrate"):
        await HistoryReader(empty_database_dsn).open()


async def test_a_reader_without_a_database_says_so_within_the_limit() -> None:
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
        await HistoryReader("postgresql://postgres@127.0.0.1:1/none").open(timeout_s=0.3)


async def test_a_large_value_comes_back_through_its_claim(claims: ClaimStore, database_dsn: str) -> None:
    large = {"text": "ü" * 70_000}
    reference, stored = check_in(large)
    assert stored is not None
    assert await claims.put(stored[1]) == stored[0]
    assert await claims.put(stored[1]) == stored[0]
    assert await claims.resolve(reference) == large
    assert await claims.resolve({"small": 1}) == {"small": 1}
    async with ClaimStore(database_dsn) as fresh:
        assert await fresh.resolve(reference) == large


async def test_a_claim_stored_with_a_batch_is_found(stores: list[ShardStore], claims: ClaimStore) -> None:
    digest = sha256(b'"v"').hexdigest()
    stores[0].put(Batch(claims=[(digest, b'"v"')]))
    assert await claims.get(digest) == b'"v"'


async def test_a_claim_that_is_missing_or_changed_is_an_error_that_names_it(
    claims: ClaimStore, database_dsn: str
) -> None:
    with pytest.raises(ClaimMissing, match="sha256:ab"):
        await claims.resolve({"$claim": "sha256:" + "ab" * 32, "bytes": 1})
    with pytest.raises(ClaimMissing):
        await claims.get("no hex")
    with psycopg.connect(database_dsn) as connection:
        connection.execute("INSERT INTO claims (digest, value) VALUES (%s, %s)", (b"\1" * 32, b"changed"))
    with pytest.raises(ClaimCorrupt, match="01010101"):
        await claims.get("01" * 32)
