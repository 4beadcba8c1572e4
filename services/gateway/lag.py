"""How far the reads are behind, looked up beside the requests, so that no answer waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from taskloom import telemetry

LOOK_EVERY_S: Final = 0.5

_log = telemetry.get_logger(__name__)
_lag = telemetry.gauge("gateway_read_lag_seconds", "Age of the oldest event that the read side has not applied")


class LagWatch:
    """``ms`` is the lag as of half a second ago at most, None while PostgreSQL cannot tell."""

    def __init__(self, look: Callable[[], Awaitable[float]]) -> None:
        self._look = look
        self.ms: float | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks until ``stopping``. A failed look is no fault: PostgreSQL may be away."""
        while not stopping.is_set():
            await self.look()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        try:
            self.ms = await self._look()
            _lag.set(self.ms / 1000)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the lag is unknown
            if self.ms is not None:
                _log.warning("the lag of the read side is unknown", error=str(fault))
            self.ms = None

    def header(self) -> list[tuple[str, str]]:
        """``X-Taskloom-Lag-Ms``, left out while unknown."""
        return [] if self.ms is None else [("X-Taskloom-Lag-Ms", str(round(self.ms)))]
