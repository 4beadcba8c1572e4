"""What a round leaves behind: its transaction in the store, then timers, replies, and what goes out."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from services.orchestrator import metrics
from services.orchestrator.batch import Answer, Batch
from services.orchestrator.budgets import uses_in
from services.orchestrator.entities import Entities
from services.orchestrator.faults import Faults
from services.orchestrator.leases import Leases
from services.orchestrator.limits import limits_in
from services.orchestrator.memory import Memory
from services.orchestrator.outbox import Outbox, Parcel, Records, parcel_of, passed_on
from services.orchestrator.ownership import Owner, due_changed
from services.orchestrator.timers import Timers
from taskloom.domain.entities.entity import next_due as entity_due
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.scheduling.why import explain
from taskloom.domain.task.snapshot import encode_state
from taskloom.domain.workflow.state import AT_ONCE
from taskloom.store.batch import Batch as StoreBatch
from taskloom.store.batch import OpenTask, SnapshotRow
from taskloom.wire.messages import Reply
from taskloom.wire.topics import partition_of, shard_of


class Storing:
    """Stores one shard's part of a round, and hands on what follows from it once it is stored."""

    def __init__(
        self,
        owner: Owner,
        memory: Memory,
        scheduler: Scheduler,
        timers: Timers,
        faults: Faults,
        outbox: Outbox,
        records: Records,
        entities: Entities,
        leases: Leases,
        *,
        partitions: int,
        shards: int,
    ) -> None:
        self._owner = owner
        self._memory = memory
        self._scheduler = scheduler
        self._timers = timers
        self._faults = faults
        self._outbox = outbox
        self._records = records
        self._entities = entities
        self._leases = leases
        self._partitions = partitions
        self._shards = shards

    async def finish(self, shard: int, batch: Batch, now: datetime) -> None:
        """Passes on what no event stands for, stores a shard's part, then hands it to the outbox."""
        await self._outbox.publish_until_done(passed_on(batch, self._records, now))
        positions = await self._put(shard, batch)
        if positions is None:
            return
        for entity in batch.entities.values():
            self._timers.set(entity.entity_id, entity_due(entity))
        for state in batch.touched.values():
            if state.ended:
                self._faults.clear(state.task_id)
            due = self._memory.rows.get(state.task_id)  # as just stored
            # What is due at once stands behind what was due before, not in front of all.
            due = now if due == AT_ONCE else due
            self._timers.set(state.task_id, self._faults.due(state.task_id, due))
        replies = [
            (self._reply(answer, now), answer.attributes) for answer in batch.answers if answer.attributes.reply_to
        ]
        last = (
            {p: positions[-1] for p in self._owner.partitions if shard_of(p, self._shards) == shard}
            if positions
            else {}
        )
        await self._outbox.put(Parcel(parcel_of(batch, replies, self._records), last))

    async def _put(self, shard: int, batch: Batch) -> list[int] | None:
        """Positions of the stored events; None when the part was dropped since it is no longer ours to write."""
        touched = {partition_of(name, self._partitions) for name in (*batch.touched, *batch.entities)}
        moves = [self._owner.move(p, batch.offsets.get(p)) for p in sorted(touched | batch.offsets.keys())]
        if not moves:
            return []
        upserts, closed = self._rows(batch.touched.values())
        for entity in batch.entities.values():
            self._add_row(entity.entity_id, entity_due(entity), upserts, closed)
        stored = StoreBatch(
            events=batch.events,
            moves=moves,
            open=upserts,
            closed=closed,
            claims=batch.claims,
            snapshots=[
                *(SnapshotRow(s.task_id, s.version, encode_state(s)) for s in batch.snapshots.values()),
                *batch.entity_snapshots,
            ],
            uses=uses_in(batch.events, self._memory),
            ended=self._leases.ended(batch.touched.values()),
            limits=limits_in(batch.entities.values()),
        )
        positions = await self._owner.store(shard, stored)
        if positions is None:
            return None
        self._owner.moved(moves)
        if stored.uses and self._scheduler.ledger is not None:
            self._scheduler.ledger.add(stored.uses)
        if stored.ended:
            self._leases.stored(stored.ended)
        for row in upserts:
            self._memory.rows[row.task_id] = row.due_at
        for task_id in closed:
            self._memory.rows.pop(task_id, None)
        metrics.events.inc(len(batch.events))
        metrics.batch_events.observe(len(batch.events))
        return positions

    def _rows(self, states: Iterable[Any]) -> tuple[list[OpenTask], list[str]]:
        upserts, closed = [], []
        for state in states:
            if state.ended:
                if state.task_id in self._memory.rows:
                    closed.append(state.task_id)
                continue
            changed, due = due_changed(self._memory, state)
            if changed:
                upserts.append(OpenTask(state.task_id, partition_of(state.task_id, self._partitions), due))
        return upserts, closed

    def _add_row(self, entity_id: str, due: datetime | None, upserts: list[OpenTask], closed: list[str]) -> None:
        """An entity has a row while it has a timer."""
        if due is not None and self._memory.rows.get(entity_id) != due:
            upserts.append(OpenTask(entity_id, partition_of(entity_id, self._partitions), due))
        elif due is None and entity_id in self._memory.rows:
            closed.append(entity_id)

    def _reply(self, answer: Answer, now: datetime) -> Reply:
        if is_entity_id(answer.task_id):
            return self._entities.reply(answer, now)
        state = self._memory.get(answer.task_id)
        if state is not None and state.spec.tenant_id != answer.attributes.tenant_id:
            state = None
        data: dict[str, Any] = {"repeated": True} if answer.repeated and not (answer.explain or answer.recall) else {}
        if answer.explain and state is not None:
            data = msgspec.to_builtins(explain(state, self._scheduler, now, self._memory.get))
        if answer.recall and state is not None and state.task_id in self._scheduler.recalls:
            data = {"executor_id": self._scheduler.recalls[state.task_id][1]}
        return Reply(
            command_id=answer.attributes.id,
            task_id=answer.task_id,
            at=now,
            state="" if state is None else state.word,
            version=0 if state is None else state.version,
            refusal=answer.refusal,
            created_at=None if state is None else state.submitted_at,
            data=data,
        )
