"""Aggregates that are no tasks: decided, sealed and folded as tasks are, and kept in memory while they are used."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from services.orchestrator.batch import Answer, Batch
from services.orchestrator.decisions import checked_size
from services.orchestrator.peers import told_by
from taskloom.domain.entities.commands import FireSchedule
from taskloom.domain.entities.entity import Entity, decide, evolve, fold
from taskloom.domain.entities.ids import is_entity_id, parts_of
from taskloom.domain.envelope import EventMeta
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.store.batch import History, SnapshotRow
from taskloom.wire.messages import Reply
from taskloom.wire.recorded import GENESIS, seal
from taskloom.wire.topics import partition_of

KEPT: Final = 256
"""Entities in memory; the one not used for longest goes first, and is read from the store when it is needed again."""

SNAPSHOT_EVERY: Final = 20

_log = structlog.get_logger(__name__)
_decoder = msgspec.json.Decoder(Entity)


class Entities:
    """Those of the owned partitions that were used lately."""

    def __init__(self, partitions: int, kept: int = KEPT) -> None:
        self._partitions = partitions
        self._kept = kept
        self._known: OrderedDict[str, Entity] = OrderedDict()

    def get(self, entity_id: str) -> Entity | None:
        return self._known.get(entity_id)

    def missing(self, ids: Iterable[str]) -> list[str]:
        return [name for name in dict.fromkeys(ids) if is_entity_id(name) and name not in self._known]

    def put(self, entity: Entity) -> None:
        self._known[entity.entity_id] = entity
        self._known.move_to_end(entity.entity_id)

    def shrink(self) -> None:
        """Forgets what is too much; between rounds, since those of a round have to be there until it is over."""
        while len(self._known) > self._kept:
            self._known.popitem(last=False)

    def drop(self, partitions: Collection[int]) -> None:
        for name in [name for name in self._known if partition_of(name, self._partitions) in partitions]:
            del self._known[name]

    def apply(self, batch: Batch, command: Any, caller: Caller, now: datetime) -> Refusal | bool:
        """Carries out one command: the refusal, or whether anything changed.

        Raises:
            EventTooLarge: an event of it would not fit onto the events topic.
        """
        before = self._known.get(caller.task_id)
        decision = decide(before, command, now if before is None else max(now, before.changed_at), caller)
        if isinstance(decision, Refusal):
            return decision
        after, sealed, at = before, [], now if before is None else max(now, before.changed_at)
        for event in decision:
            version = 1 if after is None else after.version + 1
            meta = EventMeta(caller.task_id, version, at, caller.tenant_id, caller.command_id, caller.actor)
            recorded = checked_size(seal(event, meta, GENESIS if after is None else after.digest))
            after = evolve(after, recorded)
            sealed.append(recorded)
        if after is None or not sealed:
            return False
        batch.events += sealed
        batch.peers += [envelope for recorded in sealed for envelope in told_by(recorded, caller.traceparent)]
        batch.entities[caller.task_id] = after
        self.put(after)
        if after.version // SNAPSHOT_EVERY > (0 if before is None else before.version) // SNAPSHOT_EVERY:
            batch.entity_snapshots.append(SnapshotRow(after.entity_id, after.version, msgspec.json.encode(after)))
        return True

    def fire(self, batch: Batch, entity_id: str, now: datetime) -> bool:
        """Its time has come. It counts as touched, so that its timer is set anew; False when it could not be fired."""
        entity = self._known.get(entity_id)
        if entity is None:
            return True
        caller = Caller(entity_id, entity.tenant_id)
        try:
            outcome = self.apply(batch, FireSchedule(), caller, now)
        except Exception as error:  # noqa: BLE001 - one bad entity must not fail its batch
            outcome = Refusal("unavailable", repr(error))
        if isinstance(outcome, Refusal):
            _log.error("a schedule could not go on", entity_id=entity_id, reason=outcome.message)
            return False
        batch.entities.setdefault(entity_id, entity)
        return True

    def reply(self, answer: Answer, now: datetime) -> Reply:
        """What who asked is told: what became of the command, and the entity's facts."""
        entity = self._known.get(answer.task_id)
        data = {} if entity is None or answer.refusal is not None else entity.value.facts()
        return Reply(
            command_id=answer.attributes.id,
            task_id=parts_of(answer.task_id).name,
            at=now,
            version=0 if entity is None else entity.version,
            refusal=answer.refusal,
            created_at=None if entity is None else entity.created_at,
            data={**data, "repeated": True} if answer.repeated else data,
        )


def entity_of(history: History) -> Entity | None:
    """The entity that a stored history folds to."""
    return fold(history.events, None if history.snapshot is None else _decoder.decode(history.snapshot))
