"""Ready tasks, waiting in the owner's memory: one line for each requirement, split so that finding the first is cheap.

A line has levels (priority and deadline boost), a level has tenants that take turns, a tenant has lanes (one for each
of its concurrency keys) that take turns, a lane is ordered by age. Only the first of each is ever looked at, so what
waits behind costs nothing but its memory.
"""

from collections import deque
from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from typing import Final

from taskloom.domain.scheduling.executors import Standing
from taskloom.domain.scheduling.match import Requirement
from taskloom.domain.scheduling.policy import DEFAULT, Policy
from taskloom.domain.scheduling.turns import Turns
from taskloom.domain.values import Concurrency

Key = tuple[str, str]
"""Tenant and concurrency key."""

Entry = tuple[float, int, str, "Lane"]
"""Time of queueing (Unix seconds), arrival, task id, and the lane it waits in."""

Rank = tuple[int, float, float, int]
"""Smaller goes first: minus the aged level, the tenant's tag, time of queueing, arrival."""

MAX_STALE: Final = 64
"""Entries of tasks that left, kept in a lane of few; in a longer one they may be as many as those that wait."""


class Lane:
    """Tasks of one line, level, tenant and key by age: nearly all come in their order and stand in a queue, which costs
    the same however long it is; the few that come ``late`` (retaken, lifted) stand in a heap beside it."""

    __slots__ = ("entries", "late", "level", "limit", "line", "place", "stale")

    def __init__(self, line: "Line", place: "LanePlace") -> None:
        self.line = line
        self.place = place
        self.level, self.limit = place[0], place[3]
        self.entries: deque[Entry] = deque()
        self.late: list[Entry] = []
        self.stale = 0

    def __len__(self) -> int:
        """Entries, those of tasks that left among them."""
        return len(self.entries) + len(self.late)

    def push(self, entry: Entry) -> None:
        if not self.entries or self.entries[-1] < entry:
            self.entries.append(entry)
        else:
            heappush(self.late, entry)

    def first(self, waiting: dict[str, Entry]) -> Entry | None:
        """The oldest that still waits; drops those before it that left."""
        entries, late = self.entries, self.late
        while entries and waiting.get(entries[0][2]) is not entries[0]:
            entries.popleft()
            self.stale -= 1
        if late:
            while late and waiting.get(late[0][2]) is not late[0]:
                heappop(late)
                self.stale -= 1
            if late and (not entries or late[0] < entries[0]):
                return late[0]
        return entries[0] if entries else None

    def pop(self, entry: Entry) -> None:
        """Removes what ``first`` gave."""
        if self.entries and self.entries[0] is entry:
            self.entries.popleft()
        else:
            heappop(self.late)

    def still(self, waiting: dict[str, Entry]) -> Iterator[Entry]:
        """All that still wait, in no order."""
        return (entry for entry in chain(self.entries, self.late) if waiting.get(entry[2]) is entry)

    def clear_stale(self, waiting: dict[str, Entry]) -> None:
        self.entries, self.late = deque(sorted(self.still(waiting))), []
        self.stale = 0

    @property
    def tenant(self) -> str:
        return self.place[1]

    @property
    def key(self) -> Key | None:
        return None if self.place[2] is None else (self.place[1], self.place[2])


LanePlace = tuple[int, str, str | None, int]
"""Level, tenant, concurrency key, its limit."""


class Level:
    """Tenants of one line and level, by turn, each with its lanes that may go."""

    __slots__ = ("lanes", "order")

    def __init__(self) -> None:
        self.lanes: dict[str, deque[Lane]] = {}
        self.order: list[tuple[float, int, str]] = []


class Line:
    """Everything that waits with one requirement. ``first`` is the entry that ``ReadyQueues.rank`` found, ``places``
    the executors that match, as of the scheduler's last round."""

    __slots__ = ("first", "lanes", "levels", "number", "places", "requirement", "size")

    def __init__(self, requirement: Requirement, number: int) -> None:
        self.requirement = requirement
        self.number = number
        self.levels: dict[int, Level] = {}
        self.lanes: dict[LanePlace, Lane] = {}
        self.first: Entry | None = None
        self.places: list[Standing] = []
        self.size = 0


