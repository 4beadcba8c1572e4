"""Whose turn it is: start-time fair queueing between tenants.

Each tenant has a tag, the virtual time at which its next task may start; the smallest tag goes first, and being served
moves it on by one divided by the tenant's weight. See Goyal, Vin, Cheng: Start-time Fair Queueing (SIGCOMM 1996).
"""

from collections.abc import Mapping
from typing import Final

DEBT: Final = 64.0
"""How far a tenant may lag behind, in turns. Work of one tenant may wait for an executor that others do not need; when
it then meets them in one line, it goes first this often and no more."""

MAX_TAGS: Final = 4096
"""Tags kept before those that say nothing (nobody owes the tenant, and it owes nobody) are dropped."""


class Turns:
    """Tags of tenants that wait or waited lately. Who waits for nothing gathers no credit. ``taken``: turns in all."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._cost = {tenant: 1.0 / weight for tenant, weight in weights.items()}
        self._tags: dict[str, float] = {}
        self._now = 0.0
        self.taken = 0
        self._prune_at = MAX_TAGS

    def tag(self, tenant: str) -> float:
        """Smaller goes first; never falls."""
        tag, least = self._tags.get(tenant, self._now), self._now - DEBT
        return tag if tag > least else least

    def enter(self, tenant: str) -> None:
        """The tenant waits where it did not wait before."""
        if self._tags.get(tenant, -1.0) < self._now:
            self._tags[tenant] = self._now
        if len(self._tags) > self._prune_at:
            self._tags = {name: tag for name, tag in self._tags.items() if tag > self._now}
            self._prune_at = max(MAX_TAGS, 2 * len(self._tags))

    def served(self, tenant: str) -> None:
        self.taken += 1
        start = self._tags.get(tenant, self._now)
        if start > self._now:
            self._now = start
        elif start < self._now - DEBT:
            start = self._now - DEBT
        self._tags[tenant] = start + (self._cost.get(tenant, 1.0) if self._cost else 1.0)
