"""Executors as the scheduler sees them: what they offer, which attempts hold their slots, and who fell silent.

A lease is a live attempt; numbers in use are counts of leases, so nothing can drift (invariant I5). Silence is counted
in presence beats of the orchestrators, not in seconds: an outage that silences everybody makes nobody lost.
"""

from collections.abc import Collection
from zlib import crc32

from msgspec import Struct

from taskloom.domain.scheduling.match import ExecutorOffer, Requirement, mismatches

Lease = tuple[str, int]
"""Task id and attempt number."""


class Standing(Struct):
    """One executor's standing here; changed in place. ``usable`` are the slots that this orchestrator may fill."""

    offer: ExecutorOffer
    leases: set[Lease]
    usable: int = 0
    silent_beats: int = 0
    refused_until_beat: bool = False


class ExecutorPool:
    """All executors heard of lately, and the leases of our own partitions on them.

    Args:
        partitions: partitions of the commands topic, over all orchestrators.
        lost_after_beats: beats of silence after which an executor is lost.
    """

    def __init__(self, partitions: int, lost_after_beats: int = 4) -> None:
        self._partitions = partitions
        self._lost_after_beats = lost_after_beats
        self._owned: frozenset[int] = frozenset()
        self._standings: dict[str, Standing] = {}
        self._orphans: dict[tuple[str, str], set[Lease]] = {}
        self._orphan_beats: dict[tuple[str, str], int] = {}
        self._matching: dict[Requirement, list[Standing]] = {}

    def own(self, partitions: Collection[int]) -> None:
        """Which partitions are ours now; decides how many slots of each executor are."""
        self._owned = frozenset(partitions)
        for standing in self._standings.values():
            standing.usable = self._share(standing.offer)

    def hear(self, offer: ExecutorOffer) -> list[Lease]:
        """Notes a heartbeat. Gives the leases of an earlier incarnation: those attempts are lost."""
        known = self._standings.get(offer.executor_id)
        if known is not None and known.offer.incarnation == offer.incarnation:
            known.silent_beats, known.refused_until_beat = 0, False
            if known.offer != offer:
                known.offer, known.usable = offer, self._share(offer)
                self._matching.clear()
            return []
        leases = self._orphans.pop((offer.executor_id, offer.incarnation), set())
        self._standings[offer.executor_id] = Standing(offer, leases, self._share(offer))
        self._matching.clear()
        stale = [key for key in self._orphans if key[0] == offer.executor_id]
        lost = [lease for key in stale for lease in self._orphans.pop(key)]
        return lost + (list(known.leases) if known is not None else [])

    def leave(self, executor_id: str, incarnation: str) -> list[Lease]:
        """The executor said good-bye; gives the leases that it leaves behind."""
        known = self._standings.get(executor_id)
        if known is None or known.offer.incarnation != incarnation:
            return []
        return self._drop(executor_id)

    def beat(self) -> dict[str, list[Lease]]:
        """An orchestrator's presence beat went by. Gives the leases of each executor that is lost by it.

        An executor that holds leases of a partition taken over, and was never heard of here, gets the same time.
        """
        for standing in self._standings.values():
            standing.silent_beats += 1
        silent = [name for name, s in self._standings.items() if s.silent_beats >= self._lost_after_beats]
        lost = {name: self._drop(name) for name in silent}
        self._orphan_beats = {key: self._orphan_beats.get(key, 0) + 1 for key in self._orphans}
        for key in [key for key, beats in self._orphan_beats.items() if beats >= self._lost_after_beats]:
            lost.setdefault(key[0], []).extend(self._orphans.pop(key))
        return lost

    def lease(self, executor_id: str, incarnation: str, lease: Lease) -> None:
        known = self._standings.get(executor_id)
        if known is not None and known.offer.incarnation == incarnation:
            known.leases.add(lease)
        else:
            self._orphans.setdefault((executor_id, incarnation), set()).add(lease)

    def release(self, executor_id: str, incarnation: str, lease: Lease) -> None:
        known = self._standings.get(executor_id)
        if known is not None:
            known.leases.discard(lease)
        orphans = self._orphans.get((executor_id, incarnation))
        if orphans is not None:
            orphans.discard(lease)
            if not orphans:
                del self._orphans[executor_id, incarnation]

    def refuse(self, executor_id: str) -> None:
        """The executor declined: nothing more goes there before its next heartbeat."""
        known = self._standings.get(executor_id)
        if known is not None:
            known.refused_until_beat = True

    def leases_of(self, executor_id: str, incarnation: str) -> set[Lease]:
        known = self._standings.get(executor_id)
        return set(known.leases) if known is not None and known.offer.incarnation == incarnation else set()

    def best(self, requirement: Requirement) -> ExecutorOffer | None:
        """The matching executor with the largest free share of its slots; None when all are full or none matches."""
        chosen, most_free = None, 0.0
        for standing in self.matching(requirement):
            free = standing.usable - len(standing.leases)
            if free > 0 and not standing.refused_until_beat and free / standing.usable > most_free:
                chosen, most_free = standing, free / standing.usable
        return None if chosen is None else chosen.offer

    def matching(self, requirement: Requirement) -> list[Standing]:
        found = self._matching.get(requirement)
        if found is None:
            ready = (s for s in self._standings.values() if s.offer.ready)
            found = self._matching[requirement] = [s for s in ready if not mismatches(requirement, s.offer)]
            if len(self._matching) > 10_000:
                self._matching.clear()
        return found

    def standings(self) -> Collection[Standing]:
        return self._standings.values()

    def _drop(self, executor_id: str) -> list[Lease]:
        self._matching.clear()
        return list(self._standings.pop(executor_id).leases)

    def _share(self, offer: ExecutorOffer) -> int:
        """Places of this executor that are ours. Place ``j`` belongs to partition ``(j + hash) % partitions``, so the
        orchestrators' shares add up exactly. With fewer places than partitions every owner may use one: the executor
        declines what it has no room for, and nobody starves."""
        places = offer.slots + offer.prefetch
        if len(self._owned) == self._partitions:
            return places
        start = crc32(offer.executor_id.encode())
        ours = sum((start + place) % self._partitions in self._owned for place in range(min(places, self._partitions)))
        whole, rest = divmod(places, self._partitions)
        if whole:
            extra = sum((start + place) % self._partitions in self._owned for place in range(rest))
            ours = whole * len(self._owned) + extra
        return max(ours, 1) if self._owned and places else ours
