"""Stored workflows in memory: the real ``decide`` and fold, and the orchestrator's own look-ups for submissions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.orchestrator.forks import Forks
from services.orchestrator.lookups import Lookups
from services.orchestrator.stored_workflows import StoredWorkflows
from taskloom.domain.entities.commands import EntityCommand
from taskloom.domain.entities.entity import Entity, decide, fold
from taskloom.domain.entities.ids import is_entity_id, parts_of
from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.store.batch import History
from taskloom.wire.commands import Envelope
from taskloom.wire.messages import Reply
from taskloom.wire.recorded import GENESIS, seal

Streams = dict[str, list[Recorded]]


class StoreOver:
    """What ``Lookups`` ask of a store."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def load(self, ids: Sequence[str]) -> Mapping[str, History]:
        return {name: History(name, events=self._streams[name]) for name in ids if name in self._streams}

    def body(self, stream: str, version: int) -> bytes:
        return self._streams[stream][version - 1].body

    def events(self, stream: str, up_to: int, limit: int) -> list[Recorded]:
        return self._streams.get(stream, [])[: min(up_to, limit)]


class MemoryEntities:
    """``behind``: the table shows nothing new."""

    def __init__(self, streams: Streams) -> None:
        store: Any = StoreOver(streams)
        self._streams = streams
        self._lookups = Lookups(StoredWorkflows([store], 1), Forks([store], 1, lambda *_: None))
        self.shown: dict[str, Entity] = {}

    async def looked_up(self, envelope: Envelope) -> Envelope | Refusal:
        return await self._lookups.done(envelope) if self._lookups.needed(envelope) else envelope

    def now(self, stream: str) -> Entity | None:
        """As it is stored; None for what is no entity."""
        return fold(self._streams[stream]) if is_entity_id(stream) else None

    def apply(self, envelope: Envelope, command: EntityCommand, *, behind: bool) -> Reply:
        """Carries out a command, as the owner of its partition does."""
        stream, asked, now = envelope.task_id, envelope.attributes, datetime.now(UTC)
        history = self._streams.setdefault(stream, [])
        decision = decide(fold(history), command, now, Caller(stream, asked.tenant_id, asked.id, asked.actor))
        for event in [] if isinstance(decision, Refusal) else decision:
            meta = EventMeta(stream, len(history) + 1, now, asked.tenant_id, asked.id, asked.actor)
            history.append(seal(event, meta, history[-1].digest if history else GENESIS))
        if not behind:
            self.project(stream)
        entity = fold(history)
        refusal = decision if isinstance(decision, Refusal) else None
        facts = {} if entity is None or refusal else entity.value.facts()
        return Reply(
            asked.id,
            parts_of(stream).name,
            now,
            version=len(history),
            refusal=refusal,
            created_at=None if entity is None else entity.created_at,
            data=facts if decision else {**facts, "repeated": True},
        )

    def project(self, stream: str) -> None:
        entity = fold(self._streams[stream])
        if entity is not None:
            self.shown[stream] = entity

    def found(self, kind: str, tenant_id: str) -> dict[str, Entity]:
        """By name, those that are not removed."""
        named = {parts_of(stream): entity for stream, entity in sorted(self.shown.items())}
        return {
            name.name: entity
            for name, entity in named.items()
            if name[:2] == (kind, tenant_id) and not entity.value.removed
        }
