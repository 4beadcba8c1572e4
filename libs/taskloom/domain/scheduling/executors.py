"""Executors as the scheduler sees them: what they offer, which attempts hold their slots, and who fell silent.

A lease is a live attempt; numbers in use are counts of leases, so nothing can drift (invariant I5). Silence is counted
in presence beats of the orchestrators, not in seconds: an outage that silences everybody makes nobody lost.
"""

from collections.abc import Collection

from msgspec import Struct

from taskloom.domain.scheduling.health import Health
from taskloom.domain.scheduling.limits import share_of
from taskloom.domain.scheduling.match import Amounts, ExecutorOffer, Requirement, amounts, mismatches

Lease = tuple[str, int]
"""Task id and attempt number."""

Hint = tuple[str, str]
"""Executor that is preferred and executor to avoid, each empty for none. Wishes: no task waits for them."""

ROUNDING = 1e-9
MAX_MATCHINGS = 10_000


class Standing(Struct):
    """One executor's standing here; changed in place. ``usable`` are the slots that this orchestrator may fill;
    ``needs`` what the leases among ``leases`` that need resources hold of them, by task id."""

    offer: ExecutorOffer
    leases: set[Lease]
    usable: int = 0
    silent_beats: int = 0
    refused_until_beat: bool = False
    needs: dict[str, Amounts] = {}

    @property
    def has_room(self) -> bool:
        return self.usable > len(self.leases) and not self.refused_until_beat

    def fits(self, needs: Amounts, part: float) -> bool:
        """Whether this much is free of our part of its resources.

        With several orchestrators each has the part that its partitions are of all; what is larger than a part goes
        where we hold nothing, so that it goes somewhere, and the executor may then be overbooked by the others' use.
        """
        if not self.needs:
            return True  # The whole offer is enough, else it would not match.
        used = [sum(column) for column in zip(*self.needs.values(), strict=True)]
        total = amounts(self.offer.resources)
        return all(u + n <= t * part + ROUNDING for u, n, t in zip(used, needs, total, strict=True))


