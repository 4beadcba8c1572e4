"""Reads of streams wait for their turn here, not in the connection pool: there they would fail after some seconds, and
take the place of requests. How many wait is bounded by the number of open streams."""

import asyncio

from services.gateway.readside import Histories, Views
from taskloom.domain.envelope import Recorded
from taskloom.views.outputs.query import Chunk


class Gated:
    """What one task's stream reads, at most ``at_once`` reads of all streams at a time of each kind."""

    def __init__(self, histories: Histories, views: Views, at_once: int) -> None:
        self._histories, self._views = histories, views
        self._events_gate = asyncio.Semaphore(at_once)
        self._chunks_gate = asyncio.Semaphore(at_once)

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]:
        async with self._events_gate:
            return await self._histories.events(task_id, after, limit, up_to)

    async def chunks(self, task_id: str, *, after: int, limit: int) -> list[Chunk]:
        async with self._chunks_gate:
            return await self._views.chunks(task_id, after=after, limit=limit)

    async def retired_output(self, task_id: str) -> int:
        """Output up to this seq was taken out by retention; 0: none was."""
        async with self._chunks_gate:
            return await self._views.retired_output(task_id)