class ReadyQueues:
    """Lines of ready tasks. Leaving is lazy, paid when the lane is next looked at.

    Age lifts a task over higher levels, but not over other tenants of its own level: a flood that waits for long does
    not outrun the few tasks of a neighbour. ``waiting``: the entry of each task that waits, to be read only.
    """

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._policy = policy
        self._step_s = policy.ageing_step_s
        self.turns = Turns(policy.weights)
        self._lines: dict[Requirement, Line] = {}
        self.waiting: dict[str, Entry] = {}
        self._deadlines: dict[str, tuple[int, float]] = {}
        self._boosts: list[tuple[float, str]] = []
        self._parked: dict[Key, list[Lane]] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self.waiting

    def add(
        self,
        task_id: str,
        requirement: Requirement,
        priority: int,
        queued_at: float,
        tenant: str = "",
        concurrency: Concurrency | None = None,
        deadline: float | None = None,
    ) -> None:
        """Puts a task into its line; a task that waits already moves to its new place."""
        if task_id in self.waiting:
            self.discard(task_id)
        line = self._lines.get(requirement)
        if line is None:
            self._arrivals += 1
            line = self._lines[requirement] = Line(requirement, self._arrivals)
        self._arrivals += 1
        key, limit = (None, 0) if concurrency is None else (concurrency.key, concurrency.limit)
        place = (priority, tenant, key, limit)
        lane = line.lanes.get(place)
        if lane is None:
            lane = self._open(line, place)
        entry = self.waiting[task_id] = (queued_at, self._arrivals, task_id, lane)
        lane.push(entry)
        line.size += 1
        if deadline is not None:
            self._deadlines[task_id] = (priority, deadline)
            heappush(self._boosts, (self._policy.next_boost_at(deadline, float("-inf")) or deadline, task_id))
            if len(self._boosts) > 2 * len(self._deadlines) + 1024:
                self._boosts = [(at, name) for at, name in self._boosts if name in self._deadlines]
                heapify(self._boosts)

    def discard(self, task_id: str) -> None:
        entry = self.waiting.pop(task_id, None)
        if entry is None:
            return
        self._deadlines.pop(task_id, None)
        line = entry[3].line
        line.size -= 1
        if not line.size:
            self._lines.pop(line.requirement, None)
        self._leave(entry[3])
        if len(line.lanes) > MAX_STALE + 2 * line.size:
            self._tidy(line)

    def _leave(self, lane: Lane) -> None:
        """One more of the lane's entries is stale; too many are cleared away."""
        lane.stale += 1
        if lane.stale > MAX_STALE + len(lane) // 2:
            lane.clear_stale(self.waiting)

    def _tidy(self, line: Line) -> None:
        """Lanes of a line that no executor serves are not looked at: those without tasks go here."""
        kept = {place: lane for place, lane in line.lanes.items() if any(True for _ in lane.still(self.waiting))}
        line.lanes, line.levels = kept, {}
        parked = {id(lane) for lanes in self._parked.values() for lane in lanes}
        for lane in kept.values():
            if id(lane) not in parked:
                self._activate(lane)

    def boost(self, now: float) -> None:
        """Lifts the tasks whose deadline came near; call before ranks are asked for."""
        while self._boosts and self._boosts[0][0] <= now:
            _, task_id = heappop(self._boosts)
            entry = self.waiting.get(task_id)
            if entry is None or task_id not in self._deadlines:
                continue
            priority, deadline = self._deadlines[task_id]
            again = self._policy.next_boost_at(deadline, now)
            if again is not None:
                heappush(self._boosts, (again, task_id))
            old = entry[3]
            level = self._policy.level(priority, deadline, now)
            if level != old.level:
                self._leave(old)
                place = (level, *old.place[1:])
                lane = old.line.lanes.get(place)
                if lane is None:
                    lane = self._open(old.line, place)
                moved = self.waiting[task_id] = (*entry[:3], lane)
                lane.push(moved)

    def lines(self) -> Collection[Line]:
        return list(self._lines.values())

    def rank(self, line: Line, now: float) -> Rank | None:
        """Rank of the task that goes first in this line, which is then ``line.first``; None when none may go.

        What is taken from another line moves tenants' turns on here too, so a rank is good until the next ``take``.
        """
        best: Rank | None = None
        emptied = []
        for base, level in line.levels.items():
            found = self._head(level)
            if found is None:
                emptied.append(base)
                continue
            tag, entry = found
            aged = base + int((now - entry[0]) / self._step_s) if now > entry[0] else base
            rank = (-aged, tag, entry[0], entry[1])
            if best is None or rank < best:
                best, line.first = rank, entry
        for base in emptied:
            del line.levels[base]
        return best

    def take(self, line: Line) -> Entry:
        """Removes and gives ``line.first``; call ``rank`` before. Its tenant and its key have had their turn."""
        entry = line.first
        assert entry is not None
        lane = entry[3]
        lane.pop(entry)
        del self.waiting[entry[2]]
        if self._deadlines:
            self._deadlines.pop(entry[2], None)
        tenant = lane.place[1]
        if len(line.lanes) > 1:
            line.levels[lane.level].lanes[tenant].rotate(-1)  # The tenant's other keys have their turn.
        line.size -= 1
        if not line.size:
            self._lines.pop(line.requirement, None)
        self.turns.served(tenant)
        return entry

    def advance(self, line: Line) -> bool:
        """Moves ``line.first`` on after a ``take`` where there is nothing to compare: whether the line has but one lane
        and more waits in it. What ``rank`` would find, for less."""
        if len(line.lanes) != 1 or line.first is None:
            return False
        entry = line.first[3].first(self.waiting)
        if entry is not None:
            line.first = entry
        return entry is not None

    def park(self, lane: Lane) -> None:
        """The lane's key has no place: the lane waits beside its line, whose other lanes go on. It must be first."""
        key = lane.key
        assert key is not None
        self._parked.setdefault(key, []).append(lane)
        lane.line.levels[lane.level].lanes[lane.tenant].remove(lane)

    def unpark(self, key: Key) -> None:
        for lane in self._parked.pop(key, ()):
            self._activate(lane)

    def unpark_all(self) -> None:
        for key in list(self._parked):
            self.unpark(key)

    def entry(self, task_id: str) -> Entry | None:
        return self.waiting.get(task_id)

    def level_of(self, entry: Entry, now: float) -> int:
        """The level of a waiting task, its age added."""
        return entry[3].level + max(0, int((now - entry[0]) / self._step_s))

    def waiting_in(self, line: Line) -> Iterator[Entry]:
        """All that wait in a line, parked ones too, in no order."""
        for lane in line.lanes.values():
            yield from lane.still(self.waiting)

    def _open(self, line: Line, place: LanePlace) -> Lane:
        lane = line.lanes[place] = Lane(line, place)
        self._activate(lane)
        return lane

    def _activate(self, lane: Lane) -> None:
        level = lane.line.levels.get(lane.level)
        if level is None:
            level = lane.line.levels[lane.level] = Level()
        lanes = level.lanes.get(lane.tenant)
        if lanes is not None:
            lanes.append(lane)
            return
        level.lanes[lane.tenant] = deque([lane])
        self.turns.enter(lane.tenant)
        self._arrivals += 1
        heappush(level.order, (self.turns.tag(lane.tenant), self._arrivals, lane.tenant))

    def _head(self, level: Level) -> tuple[float, Entry] | None:
        """Tag and first entry of the tenant whose turn it is; what is empty or has moved on is put right on the way."""
        order, waiting = level.order, self.waiting
        while order:
            known, arrival, tenant = order[0]
            tag = self.turns.tag(tenant)
            if tag > known and len(order) > 1:
                heapreplace(order, (tag, arrival, tenant))
                continue
            lanes = level.lanes[tenant]
            while lanes:
                lane = lanes[0]
                entry = lane.first(waiting)
                if entry is not None:
                    return tag, entry
                lanes.popleft()
                if lane.line.lanes.get(lane.place) is lane:
                    del lane.line.lanes[lane.place]
            heappop(order)
            del level.lanes[tenant]
        return None
