"""What was used is counted with the events, once, by several writers, and added up over shards."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from taskloom.domain.scheduling.quotas import Scope, Use
from taskloom.store.batch import Batch, OffsetMove
from taskloom.store.errors import Fenced
from taskloom.store.shard import ShardStore
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
