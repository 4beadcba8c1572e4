"""Changed limits of tenants are written with their event and seen by whoever follows, none left out."""

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from services.gateway.readside import PostgresViews
from taskloom.domain.scheduling.quotas import Quota
from taskloom.store.batch import Batch
from taskloom.store.shard import ShardStore
from taskloom.tenant_limits import LimitsBook, LimitsRow
from taskloom.views.reading import read_pool
from tests.integration.store.histories import PARTITIONS, history, task_on

pytestmark = pytest.mark.integration


@pytest.fixture
def stores(database_dsn: str) -> Iterator[list[ShardStore]]:
    with ExitStack() as stack:
        made = [ShardStore(database_dsn, shard, partitions=PARTITIONS, shards=2) for shard in range(2)]
        for store in made:
            store.open()
            stack.callback(store.close)
        yield made


def row(tenant: str, version: int, tokens: int | None) -> LimitsRow:
    return LimitsRow(tenant, version, None if tokens is None else b'{"tokens":%d}' % tokens)


async def test_changes_are_followed_by_orchestrators_and_gateways(stores: list[ShardStore], database_dsn: str) -> None:
    first, book = history(task_on(0), 1), LimitsBook({})
    assert book.learn(stores[1].limits(book.since)) == []
    stores[0].put(Batch(events=first, limits=[row("red", 1, 5), row("blue", 1, 7)]))
    assert sorted(book.learn(stores[1].limits(book.since))) == ["blue", "red"]
    assert book.learn(stores[1].limits(book.since)) == []
    stores[0].put(Batch(events=history(task_on(0), 1, after=first[-1]), limits=[row("red", 2, 6), row("blue", 1, 9)]))
    assert book.learn(stores[1].limits(book.since)) == ["red"], "an older version changes nothing"
    assert book.quotas == {"red": Quota(tokens=6), "blue": Quota(tokens=7)}
    async with read_pool(database_dsn) as pool:
        seen = LimitsBook({})
        seen.learn(await PostgresViews(pool, "events").tenant_limits(seen.since))
        assert seen.quotas == book.quotas


def test_a_transaction_that_commits_late_is_not_missed(stores: list[ShardStore], database_dsn: str) -> None:
    """It began before the others, and ends after who follows has seen those."""
    book = LimitsBook({})
    put = "INSERT INTO tenant_limits VALUES (%s, 1, %s, pg_current_xact_id())"
    with psycopg.connect(database_dsn) as slow:
        slow.execute(put, ("late", b'{"tokens":1}'))
        stores[0].put(Batch(events=history(task_on(0), 1), limits=[row("red", 1, 5)]))
        assert book.learn(stores[0].limits(book.since)) == ["red"]
        assert book.learn(stores[0].limits(book.since)) == []
        slow.commit()
    assert book.learn(stores[0].limits(book.since)) == ["late"]
    assert sorted(book.quotas) == ["late", "red"]
