"""What was used is counted with the events, once, by several writers, and added up over shards."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from services.gateway.readside import PostgresViews
from taskloom.domain.scheduling.quotas import Scope, Use, uses_of
from taskloom.store.batch import Batch, OffsetMove
from taskloom.store.errors import Fenced
from taskloom.store.shard import ShardStore
from taskloom.views.reading import read_pool
from taskloom.views.usage.query import Sum, UsageFilter
from tests.integration.store.histories import PARTITIONS, history, task_on

pytestmark = pytest.mark.integration

RED, SESSION = Scope("red"), Scope("red", "s")
EVER = [""]


@pytest.fixture
def stores(database_dsn: str) -> Iterator[list[ShardStore]]:
    with ExitStack() as stack:
        made = [ShardStore(database_dsn, shard, partitions=PARTITIONS, shards=2) for shard in range(2)]
        for store in made:
            store.open()
            stack.callback(store.close)
        yield made


def test_uses_add_up_over_batches_and_shards(stores: list[ShardStore]) -> None:
    for shard, store in enumerate(stores):
        name = task_on(shard)
        first = history(name, 2)
        store.put(Batch(events=first, uses=[Use("red", "s", "", 5, 0.5), Use("red", "", "", 5, 0.5)]))
        store.put(Batch(events=history(name, 1, after=first[-1]), uses=[Use("red", "", "", 2, 0.25)]))
    found = stores[0].uses([RED, SESSION, Scope("blue")], EVER)
    assert sorted(found) == [Use("red", "", "", 14, 1.5), Use("red", "s", "", 10, 1.0)]
    assert stores[1].uses([RED], ["2026-11-21"]) == []


def test_what_was_not_stored_was_not_used(stores: list[ShardStore]) -> None:
    store, events = stores[0], history(task_on(0), 2)
    owner = store.take_over(0)
    store.take_over(0)
    stale = OffsetMove(0, owner.epoch, owner.next_offset, 1, 0)
    with pytest.raises(Fenced):
        store.put(Batch(events=events, moves=[stale], uses=[Use("red", "", "", 5, 0.5)]))
    assert store.uses([RED], EVER) == []


async def test_what_was_used_is_read_by_day_hour_session_and_key(stores: list[ShardStore], database_dsn: str) -> None:
    at = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
    for shard, store in enumerate(stores):
        name = task_on(shard)
        first = history(name, 2)
        store.put(Batch(events=first, uses=uses_of("red", f"s{shard}", at, 5, 0.5, "k")))
        later = uses_of("red", "s0", at + timedelta(hours=10), 2, 0.25)
        store.put(Batch(events=history(name, 1, after=first[-1]), uses=later))
    days = UsageFilter("day", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))
    async with read_pool(database_dsn) as pool:
        views = PostgresViews(pool, "events")
        assert await views.usage_series("red", days) == [
            Sum("2026-03-02", 10, 1.0, 2),
            Sum("2026-03-03", 4, 0.5, 2),
        ]
        hours = structs.replace(days, by="hour")
        assert [each.name for each in await views.usage_series("red", hours)] == ["2026-03-02T15", "2026-03-03T01"]
        until = structs.replace(days, until=datetime(2026, 3, 3, tzinfo=UTC))
        assert [each.name for each in await views.usage_series("red", until)] == ["2026-03-02"]
        sessions = structs.replace(days, by="session")
        both = [Sum("s0", 9, 1.0, 3), Sum("s1", 5, 0.5, 1)]
        assert await views.usage_by_scope("red", sessions) == (both, 2)
        assert await views.usage_by_scope("red", structs.replace(sessions, limit=1, offset=1)) == (both[1:], 2)
        keys = structs.replace(days, by="key")
        assert await views.usage_by_scope("red", keys) == ([Sum("k", 10, 1.0, 2)], 1)
        assert await views.usage_series("red", structs.replace(days, key_id="k")) == [Sum("2026-03-02", 10, 1.0, 2)]
        assert await views.usage_by_scope("blue", sessions) == ([], 0)
        assert await views.usage_ended("red", days) == {}
