"""Looks whether those who opened the streams under way may still read them; a stream may be open for days."""

import asyncio
from contextlib import suppress
from typing import Final

from services.gateway.gatekeeper import Gatekeeper
from services.gateway.sending import OpenStreams

LEAST_S: Final = 0.5


class KeyWatch:
    """Cuts streams whose key was revoked, replaced or has expired, or whose token has. ``fresh_s``: as of the ring."""

    def __init__(self, gatekeeper: Gatekeeper, streams: OpenStreams, *, fresh_s: float) -> None:
        self._gatekeeper = gatekeeper
        self._streams = streams
        self._every_s = max(LEAST_S, fresh_s)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until ``stopping``. Looks each credential up once, however many streams it opened, one after the other."""
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await stopping.wait()
            await self.look()

    async def look(self) -> None:
        for credential in self._streams.credentials():
            if not await self._gatekeeper.is_good(credential):
                self._streams.cut_those_of(credential)
