"""Leases of limits: asked for before attempts with limits are assigned, ended with what stores their ends.

What this orchestrator found no place for it looks at again every 20 ms, as long as others are in the way: so a place
that an attempt of another orchestrator gives up is taken soon after. Nothing is asked for tasks without limits.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final

import structlog

from services.orchestrator import metrics
from services.orchestrator.patience import patiently
from services.orchestrator.ports import Store
from taskloom.domain.scheduling.leases import Limit, Occupied, Taken, Wish
from taskloom.domain.scheduling.scheduler import Assignment, Scheduler
from taskloom.domain.task.state import TaskState
from taskloom.errors import TaskloomError
from taskloom.store.batch import Lease
from taskloom.wire.topics import partition_of

LOOK_EVERY_S: Final = 0.02
LOOK_SHARE: Final = 4
"""The pause after a look is at least so many times what it took, most of which is waiting for the server."""

MAX_LOOKED_AT: Final = 1_000
"""Limits of one look; what is beyond it has its turn with the next ones."""

SEE_EVERY_S: Final = 0.5
"""How often it is noted that we still wait; the store forgets it after 2 s."""

WATCHED_S: Final = 5.0
"""So long a limit is looked at; who still waits then asks again, and it is looked at anew."""

CALLED_S: Final = 0.1
"""So long a place that we saw is kept for us by others; then we no longer count as waiting."""

IDLE_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Leases:
    """The leases of the owned partitions.

    Args:
        store: any shard's, since they are one table.
        instance: this orchestrator's name, under which it waits for its turn.
    """

    def __init__(self, scheduler: Scheduler, store: Store, instance: str, partitions: int) -> None:
        self._scheduler = scheduler
        self._store = store
        self._instance = instance
        self._partitions = partitions
        self._held: dict[str, frozenset[Limit]] = {}
        self._watched: dict[Limit, float] = {}
        self._called: dict[Limit, float] = {}
        self._seen_at = 0.0
        self._watching = asyncio.Event()
        self.freed = False
        """Whether a stored end left a place for others, since this was last set to False."""
        scheduler.leases.defers = True

    async def take(self, made: Mapping[str, tuple[Assignment, TaskState]], epochs: Mapping[int, int]) -> Taken:
        """What of these pairings has its leases now; call ``learn`` with it once the others were withdrawn."""
        wishes = [
            Wish(name, state.attempts + 1, partition_of(name, self._partitions), state.spec.tenant_id, pairing.places)
            for name, (pairing, state) in made.items()
        ]
        taken = await patiently("take leases", lambda: self._store.take_leases(self._instance, epochs, wishes))
        for wish in wishes:
            if wish.task_id in taken.granted:
                limits = frozenset(limit for limit, _ in wish.places)
                self._held[wish.task_id] = limits | self._held.get(wish.task_id, frozenset())
        metrics.leases.labels("granted").inc(len(taken.granted))
        metrics.leases.labels("refused").inc(len(wishes) - len(taken.granted))
        return taken

    def learn(self, taken: Taken) -> None:
        """What was in the way is watched from now on."""
        for limit, occupied in taken.occupied.items():
            self._scheduler.learn_leases(limit, occupied)
            self._called.pop(limit, None)
            if limit in self._scheduler.leases.beyond:
                self._watched.setdefault(limit, asyncio.get_running_loop().time())
                self._watching.set()

    def ended(self, states: Iterable[TaskState]) -> list[Lease]:
        """Leases of those that have no live attempt any more: they end with the transaction that stores that."""
        if not self._held:
            return []
        return [
            Lease(limit, state.task_id)
            for state in states
            if state.live is None and state.task_id in self._held
            for limit in self._held[state.task_id]
        ]

    def stored(self, ended: Iterable[Lease]) -> None:
        """These have ended in the store."""
        task_ids = {lease.task_id for lease in ended}
        for task_id in task_ids:
            self._held.pop(task_id, None)
        if self._scheduler.settle(task_ids):
            self.freed = True

    async def settle(self, partition: int, epoch: int, states: Iterable[TaskState]) -> None:
        """At a take-over: what the owner before took is in the store, and belongs to the live attempts alone."""
        held = []
        for state in states:
            places = self._scheduler.places_of(state.spec) if state.live is not None else ()
            if places and state.live is not None:
                held.append(Wish(state.task_id, state.live.number, partition, state.spec.tenant_id, places))
                self._held[state.task_id] = frozenset(limit for limit, _ in places)
        await patiently("settle leases", lambda: self._store.settle_leases(partition, epoch, held))

    def drop(self, partitions: Collection[int]) -> None:
        """These partitions are no longer ours, and neither are their leases."""
        for task_id in [name for name in self._held if partition_of(name, self._partitions) in partitions]:
            del self._held[task_id]
            self._scheduler.drop_lease(task_id)

    async def run(self, stopping: asyncio.Event, wake: Callable[[], None]) -> None:
        """Looks at what is watched until ``stopping``; sleeps while nothing is. ``wake``: waiting tasks may go."""
        clock = asyncio.get_running_loop().time
        while not stopping.is_set():
            pause_s = IDLE_S
            if self._watched or self._called:
                begun = clock()
                if await self.look():
                    wake()
                pause_s = max(LOOK_EVERY_S, LOOK_SHARE * (clock() - begun))
            else:
                self._watching.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await (stopping if pause_s < IDLE_S else self._watching).wait()

    async def look(self) -> bool:
        """One look; gives whether tasks may go that waited."""
        now = asyncio.get_running_loop().time()
        limits = sorted(self._watched, key=self._watched.__getitem__)[:MAX_LOOKED_AT]
        gone = [limit for limit, at in self._called.items() if now - at > CALLED_S and limit not in self._watched]
        if not limits and not gone:
            return False
        waits = now - self._seen_at > SEE_EVERY_S
        try:
            found = await asyncio.to_thread(self._store.look_at_leases, self._instance, limits, gone, waits=waits)
        except TaskloomError as error:
            _log.warning("places of limits cannot be looked at; who waits for one goes on waiting", error=str(error))
            return False
        self._seen_at = now if waits else self._seen_at
        for limit in gone:
            self._called.pop(limit, None)
        changed = [limit for limit, occupied in found.items() if self._learn(limit, occupied, now)]
        return bool(changed)

    def _learn(self, limit: Limit, occupied: Occupied, now: float) -> bool:
        """Whether it changed, so that who waits tries again. Who has been watched for long tries again anyway."""
        if limit not in self._watched:
            return False
        expired = now - self._watched[limit] > WATCHED_S
        if not self._scheduler.learn_leases(limit, Occupied() if expired else occupied) and not expired:
            return False
        del self._watched[limit]
        if not expired and limit in self._scheduler.leases.beyond:
            self._watched[limit] = now
        self._called[limit] = now
        return True
