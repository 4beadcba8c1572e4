"""Leases of limits: the places that attempts hold of a concurrency key, a queue, a tenant or a session.

The store grants them to all orchestrators together, before an attempt is assigned, and ends them in the transaction
that stores its end (table ``leases``). What is kept here is one orchestrator's knowledge of that: enough to ask for
what is likely to be granted and to explain what was not. Were it wrong, an attempt would start later, and never one too
many.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

MAX_SHOWN = 10
"""Holders of a limit that are named."""


class Limit(NamedTuple):
    """What is limited. ``scope``: ``key`` (of a tenant), ``queue`` (of all: ``tenant_id`` is empty), ``tenant``
    (``name`` is empty), ``session``."""

    scope: str
    tenant_id: str
    name: str


Place = tuple[Limit, int]
"""A limit and how many places the task says it has."""


class Wish(NamedTuple):
    """One place of each limit for an attempt: all of them or none."""

    task_id: str
    attempt: int
    partition: int
    tenant_id: str
    places: tuple[Place, ...]


class Holder(Struct, frozen=True):
    """A task that holds a place since then; ``tenant_id`` is its own."""

    task_id: str
    tenant_id: str
    since: datetime


class Occupied(Struct, frozen=True):
    """``taken``: leases of a limit, of all orchestrators; ``older``: other orchestrators that wait for a place of it
    for longer than the one that asks, who leaves one to each; ``holders``: some of those who have one."""

    taken: int = 0
    older: int = 0
    holders: tuple[Holder, ...] = ()


class Taken(Struct, frozen=True):
    """What became of wishes. ``fenced``: partitions that are no longer the asker's; ``occupied``: the limits that were
    in the way of the others, as of after the grant."""

    granted: frozenset[str] = frozenset()
    fenced: frozenset[int] = frozenset()
    occupied: Mapping[Limit, Occupied] = {}


def limits_of(wishes: Iterable[Wish]) -> list[Limit]:
    """All that are wished for, each once, in the order in which they are locked."""
    return sorted({limit for wish in wishes for limit, _ in wish.places})


def grant(
    wishes: Sequence[Wish], occupied: Mapping[Limit, Occupied], having: Collection[tuple[Limit, str]]
) -> tuple[list[Wish], dict[Limit, int]]:
    """The wishes that fit, in their order, and what is then taken of the limits that others did not fit into.

    ``having``: limits and tasks with a lease already, of an attempt that has ended since or of a try that broke off; it
    is counted in ``occupied`` and goes over to the new attempt.
    """
    taken = {limit: each.taken for limit, each in occupied.items()}
    granted, full = [], set()
    for wish in wishes:
        new = [(limit, places) for limit, places in wish.places if (limit, wish.task_id) not in having]
        closed = [limit for limit, places in new if taken[limit] + occupied[limit].older >= places]
        if closed:
            full.update(closed)
            continue
        granted.append(wish)
        for limit, _ in new:
            taken[limit] += 1
    return granted, {limit: taken[limit] for limit in full}


class Held(NamedTuple):
    """What a task holds, and since when."""

    limits: tuple[Limit, ...]
    since: datetime


class LeaseBook:
    """Leases of our own partitions' attempts, and how many places beyond them are not to be had.

    ``defers``: an end counts only once it is stored (``settle``), since the store grants no place before. Without it,
    as in a scheduler of its own, places are free at once.
    """

    def __init__(self) -> None:
        self.defers = False
        self.held: dict[str, Held] = {}
        self.beyond: dict[Limit, Occupied] = {}
        self._holders: dict[Limit, set[str]] = {}
        self._leaving: set[str] = set()

    def limits_held(self, scope: str) -> int:
        """Limits of this scope that we hold a place of."""
        return sum(limit.scope == scope for limit in self._holders)

    def take(self, task_id: str, limits: tuple[Limit, ...], since: datetime) -> None:
        before = self.held.get(task_id)
        if before is not None:
            self.leave(task_id)
        self.held[task_id] = Held(limits, since)
        for limit in limits:
            self._holders.setdefault(limit, set()).add(task_id)

    def end(self, task_id: str) -> tuple[Limit, ...]:
        """The attempt ended; gives the limits with a place more, none where that has to be stored first."""
        if self.defers and task_id in self.held:
            self._leaving.add(task_id)
            return ()
        return self.leave(task_id)

    def leave(self, task_id: str) -> tuple[Limit, ...]:
        """Gives up what the task holds; gives its limits, none when it held nothing."""
        self._leaving.discard(task_id)
        held = self.held.pop(task_id, None)
        if held is None:
            return ()
        for limit in held.limits:
            holders = self._holders[limit]
            holders.discard(task_id)
            if not holders:
                del self._holders[limit]
        return held.limits

    def settle(self, task_ids: Iterable[str]) -> list[Limit]:
        """What ended of these is stored; gives the limits with a place more."""
        if not self._leaving:
            return []
        return [limit for task_id in self._leaving.intersection(task_ids) for limit in self.leave(task_id)]

    def count(self, limit: Limit) -> int:
        return len(self._holders.get(limit, ()))

    def of(self, limit: Limit) -> Collection[str]:
        return self._holders.get(limit, ())

    def is_full(self, limit: Limit, places: int) -> bool:
        beyond = self.beyond.get(limit)
        return self.count(limit) + (0 if beyond is None else beyond.taken + beyond.older) >= places

    def learn(self, limit: Limit, occupied: Occupied) -> bool:
        """What the store says; gives whether that leaves more or fewer places than was known."""
        beyond = max(0, occupied.taken - self.count(limit))
        before = self.beyond.pop(limit, Occupied())
        if beyond or occupied.older:
            self.beyond[limit] = Occupied(beyond, occupied.older, occupied.holders)
        return (beyond, occupied.older) != (before.taken, before.older)

    def holders(self, limit: Limit) -> list[tuple[str, str | None, datetime]]:
        """Tasks that hold a place, longest first: id, tenant (None for our own, whose tenant is known here), since."""
        mine = {task_id: self.held[task_id].since for task_id in self.of(limit)}
        beyond = self.beyond.get(limit)
        found: list[tuple[str, str | None, datetime]] = [(task_id, None, since) for task_id, since in mine.items()]
        if beyond is not None:
            found += [(h.task_id, h.tenant_id, h.since) for h in beyond.holders if h.task_id not in mine]
        return sorted(found, key=lambda each: (each[2], each[0]))
