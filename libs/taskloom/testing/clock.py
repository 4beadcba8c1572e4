"""A clock that stands still until it is told to go on."""

from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
"""Where test time begins."""


class ManualClock:
    """Called, it gives the time: ``clock()`` is what ``datetime.now(UTC)`` is elsewhere."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        """Lets ``seconds`` pass; gives the new time.

        Raises:
            ValueError: ``seconds`` is negative; time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back ({seconds} s)")
        self.now += timedelta(seconds=seconds)
        return self.now

    def to(self, at: datetime) -> datetime:
        """Goes to ``at``, or stays where that has passed."""
        self.now = max(self.now, at)
        return self.now