class ExecutorPool:
    """All executors heard of lately, and the leases of our own partitions on them.

    Args:
        partitions: partitions of the commands topic, over all orchestrators.
        lost_after_beats: beats of silence after which an executor is lost.
        health: hears which executors lose attempts, and keeps work from those that are not trusted.

    ``version`` changes whenever what tasks match may have changed: an offer, an executor, our partitions. ``joined``
    counts executors that came or were started anew.
    """

    def __init__(self, partitions: int, lost_after_beats: int = 4, health: Health | None = None) -> None:
        self.health = Health() if health is None else health
        self.version = 0
        self.joined = 0
        self._partitions = partitions
        self._lost_after_beats = lost_after_beats
        self._owned: frozenset[int] = frozenset()
        self._standings: dict[str, Standing] = {}
        self._orphans: dict[tuple[str, str], set[Lease]] = {}
        self._orphan_beats: dict[tuple[str, str], int] = {}
        self._matching: dict[Requirement, list[Standing]] = {}
        self._needs: dict[str, Amounts] = {}

    def own(self, partitions: Collection[int]) -> None:
        """Which partitions are ours now; decides how many slots of each executor are."""
        self._owned = frozenset(partitions)
        self.version += 1
        for standing in self._standings.values():
            standing.usable = self._share(standing.offer)

    def hear(self, offer: ExecutorOffer) -> list[Lease]:
        """Notes a heartbeat. Gives the leases of an earlier incarnation: those attempts are lost.

        One that came over a link of an agent that another has taken the place of is not heard.
        """
        known = self._standings.get(offer.executor_id)
        if known is not None and offer.epoch < known.offer.epoch:
            return []
        if known is not None and known.offer.incarnation == offer.incarnation:
            known.silent_beats, known.refused_until_beat = 0, False
            if known.offer != offer:
                known.offer, known.usable = offer, self._share(offer)
                self._rematch()
            return []
        leases = self._orphans.pop((offer.executor_id, offer.incarnation), set())
        needs = {task_id: self._needs[task_id] for task_id, _ in leases if task_id in self._needs}
        self._standings[offer.executor_id] = Standing(offer, leases, self._share(offer), needs=needs)
        self._rematch()
        self.joined += 1
        if known is not None:
            self.health.registered(offer.executor_id)
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
        lost = {name: self.lost(name, self._drop(name)) for name in silent}
        self._orphan_beats = {key: self._orphan_beats.get(key, 0) + 1 for key in self._orphans}
        for key in [key for key, beats in self._orphan_beats.items() if beats >= self._lost_after_beats]:
            lost.setdefault(key[0], []).extend(self._orphans.pop(key))
        return lost

    def lost(self, executor_id: str, leases: list[Lease]) -> list[Lease]:
        """Notes that these attempts were lost on an executor that did not restart; gives them."""
        if any(attempt for _, attempt in leases):
            self.health.lost(executor_id)
        return leases

    def lease(self, executor_id: str, incarnation: str, lease: Lease, needs: tuple[()] | Amounts = ()) -> None:
        """An attempt holds a slot from now on, and the resources it needs."""
        known = self._standings.get(executor_id)
        if needs:
            self._needs[lease[0]] = needs
        if known is not None and known.offer.incarnation == incarnation:
            known.leases.add(lease)
            if needs:
                known.needs[lease[0]] = needs
        else:
            self._orphans.setdefault((executor_id, incarnation), set()).add(lease)

    def confirm(self, executor_id: str, incarnation: str, task_id: str, attempt: int) -> None:
        """The lease of a pairing (attempt 0) becomes that of an attempt."""
        known = self._standings.get(executor_id)
        if known is not None and known.offer.incarnation == incarnation:
            known.leases.discard((task_id, 0))
            known.leases.add((task_id, attempt))

    def release(self, executor_id: str, incarnation: str, lease: Lease) -> None:
        known = self._standings.get(executor_id)
        if lease[0] in self._needs:
            del self._needs[lease[0]]
            if known is not None:
                known.needs.pop(lease[0], None)
        if known is not None:
            known.leases.discard(lease)
        orphans = self._orphans.get((executor_id, incarnation)) if self._orphans else None
        if orphans is not None:
            orphans.discard(lease)
            if not orphans:
                del self._orphans[executor_id, incarnation]

    def refuse(self, executor_id: str) -> None:
        """The executor declined: nothing more goes there before its next heartbeat."""
        known = self._standings.get(executor_id)
        if known is not None:
            known.refused_until_beat = True

    def room_of(self, executor_id: str) -> int | None:
        """Places that are free there; None for an executor that is not here."""
        known = self._standings.get(executor_id)
        if known is None:
            return None
        return max(0, known.usable - len(known.leases)) if known.has_room else 0

    def holds(self, executor_id: str, incarnation: str, lease: Lease) -> bool:
        known = self._standings.get(executor_id)
        return known is not None and known.offer.incarnation == incarnation and lease in known.leases

    def leases_of(self, executor_id: str, incarnation: str) -> set[Lease]:
        known = self._standings.get(executor_id)
        return set(known.leases) if known is not None and known.offer.incarnation == incarnation else set()

    def best(
        self, requirement: Requirement, hint: Hint | None = None, closed: Collection[str] = ()
    ) -> ExecutorOffer | None:
        """The matching executor with the largest free share of its slots; None when all are full or none matches.

        Among those that have room a preferred one wins and one to avoid loses. ``closed`` executors are passed over.
        """
        found = self.choose(self.matching(requirement), requirement, hint, closed)
        return None if found is None else found.offer

    def choose(
        self, matching: list[Standing], requirement: Requirement, hint: Hint | None, closed: Collection[str]
    ) -> Standing | None:
        """The same of executors that are known to match."""
        chosen, highest = None, -2.0
        restricted = requirement.resources or self.health.barred or self.health.quarantines
        for standing in matching:
            free = standing.usable - len(standing.leases)
            if free <= 0 or standing.refused_until_beat:
                continue
            score = free / standing.usable
            if hint is not None:
                name = standing.offer.executor_id
                score += (name == hint[0]) * 2 - (name == hint[1])
            if score > highest and (not restricted or self.open_for(standing, requirement, closed)):
                chosen, highest = standing, score
        return chosen

    def open_for(self, standing: Standing, requirement: Requirement, closed: Collection[str] = ()) -> bool:
        """Whether health and free resources let such a task go there."""
        if self.health.bars(standing.offer.executor_id, requirement.kind):
            return False
        if not requirement.resources:
            return True
        return standing.offer.executor_id not in closed and standing.fits(requirement.resources, self.part)

    @property
    def part(self) -> float:
        """Our share of what all orchestrators share: our partitions of all."""
        return len(self._owned) / self._partitions

    def share(self, places: int, name: str) -> int:
        """Our share of ``places``; see ``share_of``."""
        return share_of(places, name, self._owned, self._partitions)

    def matching(self, requirement: Requirement) -> list[Standing]:
        found = self._matching.get(requirement)
        if found is None:
            if len(self._matching) >= MAX_MATCHINGS:
                self._matching.clear()
            ready = (s for s in self._standings.values() if s.offer.ready)
            found = self._matching[requirement] = [s for s in ready if not mismatches(requirement, s.offer)]
        return found

    def standings(self) -> Collection[Standing]:
        return self._standings.values()

    def _drop(self, executor_id: str) -> list[Lease]:
        self._rematch()
        return list(self._standings.pop(executor_id).leases)

    def _rematch(self) -> None:
        self._matching.clear()
        self.version += 1

    def _share(self, offer: ExecutorOffer) -> int:
        """Places of this executor that are ours. Should that be more than it has (see ``share_of``), it declines."""
        return self.share(offer.slots + offer.prefetch, offer.executor_id)
