"""Limits on what starts in a second, and shares of executors. In memory; the clock comes in as an argument."""

from collections.abc import Collection
from typing import Final
from zlib import crc32

from taskloom.domain.scheduling.policy import Rate

CATCH_UP_S: Final = 0.1
"""How late the scheduler may look, in seconds, without a rate falling short."""


def share_of(places: int, name: str, owned: Collection[int], partitions: int) -> int:
    """How many of an executor's ``places`` are for the orchestrator that owns these partitions.

    Each partition has the same number of places, and what is left over lies evenly between them, from one on that the
    name decides; so the shares of all orchestrators add up exactly. Who owns any partition may use at least one place,
    so that nobody starves: with M orchestrators and fewer than M places up to M may then be in use. Ranges of equal
    length, which are what Kafka gives out when M divides the partitions, have one of M or more places anyway.
    """
    if len(owned) == partitions:
        return places
    start = crc32(name.encode())
    whole, rest = divmod(places, partitions)
    ours = whole * len(owned) + sum((start + place * partitions // rest) % partitions in owned for place in range(rest))
    return max(ours, 1) if owned and places else ours


class TokenBucket:
    """Starts at ``rate.per_s``, up to ``rate.burst`` of them at once after a quiet time; full in the beginning.

    ``part`` is the share of the rate that this orchestrator has: its partitions of all. What it does not use no other
    one gets. Never less than one token fits, so that a slow rate still lets tasks go one by one.

    While a task waits for a token, none is poured away for want of room (up to ``CATCH_UP_S`` of them): the scheduler
    looks when its round comes, some milliseconds late each time, and the rate would fall short by that. In any time
    ``t`` no more than ``burst + rate * (t + CATCH_UP_S)`` start.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._tokens = max(1.0, rate.burst)
        self._at: float | None = None
        self._wanted = False

    def ready_at(self, now: float, part: float = 1.0) -> float:
        """When the next task may start, in Unix seconds; ``now`` or earlier: at once."""
        self._fill(now, part)
        self._wanted = self._tokens < 1.0
        return now if not self._wanted else now + (1.0 - self._tokens) / (self.rate.per_s * part)

    def tokens_at(self, now: float, part: float = 1.0) -> float:
        """Tasks that may start at once."""
        self._fill(now, part)
        return self._tokens

    def take(self) -> None:
        self._tokens -= 1.0

    def put_back(self) -> None:
        """What was taken last did not start after all."""
        self._tokens += 1.0

    def _fill(self, now: float, part: float) -> None:
        if self._at is None or now > self._at:
            gained = 0.0 if self._at is None else (now - self._at) * self.rate.per_s * part
            # A hair more than was earned, so that the moment that ready_at named is not missed by rounding.
            room = max(1.0, self.rate.burst * part)
            room += self.rate.per_s * part * CATCH_UP_S if self._wanted else 0.0
            self._tokens = min(room, self._tokens + gained + 1e-9)
            self._at = now
