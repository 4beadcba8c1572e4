"""Stored workflows that submissions name: looked up in the event store and pinned into the run's input.

Their owner may be another orchestrator, so they are read, not asked for: what is committed when the submission is
decided is what the run follows.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import structs

from services.orchestrator.entities import entity_of
from services.orchestrator.ports import Store
from taskloom.domain.entities.definitions import Definition, Revision
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.workflow.references import (
    MAX_PINNED,
    PINNED,
    Reference,
    names_unpinned,
    stored_names,
    stored_names_in,
)
from taskloom.wire.commands import Envelope
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import partition_of, shard_of

Found = dict[str, dict[str, Any]]
"""Pinned definitions by the key of their reference."""


class StoredWorkflows:
    """``stores`` are all shards, those of others' partitions too."""

    def __init__(self, stores: Sequence[Store], partitions: int) -> None:
        self._stores = stores
        self._partitions = partitions

    def names_any(self, envelope: Envelope) -> bool:
        """Whether ``pinned`` has anything to look up."""
        command = envelope.command
        return type(command) is SubmitTask and names_unpinned(command)

    async def pinned(self, envelope: Envelope) -> Envelope:
        """The submission with the stored workflows that it names, and those that they name, in its input.

        What does not exist is left out: ``decide`` refuses the submission for it, unless it is a repeat.
        """
        command = envelope.command
        if not isinstance(command, SubmitTask) or command.kind != "workflow" or PINNED in command.input:
            return envelope
        wanted = dict.fromkeys(reference for _, reference in stored_names_in(command.input))
        if not wanted:
            return envelope
        found: Found = {}
        while wanted and len(found) <= MAX_PINNED:
            level = await self._look_up(envelope.attributes.tenant_id, wanted)
            found |= level
            inner = (name for each in level.values() for _, name in stored_names(each["definition"]))
            wanted = dict.fromkeys(name for name in inner if name.key not in found)
        pinned = structs.replace(command, input={**command.input, PINNED: found})
        return structs.replace(envelope, command=pinned)

    async def _look_up(self, tenant_id: str, wanted: Iterable[Reference]) -> Found:
        """One read of each shard, and one more for each revision that is not the newest."""
        by_store: dict[int, list[Reference]] = {}
        for reference in wanted:
            by_store.setdefault(self._shard(tenant_id, reference), []).append(reference)
        parts = await asyncio.gather(
            *(asyncio.to_thread(_read, self._stores[shard], tenant_id, group) for shard, group in by_store.items())
        )
        return {key: value for part in parts for key, value in part.items()}

    def _shard(self, tenant_id: str, reference: Reference) -> int:
        stream = entity_id("definition", tenant_id, reference.id)
        return shard_of(partition_of(stream, self._partitions), len(self._stores))


def _read(store: Store, tenant_id: str, wanted: Sequence[Reference]) -> Found:
    streams = {reference: entity_id("definition", tenant_id, reference.id) for reference in wanted}
    histories = store.load(list(dict.fromkeys(streams.values())))
    found: Found = {}
    for reference, stream in streams.items():
        entity = entity_of(histories[stream]) if stream in histories else None
        if entity is None or not isinstance(entity.value, Definition) or entity.value.removed:
            continue
        revision = entity.value.find(reference.revision, reference.version)
        if revision is not None:
            body = entity.value.body if revision == entity.value.newest else _older(store, stream, revision)
            found[reference.key] = {"revision": revision.number, "definition": body}
    return found


def _older(store: Store, stream: str, revision: Revision) -> dict[str, Any]:
    event: Any = unseal(store.body(stream, revision.event_version)).event
    body: dict[str, Any] = event.definition
    return body
