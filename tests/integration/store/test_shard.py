from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import psycopg
import pytest

from taskloom.store.batch import Batch, OffsetMove, OpenTask, Ownership, SnapshotRow
from taskloom.store.errors import Fenced, LayoutMismatch, StoreError, StoreUnavailable, VersionConflict
from taskloom.store.shard import ShardStore
from taskloom.wire.recorded import chain_fault
from tests.integration.store.histories import PARTITIONS, history, task_on

pytestmark = pytest.mark.integration

TASK = task_on(0)
DUE = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def store(database_dsn: str) -> Iterator[ShardStore]:
    store = ShardStore(database_dsn, 0, partitions=PARTITIONS, shards=2)
    store.open()
    yield store
    store.close()


def move(owner: Ownership, next_offset: int, published: int = 0) -> OffsetMove:
    return OffsetMove(owner.partition, owner.epoch, owner.next_offset, next_offset, published)


def test_a_batch_comes_back_as_it_was_stored(store: ShardStore) -> None:
    owner = store.take_over(0)
    events = history(TASK, 5)
    positions = store.put(
        Batch(events=events, moves=[move(owner, 7, published=0)], open=[OpenTask(TASK, 0, DUE)], claims=[claim(b"big")])
    )
    assert positions == sorted(positions)
    assert len(positions) == 5
    loaded = store.load([TASK, "unknown", TASK])
    assert list(loaded) == [TASK]
    assert (loaded[TASK].snapshot, loaded[TASK].version, loaded[TASK].events) == (None, 0, events)
    assert store.open_tasks(0) == [OpenTask(TASK, 0, DUE)]
    assert store.log(0) == list(zip(positions, [event.body for event in events], strict=True))
    assert store.max_position() == positions[-1]
    assert store.take_over(0) == Ownership(0, owner.epoch + 1, next_offset=7, published=0)


def claim(value: bytes) -> tuple[str, bytes]:
    return sha256(value).hexdigest(), value


def test_the_hash_chain_holds_over_the_stored_bytes(store: ShardStore) -> None:
    first = history(TASK, 3)
    store.put(Batch(events=first))
    store.put(Batch(events=history(TASK, 4, after=first[-1])))
    bodies = [body for _, body in store.log(0)]
    assert len(bodies) == 7
    assert chain_fault(bodies) is None
    assert chain_fault([bodies[0], *bodies[2:]]) is not None


def test_history_after_a_snapshot_leaves_out_what_the_snapshot_holds(store: ShardStore) -> None:
    events = history(TASK, 6)
    store.put(Batch(events=events, snapshots=[SnapshotRow(TASK, 4, b"at 4"), SnapshotRow(TASK, 2, b"at 2")]))
    store.put(Batch(snapshots=[SnapshotRow(TASK, 3, b"at 3")]))
    found = store.load([TASK])[TASK]
    assert (found.snapshot, found.version, found.events) == (b"at 4", 4, events[4:])


def test_an_old_owner_is_fenced_after_a_second_take_over(store: ShardStore) -> None:
    old = store.take_over(0)
    new = store.take_over(0)
    with pytest.raises(Fenced) as caught:
        store.put(Batch(events=history(TASK, 1), moves=[move(old, 1)]))
    assert caught.value.partition == 0
    assert store.max_position() == 0
    assert len(store.put(Batch(events=history(TASK, 1), moves=[move(new, 1)]))) == 1


def test_an_old_owner_is_fenced_also_when_it_consumed_nothing(store: ShardStore) -> None:
    old = store.take_over(0)
    store.take_over(0)
    with pytest.raises(Fenced):
        store.put(Batch(moves=[move(old, old.next_offset)], open=[OpenTask(TASK, 0, None)]))
    assert store.open_tasks(0) == []


def test_a_stale_expected_offset_stores_nothing(store: ShardStore) -> None:
    zero, two = store.take_over(0), store.take_over(2)
    store.put(Batch(moves=[move(zero, 10)]))
    with pytest.raises(Fenced) as caught:
        store.put(Batch(events=history(TASK, 1), moves=[move(two, 5), move(zero, 10)]))
    assert caught.value.partition == 0
    assert store.max_position() == 0
    assert store.take_over(2).next_offset == 0


