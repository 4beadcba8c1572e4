"""``client.schedules``: tasks that run by the clock."""

from __future__ import annotations

from typing import Protocol, TypeVar, Unpack

from taskloom.client import schedule_calls as calls
from taskloom.client.calls import Call
from taskloom.client.schedule_calls import ScheduleChanges, ScheduleWish

T = TypeVar("T")


class Calls(Protocol):
    async def call(self, call: Call[T]) -> T: ...


class AsyncSchedules:
    """Every call may raise ``Unreachable`` or a kind of ``Refused``, whose ``field`` is the one at fault."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    async def create(self, *, idempotency_key: str = "", **wish: Unpack[ScheduleWish]) -> calls.CreatedSchedule:
        """``name`` and one of ``cron_expression``, ``interval_s`` and ``at`` must be given."""
        return await self._client.call(calls.create(wish, idempotency_key=idempotency_key))

    async def get(self, schedule_id: str) -> calls.Schedule:
        return await self._client.call(calls.get(schedule_id))

    async def page(self, page: int = 1, page_size: int = 50, status: str = "ALL") -> calls.SchedulePage:
        """One page, newest first; ``status``: ACTIVE, PAUSED or ALL."""
        return await self._client.call(calls.list_schedules(page, page_size, status))

    async def update(self, schedule_id: str, **wish: Unpack[ScheduleChanges]) -> calls.ChangedSchedule:
        """What is not given stays."""
        return await self._client.call(calls.update(schedule_id, wish))

    async def pause(self, schedule_id: str, reason: str = "") -> calls.ChangedSchedule:
        return await self._client.call(calls.control(schedule_id, "pause", reason))

    async def resume(self, schedule_id: str, reason: str = "") -> calls.ChangedSchedule:
        """Due times of the pause do not run."""
        return await self._client.call(calls.control(schedule_id, "resume", reason))

    async def run(self, schedule_id: str) -> calls.ChangedSchedule:
        """One run now."""
        return await self._client.call(calls.control(schedule_id, "run"))

    async def backfill(self, schedule_id: str, start: str, end: str) -> calls.ChangedSchedule:
        """A run for each due time from ``start`` until before ``end`` (RFC 3339), at most 100."""
        return await self._client.call(calls.backfill(schedule_id, start, end))

    async def remove(self, schedule_id: str) -> calls.ChangedSchedule:
        """Open runs go on."""
        return await self._client.call(calls.remove(schedule_id))

    async def runs(self, schedule_id: str, page: int = 1, page_size: int = 20) -> calls.ScheduleRuns:
        """One page, newest first."""
        return await self._client.call(calls.runs(schedule_id, page, page_size))

    async def upcoming(self, schedule_id: str, count: int = 5) -> calls.Preview:
        return await self._client.call(calls.upcoming(schedule_id, count))
