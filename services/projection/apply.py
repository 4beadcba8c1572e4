"""Applies records to the views: read, fold, write with the offsets in one transaction. Each record once (I3).

What can go wrong, and what then happens:

- A record came before (version not above the row's): dropped.
- Events are missing before it: they are read from the store, folded, and counted in a metric.
- It cannot be read, folded or stored: it goes to the dead letters with the reason, the others go on (I8).
- Another owner was here first, or PostgreSQL, the event store or Kafka went away, so that a commit's outcome is not
  known: the rows in memory are dropped, the offsets read again after a growing pause, until that works, and the
  consumer is sent to where the table says it stands.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import psycopg
from aiokafka import ConsumerRecord, TopicPartition
from msgspec import Struct
from psycopg.errors import ProgramLimitExceeded, UniqueViolation

from services.projection import metrics
from services.projection.batch import Batch, Poison, Records, flat, halves, read_batch
from services.projection.cache import RowCache
from services.projection.changes import Changes, write
from services.projection.database import Database
from services.projection.dead_letters import DeadLetters
from services.projection.entities import fold_entities
from services.projection.folding import History, fold_batch
from taskloom import telemetry
from taskloom.domain.entities.entity import Entity
from taskloom.errors import TaskloomError
from taskloom.views import positions
from taskloom.views.audit import write as audit
from taskloom.views.entities import write as entities
from taskloom.views.metrics import write as seconds
from taskloom.views.positions import Fenced, Move, Place
from taskloom.views.retired import write as retired
from taskloom.views.task_executions.row import Row
from taskloom.views.task_executions.write import MissingRow, load
from taskloom.wire.topics import Topics

log = telemetry.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.1

STALE: Final = (Fenced, MissingRow, retired.Moved, UniqueViolation)
"""What the database says when another owner of a partition was there first, or retention."""

REFUSALS: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.NotSupportedError,
    ProgramLimitExceeded,
    ArithmeticError,
    ValueError,
    TypeError,
)
"""What PostgreSQL, or psycopg on the way to it, says of a value that it cannot store: a number too large, say."""

PASSING_FAULTS: Final = (*STALE, psycopg.OperationalError, psycopg.InterfaceError, TaskloomError)
"""What is got over by reading the positions again, later. Anything else is a bug and stops the service."""


class Stopped(Exception):
    """The service stops; the batch was not applied and stays in Kafka."""


class Rewound(Exception):
    """The batch was not applied, or not all of it: read on from ``offsets``, which is where the table stands."""

    def __init__(self, offsets: Mapping[TopicPartition, int]) -> None:
        super().__init__()
        self.offsets = dict(offsets)


class Limits(Struct, frozen=True):
    """``retry_max_s``: longest pause between tries; ``cached_rows``: rows of open tasks kept in memory."""

    cached_rows: int = 20_000
    retry_max_s: float = 5.0
    audit_days: float = 90.0


class Applier:
    """One projection's writer. ``take`` and ``release`` follow the consumer group, ``apply`` follows each poll."""

    def __init__(
        self,
        database: Database,
        history: History,
        dead_letters: DeadLetters,
        topics: Topics,
        *,
        limits: Limits | None = None,
        stopping: asyncio.Event | None = None,
        behind: Callable[[], Mapping[TopicPartition, int]] = dict,
    ) -> None:
        limits = limits or Limits()
        self._database, self._history, self._dead_letters, self._topics = database, history, dead_letters, topics
        self._retry_max_s = limits.retry_max_s
        self._audit_days = limits.audit_days
        self._stopping = stopping or asyncio.Event()
        self._behind = behind
        self._cache = RowCache(limits.cached_rows)
        self._next: dict[TopicPartition, int] = {}
        self._turn = asyncio.Lock()
        self._pause_s = FIRST_PAUSE_S
        self.returned = asyncio.Event()
        """Set when a retired task has rows again, since the tasks of its steps may have to follow."""

    async def take(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Makes the partitions ours; returns the offset to read next of each. Waits while PostgreSQL is away.

        Raises:
            Stopped: the service stops.
        """
        async with self._turn:
            await self._read_positions(partitions)
            return {tp: self._next[tp] for tp in partitions}

    async def release(self, partitions: Collection[TopicPartition], timeout_s: float = 5.0) -> None:
        """Gives partitions up, after a write in flight when that ends in time. When not, the offsets fence it."""
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                self._forget(partitions)
        except TimeoutError:
            log.warning("a batch was in flight when its partitions were taken away")
            self._forget(partitions)

    async def apply(self, records: Records) -> None:
        """Applies a poll's records; on return they are committed or in the dead letters.

        Raises:
            Rewound: the consumer must go back first.
            Stopped: the service stops while PostgreSQL is away.
        """
        async with self._turn:
            began = time.perf_counter()
            try:
                await self._apply_or_split(records)
            except PASSING_FAULTS as fault:
                await self._recover(fault)
            self._pause_s = FIRST_PAUSE_S
            metrics.BATCH.observe(time.perf_counter() - began)
            metrics.CACHED.set(len(self._cache))

    async def report_idle(self) -> None:
        """Says in the table how far the partitions reach, though nothing was applied, so that readers know the lag."""
        if self._turn.locked() or not self._next:
            return  # a batch is under way and will say it
        async with self._turn:
            moves = self._moves({tp: [] for tp in self._next}, None)
            try:
                await self._database.transaction(lambda cursor: positions.move(cursor, moves))
            except PASSING_FAULTS as fault:
                log.debug("positions not reported", reason=str(fault))

    async def forget(self) -> None:
        """Takes away what the views keep for a while only; what fails now is taken away the next time."""
        try:
            await self._database.transaction(seconds.forget)
            await self._database.transaction(lambda cursor: audit.forget(cursor, self._audit_days))
        except PASSING_FAULTS as fault:
            log.debug("old seconds not taken away", reason=str(fault))

    # What goes wrong between us and the database.

    async def _recover(self, fault: Exception) -> None:
        """Finds out where the table stands, however long it takes.

        Raises:
            Rewound: with that. Always, unless the service stops.
        """
        if isinstance(fault, STALE):
            metrics.FENCED.inc()
            log.warning("another projection was here first: reading the positions again", reason=str(fault))
        else:
            metrics.RETRIES.inc()
            log.warning("not applied, trying again", reason=str(fault))
        self._cache.clear()
        await self._pause()
        await self._read_positions(list(self._next))
        raise Rewound(self._next)

    async def _read_positions(self, partitions: Collection[TopicPartition]) -> None:
        places = [Place(tp.topic, tp.partition) for tp in partitions]
        while True:
            try:
                taken = await self._database.transaction(lambda cursor: positions.take(cursor, places))
            except PASSING_FAULTS as fault:
                log.warning("positions not read, trying again", reason=str(fault))
                await self._pause()
                continue
            self._next.update({TopicPartition(place.topic, place.partition): offset for place, offset in taken.items()})
            return

    async def _pause(self) -> None:
        pause_s, self._pause_s = self._pause_s, min(self._retry_max_s, self._pause_s * 2)
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Stopped

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        for tp in partitions:
            self._next.pop(tp, None)
        self._cache.clear()

    # One batch.

    async def _apply_or_split(self, records: Records) -> None:
        """A batch as a whole; when something of it cannot be stored, in smaller and smaller parts, until the record
        that cannot be stored stands alone and goes to the dead letters."""
        records = self._ours(records)
        if not records:
            return
        try:
            await self._apply(records)
        except UniqueViolation:
            raise
        except REFUSALS as error:
            [first, *others] = islice(flat(records), 2)
            if others:
                for part in halves(records):
                    await self._apply_or_split(part)
                return
            await self._bury([Poison(first, f"it cannot be stored: {error}")])
            await self._write(records, Batch(), Changes())

    def _ours(self, records: Records) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Records of partitions that are still ours, from their positions on."""
        kept: dict[TopicPartition, list[ConsumerRecord]] = {}
        for tp, arrived in records.items():
            position = self._next.get(tp)
            if position is None or not arrived or arrived[-1].offset < position:
                continue
            repeated = arrived[0].offset < position
            kept[tp] = [record for record in arrived if record.offset >= position] if repeated else arrived
        return kept

    async def _apply(self, records: Records) -> None:
        batch = read_batch(records, self._topics)
        changes = await fold_batch(batch, self._cache, self._load, self._history, self._load_retired)
        changes.entities = await fold_entities(batch, self._load_entities, self._history)
        if batch.poison:
            await self._bury(batch.poison)
        with ExitStack() as spans:
            if telemetry.enabled():
                for row in changes.after.values():
                    spans.enter_context(telemetry.span("projection.apply", row.traceparent, task_id=row.task_id))
            await self._write(records, batch, changes)
        self._cache.put(changes.after.values())
        self._cache.put_retired(absent.row for absent in changes.absent.values() if absent.row is not None)
        if changes.returned:
            self.returned.set()
        metrics.APPLIED.inc(len(batch.events) + len(batch.entities))
        metrics.CHUNKS.inc(len(batch.chunks))

    async def _load(self, task_ids: list[str]) -> dict[str, Row]:
        return await self._database.transaction(lambda cursor: load(cursor, task_ids))

    async def _load_retired(self, task_ids: list[str]) -> dict[str, retired.Stone]:
        return await self._database.transaction(lambda cursor: retired.load(cursor, task_ids))

    async def _load_entities(self, ids: list[str]) -> dict[str, Entity]:
        return await self._database.transaction(lambda cursor: entities.load(cursor, ids))

    async def _write(self, records: Records, batch: Batch, changes: Changes) -> None:
        moves = self._moves(records, batch.events[-1].recorded.meta.at if batch.events else None)
        repeated = await self._database.transaction(
            lambda cursor: write(cursor, moves, changes, batch.chunks, batch.heartbeats, batch.audit)
        )
        if repeated:
            metrics.DUPLICATES.labels("chunk").inc(repeated)
        for move in moves:
            tp = TopicPartition(move.place.topic, move.place.partition)
            if tp in self._next:
                self._next[tp] = move.next_offset

    def _moves(self, records: Records, event_at: datetime | None) -> list[Move]:
        behind, moves, waiting = self._behind(), [], 0
        for tp, arrived in records.items():
            expected = self._next[tp]
            next_offset = arrived[-1].offset + 1 if arrived else expected
            waiting += behind.get(tp, 0)
            moves.append(
                Move(Place(tp.topic, tp.partition), expected, next_offset, next_offset + behind.get(tp, 0), event_at)
            )
        metrics.BEHIND.set(waiting)
        metrics.LAG.set((datetime.now(UTC) - event_at).total_seconds() if waiting and event_at else 0.0)
        return moves

    async def _bury(self, poison: Collection[Poison]) -> None:
        for dead in poison:
            log.error(
                "a record cannot be applied", reason=dead.reason, topic=dead.record.topic,
                partition=dead.record.partition, offset=dead.record.offset,
            )  # fmt: skip
        await self._dead_letters.bury(poison)
        metrics.POISON.inc(len(poison))
