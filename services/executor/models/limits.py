"""How many calls of models run at once, and how many a minute."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

WINDOW_S: Final = 60.0


class Places:
    """What is over the limits waits, first come, first served; as many wait as the executor has attempts."""

    def __init__(self, at_once: int, per_minute: int, window_s: float = WINDOW_S) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._per_minute = per_minute
        self._window_s = window_s
        self._begun: deque[float] = deque(maxlen=per_minute)
        self._door = asyncio.Lock()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Held while a call runs; begins when there is room."""
        async with self._places:
            async with self._door:
                await self._room()
            yield

    async def _room(self) -> None:
        loop = asyncio.get_running_loop()
        if len(self._begun) == self._per_minute:
            left = self._begun[0] + self._window_s - loop.time()
            if left > 0:
                await asyncio.sleep(left)
        self._begun.append(loop.time())
