"""Retention beside the projection: sweeps from time to time, where settings ask for it, and what is to be brought back.

Both work on connections of their own, in threads: the projection goes on, and waits at most for a row that a batch of a
few hundred tasks has just taken. Of several projections one sweeps at a time.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

import psycopg

from services.projection import metrics
from services.projection.folding import History
from services.projection.settings import ProjectionSettings
from taskloom import telemetry
from taskloom.errors import TaskloomError
from taskloom.retention.report import Found
from taskloom.retention.restore import restore_wanted
from taskloom.retention.sweep import Busy, Sweep

log = telemetry.get_logger(__name__)

LOOK_EVERY_S: Final = 60.0
"""How often what is wanted is looked for where this projection was not the one to want it."""

AGAIN_AFTER_S: Final = 2.0
REST: Final = 1.0
"""A sweep pauses as long as it works."""


class Retention:
    """``returned``: set by the applier when a retired task has rows again."""

    def __init__(
        self, settings: ProjectionSettings, history: History, returned: asyncio.Event, stopping: asyncio.Event
    ) -> None:
        self._settings, self._history = settings, history
        self._returned, self._stopping = returned, stopping

    async def bring_back(self) -> None:
        """Brings back what is wanted, until it stops."""
        while not self._stopping.is_set():
            self._returned.clear()
            again_after_s = LOOK_EVERY_S
            try:
                restored = await restore_wanted(self._settings.database_dsn, self._history)
                if restored.tasks:
                    log.info("retired tasks were brought back", tasks=restored.tasks)
                if restored.later:
                    again_after_s = AGAIN_AFTER_S
            except (psycopg.Error, TaskloomError) as fault:
                log.warning("retired tasks were not brought back, trying again", reason=str(fault))
            await self._wait(again_after_s, self._returned)

    async def sweep(self) -> None:
        """Sweeps from time to time, until it stops. For where settings ask for it alone."""
        while not self._stopping.is_set():
            try:
                self._tell(await asyncio.to_thread(self._sweep))
            except Busy:
                log.debug("another projection sweeps")
            except psycopg.Error as fault:
                log.warning("old rows were not all retired, going on later", reason=str(fault))
            await self._wait(self._settings.retention_every_s, self._stopping)

    def _sweep(self) -> Found:
        cutoffs = self._settings.cutoffs(datetime.now(UTC))
        dsn = self._settings.database_dsn
        return Sweep(dsn, cutoffs, apply=True, stopping=self._stopping.is_set, rest=REST).run()

    def _tell(self, found: Found) -> None:
        for kind in {kind for _, kind in found.counts}:
            metrics.RETIRED.labels(kind).inc(found.of(kind).rows)
        if found.rows:
            tasks, pieces = found.of("tasks").rows, found.of("outputs").rows
            log.info("old rows were retired", rows=found.rows, tasks=tasks, outputs=pieces, held_back=found.held_back)

    async def _wait(self, within_s: float, event: asyncio.Event) -> None:
        """Until the event, a stop, or so long."""
        waiters = [asyncio.ensure_future(each.wait()) for each in {event, self._stopping}]
        await asyncio.wait(waiters, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()
