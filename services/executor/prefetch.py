"""How much work may wait in the executor.

What waits here has left its queue: nothing that comes later overtakes it. So only about a quarter of a second of work
is kept in reserve, measured by how fast attempts ended lately: hundreds of short attempts, none of long ones.
"""

import time
from collections.abc import Callable
from typing import Final

RESERVE_S: Final = 0.25


class Reserve:
    """Counts attempts that end and says how many more may wait, at most ``most``."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._ended = 0
        self._rate = 0.0
        self._since = clock()

    def count_end(self) -> None:
        self._ended += 1

    def look(self) -> int:
        """The number for now, from the rate since the last look; a rate falls no faster than by half a look."""
        now = self._clock()
        passed_s = now - self._since
        if passed_s > 0:
            self._rate = max(self._ended / passed_s, self._rate / 2)
            self._ended, self._since = 0, now
        return min(self._most, int(self._rate * RESERVE_S))
