"""Keeps one managed process running: starts it again when it dies, with a growing pause, and says so."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from taskloom.local.child import ManagedProcess, describe_exit
from taskloom.local.errors import StartFailed

TICK_S: Final = 0.2
STEADY_S: Final = 30.0
"""A process that ran this long starts from the shortest pause again."""

Say = Callable[[str], None]


class Watch:
    """The restart loop of one process."""

    def __init__(
        self, process: ManagedProcess, *, backoff_s: float, backoff_cap_s: float, say: Say, changed: Callable[[], None]
    ) -> None:
        self.process = process
        self.restarts = 0
        self._backoff_s, self._backoff_cap_s = backoff_s, backoff_cap_s
        self._say, self._changed = say, changed

    async def run(self) -> None:
        """For ever, until cancelled. The process is running and ready at the beginning."""
        failures, steady_since = 0, time.monotonic()
        while True:
            await self._ended()
            if time.monotonic() - steady_since > STEADY_S:
                failures = 0
            pause = min(self._backoff_cap_s, self._backoff_s * 2**failures)
            self._say(
                f"{self.process.name} {describe_exit(self.process.exit_code() or 0)}; starting it again in {pause:g} s"
            )
            await asyncio.sleep(pause)
            failures = min(failures + 1, 16)
            if await self._start_again():
                steady_since = time.monotonic()

    async def _ended(self) -> None:
        while self.process.is_running:  # noqa: ASYNC110 - the kernel sets no asyncio.Event
            await asyncio.sleep(TICK_S)

    async def _start_again(self) -> bool:
        process = self.process
        process.kill()  # its group: what it started must not live on beside its successor
        began = time.monotonic()
        try:
            await process.prepare()
            process.spawn()
            self._changed()
            await process.wait_ready(process.start_timeout_s)
        except StartFailed as error:
            self._say(str(error))
            process.kill()
            return False
        self.restarts += 1
        self._say(f"{process.name} is ready again after {time.monotonic() - began:.1f} s")
        return True
