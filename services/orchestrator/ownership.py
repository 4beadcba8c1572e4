"""Which partitions are ours, up to where each was read and published, and how one is taken over."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import structlog

from services.orchestrator.entities import Entities, entity_of
from services.orchestrator.leases import Leases
from services.orchestrator.memory import Memory
from services.orchestrator.outbox import Outbox, Records
from services.orchestrator.patience import patiently
from services.orchestrator.peers import peers_of
from services.orchestrator.ports import Store
from services.orchestrator.timers import Timers
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.envelope import Recorded
from taskloom.domain.policies import run_attempt
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.directives import Directive, PauseAttempt, ResumeAttempt, StopAttempt
from taskloom.domain.task.evolve import fold
from taskloom.domain.task.snapshot import decode_state
from taskloom.domain.task.state import TaskState, next_due
from taskloom.domain.workflow.state import AT_ONCE
from taskloom.store.batch import Batch, History, OffsetMove, Ownership
from taskloom.store.errors import Fenced, VersionConflict
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import partition_of, shard_of

LOAD_AT_ONCE = 1_000
LOG_PAGE = 1_000

AFTER_FENCE_S = 0.5
"""Pause after a fence, so that two that both believe to own a partition do not fence each other in a tight loop."""

CAREFUL_S = 60.0

_log = structlog.get_logger(__name__)


class Owner:
    """Takes partitions over and gives them up; loads states of tasks.

    A take-over raises the partition's epoch in PostgreSQL, so that the owner before can write nothing more; then the
    open tasks and timers are rebuilt from the store, what was stored but not published is published, and what executors
    may not have been told is told again.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        memory: Memory,
        scheduler: Scheduler,
        timers: Timers,
        outbox: Outbox,
        records: Records,
        partitions: int,
        seek: Callable[[int, int], None],
        entities: Entities,
        leases: Leases,
    ) -> None:
        self._stores = stores
        self._entities = entities
        self._leases = leases
        self._memory = memory
        self._scheduler = scheduler
        self._timers = timers
        self._outbox = outbox
        self._records = records
        self._partitions = partitions
        self._seek = seek
        self._owned: dict[int, Ownership] = {}
        self.published: dict[int, int] = {}
        self._marked: dict[int, int] = {}
        self._holes: dict[int, int] = {}
        self._rewound: dict[int, int] = {}
        self._careful_until = 0.0
        self.lock = asyncio.Lock()

    @property
    def partitions(self) -> Collection[int]:
        return self._owned.keys()

    @property
    def is_careful(self) -> bool:
        """True for a while after events turned out to exist: then no task is taken for new."""
        return time.monotonic() < self._careful_until

    @property
    def epochs(self) -> dict[int, int]:
        return {partition: owned.epoch for partition, owned in self._owned.items()}

    def owns(self, partition: int) -> bool:
        return partition in self._owned

    def owns_task(self, task_id: str) -> bool:
        return partition_of(task_id, self._partitions) in self._owned

    def store_of(self, partition: int) -> Store:
        return self._stores[shard_of(partition, len(self._stores))]

    def unread(self, partition: int, records: Sequence[Any]) -> Sequence[Any]:
        """Those of the polled records that come next.

        What was applied before is left out: its offset is stored with its events. A hole before the first one (records
        polled before a batch was dropped) means reading from there again; a hole that is still there the second time is
        real: Kafka has lost those records, and the consumer said so.
        """
        expected = self._rewound.get(partition, self._owned[partition].next_offset)
        fresh = [record for record in records if record.offset >= expected]
        if fresh and fresh[0].offset > expected and self._holes.get(partition) != expected:
            self._holes[partition] = expected
            self._seek(partition, expected)
            return []
        return fresh

    def move(self, partition: int, next_offset: int | None) -> OffsetMove:
        """The fence and the step forward for one partition in the coming transaction."""
        owned = self._owned[partition]
        return OffsetMove(
            partition,
            owned.epoch,
            owned.next_offset,
            owned.next_offset if next_offset is None else next_offset,
            self.published.get(partition, owned.published),
        )

    def moved(self, moves: Iterable[OffsetMove]) -> None:
        for move in moves:
            if move.next_offset != move.expected:
                self._rewound.pop(move.partition, None)
            owned = self._owned[move.partition]
            self._owned[move.partition] = msgspec.structs.replace(owned, next_offset=move.next_offset)

    def rewind(self, partition: int, offset: int) -> None:
        """Kafka no longer has our next offset and goes on at ``offset``.

        What comes from there on is new to us, also when it is below the stored offset (the topic was made anew): a
        command that was applied before is known by its id.
        """
        _log.error("commands are lost in Kafka, reading on", partition=partition, offset=offset)
        self._rewound[partition] = offset

    def note_published(self, positions: dict[int, int]) -> None:
        for partition, position in positions.items():
            if partition in self._owned:
                self.published[partition] = max(position, self.published.get(partition, 0))

    async def take_over(self, partition: int) -> int:
        """Becomes the owner; gives the offset to read from."""
        store = self.store_of(partition)
        owned = await patiently("take a partition over", lambda: store.take_over(partition))
        await self._publish_rest(store, owned)
        self._owned[partition] = owned
        open_tasks = await patiently("read the open tasks", lambda: store.open_tasks(partition))
        states: list[TaskState] = []
        for start in range(0, len(open_tasks), LOAD_AT_ONCE):
            page = open_tasks[start : start + LOAD_AT_ONCE]
            self._memory.rows.update((task.task_id, task.due_at) for task in page)
            for entity in (task for task in page if is_entity_id(task.task_id)):
                self._timers.set(entity.task_id, entity.due_at)  # read when it is due
            states += await self._load(store, [task.task_id for task in page if not is_entity_id(task.task_id)])
        await self._leases.settle(partition, owned.epoch, states)
        directives: list[Directive] = []
        for state in states:
            self._scheduler.observe(state)
            looks = state.run is not None and state.run.watching and state.run.refs
            self._timers.set(state.task_id, AT_ONCE if looks else next_due(state))
            directives += told_again(state)
        await self._outbox.publish_until_done([self._records.directive(d, "") for d in directives])
        self._scheduler.pool.own(self._owned)
        _log.info("partition taken over", partition=partition, offset=owned.next_offset, open=len(states))
        return owned.next_offset

    async def settle_leases(self) -> None:
        """After limits changed: attempts under way hold places of those that there are now, under the lock."""
        states: dict[int, list[TaskState]] = {}
        for state in self._memory.open_states():
            states.setdefault(partition_of(state.task_id, self._partitions), []).append(state)
        for partition in list(self._owned):
            await self._leases.settle(partition, self._owned[partition].epoch, states.get(partition, []))

    async def give_up(self, partitions: Collection[int], *, publish: bool = True) -> None:
        """Stops owning: publishes what waits, notes how far, forgets the states."""
        ours = [partition for partition in partitions if partition in self._owned]
        if publish and ours:
            await self._outbox.flush()
            await self.mark_published(ours)
        for partition in ours:
            del self._owned[partition]
            self.published.pop(partition, None)
            self._rewound.pop(partition, None)
            self._marked.pop(partition, None)
        self._leases.drop(ours)
        gone = self._memory.drop(ours)
        self._entities.drop(ours)
        self._scheduler.forget(gone)
        gone += self._memory.drop_rows(ours)
        for task_id in gone:
            self._timers.set(task_id, None)
        self._scheduler.pool.own(self._owned)

    async def store(self, shard: int, batch: Batch) -> list[int] | None:
        """Stores a batch and gives its positions; waits for PostgreSQL as long as it takes.

        None when another owner was here: nothing was stored and the states in memory are ahead of the store, so those
        of the whole shard are dropped and its partitions read again from their stored offsets. Should one of them be
        another owner's by now, the group is about to say so; until it does the epochs keep both from writing.
        """
        store = self._stores[shard]
        try:
            return await patiently("store a batch", lambda: store.put(batch))
        except Fenced as error:
            _log.warning("another owner was here, batch dropped", partition=error.partition, events=len(batch.events))
            await asyncio.sleep(AFTER_FENCE_S)
        except VersionConflict as error:
            self._careful_until = time.monotonic() + CAREFUL_S
            _log.warning("events exist already, batch dropped", task_ids=error.task_ids, events=len(batch.events))
        ours = [partition for partition in self._owned if shard_of(partition, len(self._stores)) == shard]
        await self.give_up(ours, publish=False)
        for partition in ours:
            self._seek(partition, await self.take_over(partition))
        return None

    async def mark_published(self, partitions: Collection[int] | None = None) -> None:
        """Stores how far was published, so that the next owner reads little of the log."""
        names = list(self._owned if partitions is None else partitions)
        for index, store in enumerate(self._stores):
            rows = [
                (partition, self._owned[partition].epoch, position)
                for partition in names
                if shard_of(partition, len(self._stores)) == index
                and partition in self._owned
                and (position := self.published.get(partition)) is not None
                and self._marked.get(partition) != position
            ]
            if rows:
                await asyncio.to_thread(store.mark_published, rows)
                self._marked.update((partition, position) for partition, _, position in rows)

    async def load_missing(self, task_ids: Iterable[str]) -> None:
        """Brings the states of tasks and entities into memory that are not there; unknown ones stay absent."""
        by_shard: dict[int, list[str]] = {}
        names = list(task_ids)
        tasks = (name for name in names if not is_entity_id(name))
        for task_id in (*self._memory.missing(tasks), *self._entities.missing(names)):
            shard = shard_of(partition_of(task_id, self._partitions), len(self._stores))
            by_shard.setdefault(shard, []).append(task_id)
        await asyncio.gather(*(self._load(self._stores[shard], names) for shard, names in by_shard.items()))

    async def _load(self, store: Store, task_ids: list[str]) -> list[TaskState]:
        histories = await patiently("load tasks", lambda: store.load(task_ids))
        tasks = [history for name, history in histories.items() if not is_entity_id(name)]
        for name in histories.keys() - {history.task_id for history in tasks}:
            if (entity := entity_of(histories[name])) is not None:
                self._entities.put(entity)
        states = [state for history in tasks if (state := _state_of(history)) is not None]
        for state in states:
            self._memory.put(state)
        return states

    async def _publish_rest(self, store: Store, owned: Ownership) -> None:
        """What the owner before stored and may not have published; other partitions' events are skipped."""
        position, count = owned.published, 0
        while page := await patiently("read the log", partial(store.log, position, LOG_PAGE)):
            events = [recorded for _, body in page if self._belongs(recorded := unseal(body), owned.partition)]
            leaving = [self._records.event(recorded, "") for recorded in events]
            leaving += [self._records.forward(peer) for recorded in events for peer in peers_of(recorded, "")]
            await self._outbox.publish_until_done(leaving)
            position, count = page[-1][0], count + len(events)
        self.published[owned.partition] = position
        if count:
            _log.info("published what the owner before left", partition=owned.partition, events=count)

    def _belongs(self, recorded: Recorded, partition: int) -> bool:
        return partition_of(recorded.task_id, self._partitions) == partition


def _state_of(history: History) -> TaskState | None:
    state = None if history.snapshot is None else decode_state(history.snapshot)
    return fold(history.events, state)


def told_again(state: TaskState) -> list[Directive]:
    """Directives that the owner before may not have sent; executors know repeats by task and attempt."""
    live = state.live
    if live is None:
        return []
    where = (state.task_id, live.number, live.executor_id, live.incarnation)
    if state.cancel is not None:
        return [StopAttempt(*where, state.cancel.grace_s, state.cancel.reason)]
    again: list[Directive] = [run_attempt(state, live)] if state.phase == "assigned" else []
    if state.pause is None:
        return again or [ResumeAttempt(*where)]
    if state.pause.paused_at is None:
        again.append(PauseAttempt(*where))
    return again


def due_changed(memory: Memory, state: TaskState) -> tuple[bool, datetime | None]:
    """Whether the task's row in ``open_tasks`` has to be written, and its due time."""
    due = next_due(state)
    return state.task_id not in memory.rows or memory.rows[state.task_id] != due, due
