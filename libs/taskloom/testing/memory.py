"""The event store and Kafka in memory, for tests that run a service's loops in one process.

The store keeps to what ``taskloom.store.shard`` promises, and the same tests run over both: a batch is stored whole or
not at all, an older epoch or offset is fenced, a version exists once.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord
from taskloom.domain.envelope import Recorded
from taskloom.domain.scheduling.leases import MAX_SHOWN, Holder, Limit, Occupied, Taken, Wish, grant, limits_of
from taskloom.store.batch import Batch, History, Lease, OffsetMove, OpenTask, Ownership, SnapshotRow
from taskloom.store.errors import Fenced, VersionConflict
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import partition_of


@dataclass
class InMemoryShared:
    """The tables that all shards have together. ``waits``: who waits for a limit, in their order."""

    offsets: dict[int, Ownership] = field(default_factory=dict)
    leases: dict[Lease, tuple[Wish, datetime]] = field(default_factory=dict)
    waits: dict[Limit, list[str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass
class InMemoryDatabase:
    """What one shard's tables hold; shared by the stores of several owners."""

    shared: InMemoryShared = field(default_factory=InMemoryShared)

    log: list[bytes] = field(default_factory=list)
    streams: dict[str, list[bytes]] = field(default_factory=dict)
    open: dict[str, OpenTask] = field(default_factory=dict)
    snapshots: dict[str, SnapshotRow] = field(default_factory=dict)
    claims: dict[str, bytes] = field(default_factory=dict)

    @property
    def lock(self) -> threading.RLock:
        return self.shared.lock

    @property
    def offsets(self) -> dict[int, Ownership]:
        return self.shared.offsets