def test_a_version_conflict_stores_nothing_and_names_the_tasks(store: ShardStore, database_dsn: str) -> None:
    owner = store.take_over(0)
    other, events = task_on(0, "other"), history(TASK, 2)
    store.put(Batch(events=events))
    with pytest.raises(VersionConflict) as caught:
        store.put(
            Batch(
                events=[*history(other, 2), events[1]],
                moves=[move(owner, 3)],
                open=[OpenTask(other, 0, DUE)],
                claims=[claim(b"value")],
                snapshots=[SnapshotRow(other, 2, b"state")],
            )
        )
    assert caught.value.task_ids == (TASK,)
    assert store.load([other]) == {}
    assert store.open_tasks(0) == []
    assert store.take_over(0).next_offset == 0
    with psycopg.connect(database_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM snapshots_0").fetchone() == (0,)


def test_an_event_twice_in_one_batch_is_a_conflict_that_names_its_task(store: ShardStore) -> None:
    [event] = history(TASK, 1)
    with pytest.raises(VersionConflict) as caught:
        store.put(Batch(events=[event, event]))
    assert caught.value.task_ids == (TASK,)


def test_open_rows_are_moved_and_closed(store: ShardStore) -> None:
    tasks = [task_on(0, name) for name in ("a", "b", "c")]
    store.put(Batch(open=[OpenTask(task, 0, DUE) for task in tasks]))
    later = DUE + timedelta(hours=1)
    store.put(Batch(open=[OpenTask(tasks[0], 0, None), OpenTask(tasks[1], 0, later)], closed=[tasks[2], tasks[0]]))
    assert store.open_tasks(0) == [OpenTask(tasks[1], 0, later)]


def test_claims_that_exist_are_kept(store: ShardStore) -> None:
    store.put(Batch(claims=[claim(b"one"), claim(b"one")]))
    store.put(Batch(claims=[claim(b"one"), claim(b"two")]))
    assert store.put(Batch()) == []


def test_published_marks_never_go_back_and_obey_the_fence(store: ShardStore) -> None:
    owner = store.take_over(0)
    store.mark_published([(0, owner.epoch, 5)])
    store.mark_published([(0, owner.epoch, 3), (2, 1, 9)])
    store.put(Batch(moves=[move(owner, 1, published=4)]))
    new = store.take_over(0)
    assert new.published == 5
    store.mark_published([(0, owner.epoch, 8)])
    assert store.take_over(0).published == 5


def test_a_partition_never_owned_is_published_up_to_the_end_of_the_log(store: ShardStore) -> None:
    positions = store.put(Batch(events=history(TASK, 3)))
    assert store.take_over(4) == Ownership(4, epoch=1, next_offset=0, published=positions[-1])


def test_thousands_of_events_in_one_put_do_not_hang(store: ShardStore) -> None:
    events = [event for n in range(1_000) for event in history(f"bulk-{n}", 4)]
    positions = store.put(Batch(events=events))
    assert positions == list(range(positions[0], positions[0] + 4_000))
    assert len(store.load([f"bulk-{n}" for n in range(1_000)])) == 1_000
    assert [body for _, body in store.log(positions[1_999], limit=3)] == [event.body for event in events[2_000:2_003]]


def test_a_partition_of_another_shard_is_refused(store: ShardStore) -> None:
    with pytest.raises(ValueError, match="partition 1 does not belong to shard 0"):
        store.take_over(1)


def test_a_database_without_tables_says_what_to_run(empty_database_dsn: str) -> None:
    with pytest.raises(StoreError, match="taskloom migrate"):
        ShardStore(empty_database_dsn, 0, partitions=PARTITIONS, shards=2).open()


def test_settings_that_do_not_fit_the_stored_data_are_refused(store: ShardStore, database_dsn: str) -> None:
    with pytest.raises(LayoutMismatch, match="TASKLOOM_PARTITIONS=8 and TASKLOOM_SHARDS=2"):
        ShardStore(database_dsn, 0, partitions=16, shards=2).open()
    other_shard = ShardStore(database_dsn, 1, partitions=PARTITIONS, shards=2)
    other_shard.open()
    other_shard.close()


def test_a_dsn_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(StoreError, match="DSN cannot be read") as caught:
        ShardStore("postgresql://me:secret@[", 0, partitions=PARTITIONS, shards=2).open()
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there_is_named_within_the_time_limit() -> None:
    store = ShardStore("postgresql://postgres@127.0.0.1:1/nothing", 0, partitions=PARTITIONS, shards=2)
    with pytest.raises(StoreUnavailable, match=r"'nothing' at 127\.0\.0\.1 did not answer within 0\.3 s"):
        store.open(timeout_s=0.3)
