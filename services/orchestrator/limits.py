"""Limits of tenants that are changed while the system runs: written with their event, followed everywhere."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog

from services.orchestrator.memory import Memory
from services.orchestrator.ownership import Owner
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.limits import TenantLimits
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.errors import TaskloomError
from taskloom.tenant_limits import LOOK_EVERY_S, LimitsBook, LimitsRow

_log = structlog.get_logger(__name__)


class LimitsStore(Protocol):
    """Part of ``ShardStore``."""

    def limits(self, since: str) -> list[tuple[str, str | None, bytes | None]]: ...


def limits_in(entities: Iterable[Entity]) -> list[LimitsRow]:
    """What a batch writes into the table of limits."""
    found = []
    for entity in entities:
        if isinstance(entity.value, TenantLimits):
            stored = None if entity.value.removed else msgspec.json.encode(entity.value.overrides)
            found.append(LimitsRow(entity.tenant_id, entity.version, stored))
    return found


class LimitsWatch:
    """Keeps the scheduler's quotas as they are now. ``look``: called when tasks that waited may go."""

    def __init__(
        self,
        book: LimitsBook,
        scheduler: Scheduler,
        memory: Memory,
        owner: Owner,
        store: LimitsStore,
        look: Callable[[], None],
    ) -> None:
        self._book = book
        self._owner = owner
        self._scheduler = scheduler
        self._memory = memory
        self._store = store
        self._look = look

    async def refresh(self) -> None:
        """Raises StoreUnavailable."""
        changed = set(self._book.learn(await asyncio.to_thread(self._store.limits, self._book.since)))
        if not changed:
            return
        async with self._owner.lock:  # between two rounds
            states = [state for state in self._memory.open_states() if state.spec.tenant_id in changed]
            self._scheduler.learn_quotas(self._book.quotas, states)
            if states:
                await self._owner.settle_leases()
        self._look()

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks once a second until ``stopping``. While the store is away nothing can be started either."""
        while not stopping.is_set():
            try:
                await self.refresh()
            except TaskloomError as error:
                _log.warning("changed limits of tenants are not seen yet", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await stopping.wait()