class InMemoryShardStore:
    """One owner's connection to the database."""

    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    def take_over(self, partition: int) -> Ownership:
        database = self._database
        with database.lock:
            known = database.offsets.get(partition)
            if known is None:
                owned = Ownership(partition, 1, 0, len(database.log))
            else:
                owned = Ownership(partition, known.epoch + 1, known.next_offset, known.published)
            database.offsets[partition] = owned
            return owned

    def put(self, batch: Batch) -> list[int]:
        database = self._database
        with database.lock:
            self._check(batch)
            for move in batch.moves:
                self._move(move)
            for lease in batch.ended:
                database.shared.leases.pop(lease, None)
            closed = set(batch.closed)
            database.open.update({row.task_id: row for row in batch.open})
            for task_id in closed:
                database.open.pop(task_id, None)
            database.claims.update(batch.claims)
            for row in batch.snapshots:
                if row.task_id not in database.snapshots or database.snapshots[row.task_id].version < row.version:
                    database.snapshots[row.task_id] = row
            return [self._append(recorded) for recorded in batch.events]

    def take_leases(self, instance: str, epochs: Mapping[int, int], wishes: Sequence[Wish]) -> Taken:
        shared = self._database.shared
        with shared.lock:
            ours = [wish for wish in wishes if self._is_owner(wish.partition, epochs.get(wish.partition))]
            limits = limits_of(ours)
            occupied = {limit: self._occupied(instance, limit) for limit in limits}
            having = {(lease.limit, lease.task_id) for lease in shared.leases}
            granted, full = grant(ours, occupied, having)
            self._hold(granted)
            for limit in limits:
                waits = shared.waits.setdefault(limit, [])
                if limit in full and instance not in waits:
                    waits.append(instance)
                elif limit not in full and instance in waits:
                    waits.remove(instance)
            fenced = frozenset(wish.partition for wish in wishes if wish not in ours)
            found = {limit: self._occupied(instance, limit) for limit in full}
            return Taken(frozenset(wish.task_id for wish in granted), fenced, found)

    def look_at_leases(
        self, instance: str, limits: Sequence[Limit], gone: Sequence[Limit] = (), *, waits: bool = False
    ) -> dict[Limit, Occupied]:
        with self._database.shared.lock:
            for limit in gone:
                if instance in self._database.shared.waits.get(limit, []):
                    self._database.shared.waits[limit].remove(instance)
            return {limit: self._occupied(instance, limit) for limit in limits}

    def settle_leases(self, partition: int, epoch: int, held: Sequence[Wish]) -> bool:
        shared = self._database.shared
        with shared.lock:
            if not self._is_owner(partition, epoch):
                return False
            wanted = {Lease(limit, wish.task_id) for wish in held for limit, _ in wish.places}
            stale = [lease for lease, (by, _) in shared.leases.items() if by.partition == partition]
            for lease in set(stale) - wanted:
                del shared.leases[lease]
            self._hold(held)
            return True

    def _is_owner(self, partition: int, epoch: int | None) -> bool:
        known = self._database.offsets.get(partition)
        return known is not None and known.epoch == epoch

    def _occupied(self, instance: str, limit: Limit) -> Occupied:
        shared = self._database.shared
        rows = [(lease, by, since) for lease, (by, since) in shared.leases.items() if lease.limit == limit]
        waits = shared.waits.get(limit, [])
        older = waits.index(instance) if instance in waits else len(waits)
        holders = (Holder(lease.task_id, by.tenant_id, since) for lease, by, since in rows[:MAX_SHOWN])
        return Occupied(len(rows), older, tuple(holders))

    def _hold(self, wishes: Sequence[Wish]) -> None:
        for wish in wishes:
            for limit, _ in wish.places:
                self._database.shared.leases[Lease(limit, wish.task_id)] = (wish, datetime.now(UTC))

    def load(self, task_ids: Sequence[str]) -> dict[str, History]:
        database = self._database
        with database.lock:
            found = {}
            for task_id in task_ids:
                snapshot, bodies = database.snapshots.get(task_id), database.streams.get(task_id, [])
                version = 0 if snapshot is None else snapshot.version
                if bodies:
                    events = [unseal(body) for body in bodies[version:]]
                    found[task_id] = History(task_id, None if snapshot is None else snapshot.state, version, events)
            return found

    def body(self, task_id: str, version: int) -> bytes:
        with self._database.lock:
            return self._database.streams[task_id][version - 1]

    def events(self, task_id: str, up_to: int, limit: int) -> list[Recorded]:
        with self._database.lock:
            return [unseal(body) for body in self._database.streams.get(task_id, [])[: min(up_to, limit)]]

    def open_tasks(self, partition: int) -> list[OpenTask]:
        with self._database.lock:
            return sorted(row for row in self._database.open.values() if row.partition == partition)

    def log(self, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        with self._database.lock:
            return list(enumerate(self._database.log, start=1))[after : after + limit]

    def claims(self, digests: Sequence[str]) -> dict[str, bytes]:
        with self._database.lock:
            return {digest: self._database.claims[digest] for digest in digests if digest in self._database.claims}

    def mark_published(self, marks: Sequence[tuple[int, int, int]]) -> None:
        with self._database.lock:
            for partition, epoch, position in marks:
                known = self._database.offsets.get(partition)
                if known is not None and known.epoch == epoch and known.published < position:
                    self._database.offsets[partition] = Ownership(partition, epoch, known.next_offset, position)

    def _check(self, batch: Batch) -> None:
        for move in sorted(batch.moves, key=lambda move: move.partition):
            known = self._database.offsets.get(move.partition)
            if known is None or (known.epoch, known.next_offset) != (move.epoch, move.expected):
                raise Fenced(move.partition)
        following: dict[str, int] = {}
        for recorded in batch.events:
            expected = following.get(recorded.task_id, len(self._database.streams.get(recorded.task_id, [])) + 1)
            if recorded.version != expected:
                raise VersionConflict([recorded.task_id])
            following[recorded.task_id] = expected + 1

    def _move(self, move: OffsetMove) -> None:
        published = max(move.published, self._database.offsets[move.partition].published)
        self._database.offsets[move.partition] = Ownership(move.partition, move.epoch, move.next_offset, published)

    def _append(self, recorded: Recorded) -> int:
        self._database.streams.setdefault(recorded.task_id, []).append(recorded.body)
        self._database.log.append(recorded.body)
        return len(self._database.log)


@dataclass(frozen=True)
class InMemoryRecord:
    """What a consumer reads: the part of aiokafka's ``ConsumerRecord`` that our services look at."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class InMemoryBus:
    """Topics as lists. ``away``: the next so many calls of ``publish`` find no broker and store nothing."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._records: dict[tuple[str, int], list[InMemoryRecord]] = {}
        self.away = 0

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if self.away:
            self.away -= 1
            raise BusUnavailable("the broker is away")
        for record in records:
            self.append(record.topic, record.partition, record.key, record.value, record.headers)

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> InMemoryRecord:
        """Puts one record at the end of a partition, whatever its key."""
        lane = self._records.setdefault((topic, partition), [])
        record = InMemoryRecord(topic, partition, len(lane), key, value, tuple(headers))
        lane.append(record)
        return record

    def send(self, topic: str, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> InMemoryRecord:
        """Puts one record where its key belongs."""
        return self.append(topic, partition_of(key, self._partitions), key.encode(), value, headers)

    def read(self, topic: str, partition: int, offset: int = 0, limit: int = 500) -> list[InMemoryRecord]:
        return self._records.get((topic, partition), [])[offset : offset + limit]

    def all(self, topic: str) -> list[InMemoryRecord]:
        """Every record of a topic, partition after partition."""
        return [record for (name, _), lane in sorted(self._records.items()) if name == topic for record in lane]
