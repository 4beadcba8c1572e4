"""The webhooks of tenants whose tasks end here. Their owner may be another orchestrator, so they are read from the
store, at most once a second a tenant; a change counts for ends from a second later on."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.orchestrator.entities import entity_of
from services.orchestrator.ports import Store
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.webhooks import ENTITY, Webhooks
from taskloom.domain.values import Webhook
from taskloom.wire.topics import partition_of, shard_of

FRESH_FOR: Final = timedelta(seconds=1)
KEPT: Final = 10_000
"""Tenants remembered; the one read longest ago goes first."""


class StoredWebhooks:
    """``stores`` are all shards, those of others' partitions too."""

    def __init__(self, stores: Sequence[Store], partitions: int) -> None:
        self._stores = stores
        self._partitions = partitions
        self._known: OrderedDict[str, tuple[datetime, tuple[Webhook, ...]]] = OrderedDict()

    def of(self, tenant_id: str) -> tuple[Webhook, ...]:
        """As last read; none of a tenant that was not renewed."""
        found = self._known.get(tenant_id)
        return () if found is None else found[1]

    async def renew(self, tenants: Collection[str], now: datetime) -> None:
        """Reads those of tenants that were not read within the last second: one read of each shard."""
        by_store: dict[int, list[str]] = {}
        for tenant_id in tenants:
            read = self._known.get(tenant_id)
            if read is None or not timedelta(0) <= now - read[0] < FRESH_FOR:
                partition = partition_of(entity_id("webhook", tenant_id, ENTITY), self._partitions)
                by_store.setdefault(shard_of(partition, len(self._stores)), []).append(tenant_id)
        if not by_store:
            return
        reads = (asyncio.to_thread(_read, self._stores[shard], names) for shard, names in by_store.items())
        for found in await asyncio.gather(*reads):
            for tenant_id, webhooks in found.items():
                self._known[tenant_id] = (now, webhooks)
                self._known.move_to_end(tenant_id)
        while len(self._known) > max(KEPT, len(tenants)):
            self._known.popitem(last=False)


def _read(store: Store, tenants: Sequence[str]) -> dict[str, tuple[Webhook, ...]]:
    streams = {tenant_id: entity_id("webhook", tenant_id, ENTITY) for tenant_id in tenants}
    histories = store.load([*streams.values()])
    found = {}
    for tenant_id, stream in streams.items():
        entity = entity_of(histories[stream]) if stream in histories else None
        found[tenant_id] = entity.value.items if entity is not None and isinstance(entity.value, Webhooks) else ()
    return found
