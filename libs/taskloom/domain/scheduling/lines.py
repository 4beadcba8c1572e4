"""What ready tasks stand in: lines of levels of tenants of lanes, each of which shows its first alone.

Only the first of each is ever looked at, so what waits behind costs nothing but its memory.
"""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import chain
from operator import attrgetter
from typing import Final

from msgspec import Struct

from taskloom.domain.scheduling.executors import Standing
from taskloom.domain.scheduling.leases import Limit
from taskloom.domain.scheduling.match import Requirement


class Entry(Struct, gc=False):
    """A waiting task: time of queueing (Unix seconds), arrival, and the lane it waits in; never changed.

    Hidden from the garbage collector, which a hundred thousand of them would keep busy, and in half a cache line less.
    So a lane that goes has to let go of its entries (``Lane.clear``).
    """

    queued_at: float
    arrival: int
    task_id: str
    lane: "Lane"


Rank = tuple[int, float, float, int, "Level"]
"""Smaller goes first: minus the aged level, the tenant's tag, time of queueing, arrival (no two are the same)."""

MAX_STALE: Final = 64
"""Entries of tasks that left, kept in a lane of few; in a longer one they may be as many as those that wait."""


class Lane:
    """Tasks of one line, level, tenant and key by age: nearly all come in their order and stand in a queue, which costs
    the same however long it is; the few that come ``late`` (retaken, lifted) stand in a heap beside it."""

    __slots__ = ("entries", "key", "late", "level", "limit", "line", "near", "place", "stale")

    def __init__(self, line: "Line", place: "LanePlace") -> None:
        self.line = line
        self.place = place
        self.level, self.limit, self.near = place[0], place[3], place[4]
        self.key = None if place[2] is None else Limit("key", place[1], place[2])
        self.entries: deque[Entry] = deque()
        self.late: list[tuple[float, int, Entry]] = []
        self.stale = 0

    def __len__(self) -> int:
        """Entries, those of tasks that left among them."""
        return len(self.entries) + len(self.late)

    def push(self, entry: Entry) -> None:
        last = self.entries[-1] if self.entries else None
        if last is None or (last.queued_at, last.arrival) < (entry.queued_at, entry.arrival):
            self.entries.append(entry)
        else:
            heappush(self.late, (entry.queued_at, entry.arrival, entry))

    def first(self, waiting: dict[str, Entry]) -> Entry | None:
        """The oldest that still waits; drops those before it that left."""
        entries, late = self.entries, self.late
        if not self.stale and not late:
            return entries[0] if entries else None  # Without a look at ``waiting``, which is far away in memory.
        while entries and waiting.get(entries[0].task_id) is not entries[0]:
            entries.popleft()
            self.stale -= 1
        while late and waiting.get(late[0][2].task_id) is not late[0][2]:
            heappop(late)
            self.stale -= 1
        if late and (not entries or late[0][:2] < (entries[0].queued_at, entries[0].arrival)):
            return late[0][2]
        return entries[0] if entries else None

    def pop(self, entry: Entry) -> None:
        """Removes what ``first`` gave."""
        if self.entries and self.entries[0] is entry:
            self.entries.popleft()
        else:
            heappop(self.late)

    def still(self, waiting: dict[str, Entry]) -> Iterator[Entry]:
        """All that still wait, in no order."""
        entries = chain(self.entries, (late[2] for late in self.late))
        return (entry for entry in entries if waiting.get(entry.task_id) is entry)

    def clear_stale(self, waiting: dict[str, Entry]) -> None:
        self.entries, self.late = deque(sorted(self.still(waiting), key=_AGE)), []
        self.stale = 0

    def clear(self) -> None:
        """The lane goes; what it holds has left before."""
        self.entries.clear()
        self.late.clear()
        self.stale = 0

    @property
    def tenant(self) -> str:
        return self.place[1]


Boost = tuple[float, int, int, float, Entry]
"""When a deadline lifts a task, its arrival, priority and deadline, and its entry: stale once the task left."""

_AGE: Final = attrgetter("queued_at", "arrival")

Near = tuple[str, float]
"""What a task wants to be near to (``Scheduler.homes``), and for how many seconds it waits for that."""

LanePlace = tuple[int, str, str | None, int, Near | None, str]
"""Level, tenant, concurrency key, its limit, affinity, session where sessions are limited."""


class TenantLanes:
    """The lanes of one level and tenant that may go, in turn."""

    __slots__ = ("lanes", "tenant")

    def __init__(self, lane: Lane) -> None:
        self.tenant = lane.tenant
        self.lanes = deque([lane])


class Level:
    """Tenants of one line and level, by turn. ``first`` is the entry that ``ReadyQueues.rank`` found, ``as_of`` the
    number of turns taken by then."""

    __slots__ = ("as_of", "base", "first", "line", "order", "tenants")

    def __init__(self, line: "Line", base: int) -> None:
        self.line = line
        self.base = base
        self.first: Entry | None = None
        self.as_of = -1
        self.tenants: dict[str, TenantLanes] = {}
        self.order: list[tuple[float, int, TenantLanes]] = []


class Line:
    """Everything that waits with one requirement. The scheduler notes here which executors match (``places``, as of the
    pool's version ``seen``) and in which round it found no way for the line (``shut``)."""

    __slots__ = ("lanes", "levels", "places", "requirement", "seen", "shut", "size")

    def __init__(self, requirement: Requirement) -> None:
        self.requirement = requirement
        self.levels: dict[int, Level] = {}
        self.lanes: dict[LanePlace, Lane] = {}
        self.places: list[Standing] = []
        self.seen = -1
        self.shut = -1
        self.size = 0
