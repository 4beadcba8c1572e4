"""Leases on a real server: several owners at once never hold more of a limit than it has, whoever is cut off when."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskloom.domain.scheduling.leases import Limit, Occupied, Wish
from taskloom.store.batch import Batch, Lease, OffsetMove, Ownership
from taskloom.store.errors import Fenced
from taskloom.store.leases import LOCKS
from taskloom.store.shard import ShardStore
from tests.integration.store.histories import PARTITIONS, history, task_on

pytestmark = pytest.mark.integration

KEY, WIDE, QUEUE = Limit("key", "red", "k"), Limit("key", "red", "wide"), Limit("queue", "", "q")
ODD = Limit("key", "red", "nul\0 and 'quotes'")


def wish(task_id: str, partition: int = 0, attempt: int = 1, **places: int) -> Wish:
    names = {"key": KEY, "wide": WIDE, "queue": QUEUE, "odd": ODD}
    return Wish(task_id, attempt, partition, "red", tuple((names[name], count) for name, count in places.items()))


@pytest.fixture
def stores(database_dsn: str) -> Iterator[list[ShardStore]]:
    """Two orchestrators, one connection each to shard 0."""
    with ExitStack() as stack:
        made = [ShardStore(database_dsn, 0, partitions=PARTITIONS, shards=2) for _ in range(2)]
        for store in made:
            store.open()
            stack.callback(store.close)
        yield made


@pytest.fixture
def rows(database_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        yield connection


def epochs(*owned: Ownership) -> dict[int, int]:
    return {each.partition: each.epoch for each in owned}


def test_places_are_granted_until_the_limit_and_come_back_with_the_end(stores: list[ShardStore]) -> None:
    one, two = stores
    mine, yours = epochs(one.take_over(0)), epochs(two.take_over(2))
    found = one.take_leases("one", mine, [wish("a", key=2), wish("b", key=2, odd=1), wish("c", odd=1)])
    assert (set(found.granted), set(found.fenced)) == ({"a", "b"}, set())
    assert {limit: each.taken for limit, each in found.occupied.items()} == {ODD: 1}
    refused = two.take_leases("two", yours, [wish("x", 2, key=2)])
    assert not refused.granted
    assert sorted(holder.task_id for holder in refused.occupied[KEY].holders) == ["a", "b"]
    one.put(Batch(ended=[Lease(KEY, "a")]))
    assert two.look_at_leases("two", [KEY, ODD])[KEY].taken == 1
    assert two.take_leases("two", yours, [wish("x", 2, key=2)]).granted == {"x"}


def test_a_place_is_left_to_who_waits_for_longer_and_only_while_it_does(stores: list[ShardStore]) -> None:
    one, two = stores
    mine, yours = epochs(one.take_over(0)), epochs(two.take_over(2))
    one.take_leases("one", mine, [wish("a", key=1)])
    two.take_leases("two", yours, [wish("x", 2, key=1)])
    one.put(Batch(ended=[Lease(KEY, "a")]))
    refused = one.take_leases("one", mine, [wish("b", key=1)])
    assert (refused.granted, refused.occupied) == (frozenset(), {KEY: Occupied(0, 1)})
    assert two.look_at_leases("two", [KEY])[KEY] == Occupied(0, 0), "it is the first of those that wait"
    two.look_at_leases("two", [], gone=[KEY])
    assert one.take_leases("one", mine, [wish("b", key=1)]).granted == {"b"}


def test_asked_again_the_same_is_granted_and_a_new_attempt_replaces_the_old_one(
    stores: list[ShardStore], rows: psycopg.Connection
) -> None:
    store = stores[0]
    mine = epochs(store.take_over(0))
    for attempt in (1, 1, 2):
        assert store.take_leases("one", mine, [wish("a", attempt=attempt, key=1)]).granted == {"a"}
    assert rows.execute("SELECT task_id, attempt FROM leases").fetchall() == [("a", 2)]


def test_what_the_dead_waited_for_counts_for_two_seconds_and_goes_with_a_take_over(
    stores: list[ShardStore], rows: psycopg.Connection
) -> None:
    one, two = stores
    mine, yours = one.take_over(0), two.take_over(2)
    one.take_leases("one", epochs(mine), [wish("a", key=1)])
    two.take_leases("two", epochs(yours), [wish("x", 2, key=1)])
    one.put(Batch(ended=[Lease(KEY, "a")]))
    rows.execute("UPDATE lease_waits SET seen_at = seen_at - interval '2 s'")
    assert one.take_leases("one", epochs(mine), [wish("b", key=1)]).granted == {"b"}
    rows.execute("UPDATE lease_waits SET seen_at = seen_at - interval '1 minute'")
    assert one.settle_leases(0, mine.epoch, [wish("b", key=1)])
    assert rows.execute("SELECT FROM lease_waits").fetchall() == []


def test_who_lost_the_partition_takes_nothing_and_settles_nothing(stores: list[ShardStore]) -> None:
    old, new = stores
    mine = old.take_over(0)
    old.take_leases("old", epochs(mine), [wish("unstored", key=2), wish("live", key=2)])
    owned = new.take_over(0)
    assert new.settle_leases(0, owned.epoch, [wish("live", key=2), wish("before", queue=1)])
    assert new.look_at_leases("new", [KEY, QUEUE])[KEY].taken == 1
    found = old.take_leases("old", epochs(mine), [wish("late", key=2)])
    assert (set(found.granted), set(found.fenced)) == (set(), {0})
    assert not old.settle_leases(0, mine.epoch, [])
    with pytest.raises(Fenced):
        old.put(Batch(moves=[OffsetMove(0, mine.epoch, 0, 1, 0)], ended=[Lease(KEY, "live")]))
    now = new.look_at_leases("new", [KEY, QUEUE])
    assert (now[KEY].taken, now[QUEUE].taken) == (1, 1)


def test_a_take_over_waits_for_leases_that_are_being_taken(stores: list[ShardStore], database_dsn: str) -> None:
    """Else its new owner would not see them, and they would be nobody's."""
    old, new = stores
    mine = old.take_over(0)
    with psycopg.connect(database_dsn) as holding, ThreadPoolExecutor(2) as pool:
        holding.execute("SELECT pg_advisory_xact_lock(7461, n) FROM generate_series(0, %s) AS n", (LOCKS - 1,))
        taking = pool.submit(old.take_leases, "old", epochs(mine), [wish("a", key=1)])
        waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not holding.execute(waiting).fetchall():
            pass
        taken_over = pool.submit(new.take_over, 0)
        assert not threading.Event().wait(0.2)
        assert not taken_over.done()
        holding.commit()
        assert taking.result(10).granted == {"a"}
        owned = taken_over.result(10)
    new.settle_leases(0, owned.epoch, [])
    assert new.look_at_leases("new", [KEY])[KEY].taken == 0


RACERS, ROUNDS = 3, 12


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), places=st.integers(1, 3))
def test_owners_that_race_and_are_replaced_never_hold_more_than_there_is(
    database_dsn: str, rows: psycopg.Connection, seed: int, places: int
) -> None:
    """Each racer takes, ends and now and then dies in between; a watcher counts rows all the while."""
    rows.execute("TRUNCATE leases, lease_waits, events_0")
    watching, most = threading.Event(), {"": 0}

    def watch() -> None:
        with psycopg.connect(database_dsn, autocommit=True) as connection:
            while not watching.is_set():
                for scope, name, count in connection.execute("SELECT scope, name, count(*) FROM leases GROUP BY 1, 2"):
                    most[f"{scope}/{name}"] = max(most.get(f"{scope}/{name}", 0), count)

    with ThreadPoolExecutor(RACERS + 1) as pool:
        watched = pool.submit(watch)
        racers = [pool.submit(race, database_dsn, number, seed, places) for number in range(RACERS)]
        started = [racer.result(60) for racer in racers]
        watching.set()
        watched.result(10)
    assert most["key/k"] <= places
    assert most["queue/q"] <= places + 1
    assert all(started), "somebody never had a turn"


def race(dsn: str, number: int, seed: int, places: int) -> int:
    """How many leases a racer had. ``key`` is everybody's narrow limit, ``queue`` a wider one."""
    random, had = Random(seed + number), 0
    partition = 2 * number
    store = ShardStore(dsn, 0, partitions=PARTITIONS, shards=2)
    store.open()
    try:
        owned = store.take_over(partition)
        store.settle_leases(partition, owned.epoch, [])
        for turn in range(ROUNDS):
            names = [f"r{number}-{turn}-{n}" for n in range(random.randint(1, 4))]
            wishes = [
                wish(name, partition, **({"key": places} if random.random() < 0.8 else {}), queue=places + 1)
                for name in names
            ]
            granted = store.take_leases(f"o-{number}", epochs(owned), wishes).granted
            had += len(granted)
            if random.random() < 0.2:  # It dies here; who follows it finds leases without attempts.
                owned = store.take_over(partition)
                store.settle_leases(partition, owned.epoch, [])
                continue
            ended = [Lease(limit, w.task_id) for w in wishes if w.task_id in granted for limit, _ in w.places]
            events = history(task_on(partition, f"e{seed}-{number}-{turn}"), 1)
            after = owned.next_offset + 1
            move = OffsetMove(partition, owned.epoch, owned.next_offset, after, 0)
            store.put(Batch(events=events, moves=[move], ended=ended))
            owned = Ownership(partition, owned.epoch, after, 0)
    finally:
        store.close()
    return had
