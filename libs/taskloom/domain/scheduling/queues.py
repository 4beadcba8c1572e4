"""Ready tasks, waiting in the owner's memory: one line for each requirement, split so that finding the first is cheap.

A line has levels (priority and deadline boost), a level has tenants that take turns, a tenant has lanes (one for each
of its concurrency keys) that take turns, a lane is ordered by age. Only the first of each is ever looked at, so what
waits behind costs nothing but its memory.
"""

from collections.abc import Collection, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace

from taskloom.domain.scheduling.leases import Limit
from taskloom.domain.scheduling.lines import (
    MAX_STALE,
    Boost,
    Entry,
    Lane,
    LanePlace,
    Level,
    Line,
    Near,
    Rank,
    TenantLanes,
)
from taskloom.domain.scheduling.match import Requirement
from taskloom.domain.scheduling.policy import DEFAULT, Policy
from taskloom.domain.scheduling.turns import Turns
from taskloom.domain.values import Concurrency


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
        self._boosts: list[Boost] = []
        self._parked: dict[Limit | str, dict[int, Lane]] = {}
        self._patience: list[tuple[float, int, str, Lane]] = []
        self._arrivals = 0
        self._alone = False

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
        near: Near | None = None,
        session: str = "",
    ) -> None:
        """Puts a task into its line; a task that waits already moves to its new place."""
        if task_id in self.waiting:
            self.discard(task_id)
        line = self._lines.get(requirement)
        if line is None:
            line = self._lines[requirement] = Line(requirement)
        self._arrivals += 1
        key, limit = (None, 0) if concurrency is None else (concurrency.key, concurrency.limit)
        level = priority if deadline is None else self._policy.level(priority, deadline, queued_at)
        place = (level, tenant, key, limit, near, session)
        lane = line.lanes.get(place)
        if lane is None:
            lane = self._open(line, place)
        entry = self.waiting[task_id] = Entry(queued_at, self._arrivals, task_id, lane)
        lane.push(entry)
        line.size += 1
        if deadline is not None:
            self._boost_later(entry, priority, deadline, queued_at)

    def _boost_later(self, entry: Entry, priority: int, deadline: float, now: float) -> None:
        at = self._policy.next_boost_at(deadline, now)
        if at is None:
            return
        if len(self._boosts) > 2 * len(self.waiting) + 1024:
            self._boosts = [boost for boost in self._boosts if self.waiting.get(boost[4].task_id) is boost[4]]
            heapify(self._boosts)
        heappush(self._boosts, (at, entry.arrival, priority, deadline, entry))

    def discard(self, task_id: str) -> None:
        entry = self.waiting.pop(task_id, None)
        if entry is None:
            return
        line = entry.lane.line
        line.size -= 1
        if not line.size:
            self._drop(line)
            return
        self._leave(entry.lane)
        if len(line.lanes) > MAX_STALE + 2 * line.size:
            self._tidy(line)

    def _leave(self, lane: Lane) -> None:
        """One more of the lane's entries is stale; too many are cleared away."""
        lane.stale += 1
        if lane.stale > MAX_STALE + len(lane) // 2:
            lane.clear_stale(self.waiting)

    def _drop(self, line: Line) -> None:
        """Nothing waits in the line any more."""
        self._lines.pop(line.requirement, None)
        for lane in line.lanes.values():
            lane.clear()

    def _tidy(self, line: Line) -> None:
        """Lanes of a line that no executor serves are not looked at: those without tasks go here."""
        kept = {}
        for place, lane in line.lanes.items():
            if any(True for _ in lane.still(self.waiting)):
                kept[place] = lane
            else:
                lane.clear()
        line.lanes, line.levels = kept, {}
        parked = {number for lanes in self._parked.values() for number in lanes}
        for lane in kept.values():
            if id(lane) not in parked:
                self._activate(lane)

    def boost(self, now: float) -> None:
        """Lifts the tasks whose deadline came near; call before ranks are asked for."""
        while self._boosts and self._boosts[0][0] <= now:
            _, _, priority, deadline, entry = heappop(self._boosts)
            if self.waiting.get(entry.task_id) is not entry:
                continue
            level = self._policy.level(priority, deadline, now)
            if level != entry.lane.level:
                entry = self._lift(entry, level)
            self._boost_later(entry, priority, deadline, now)

    def _lift(self, entry: Entry, level: int) -> Entry:
        old = entry.lane
        place = (level, *old.place[1:])
        lane = old.line.lanes.get(place)
        if lane is None:
            lane = self._open(old.line, place)
        moved = self.waiting[entry.task_id] = Entry(entry.queued_at, entry.arrival, entry.task_id, lane)
        lane.push(moved)
        self._leave(old)
        return moved

    def lines(self) -> Collection[Line]:
        return self._lines.values()

    def levels(self, lines: Iterable[Line]) -> list[Level]:
        """The levels of these lines, to be ranked in one round; nothing may be added until the round is over.

        Where all of them belong to one tenant there are no turns, and what is taken from one level leaves the others'
        ranks as they are.
        """
        levels = [level for line in lines for level in line.levels.values()]
        first = next(iter(levels[0].tenants), None) if levels else None
        self._alone = all(len(level.tenants) == 1 and first in level.tenants for level in levels)
        return levels

    def rank(self, level: Level, now: float) -> Rank | None:
        """Rank of the task that goes first in this level, which is then ``level.first``.

        None when none may go; then the level is gone from its line.

        What is taken from another level moves tenants' turns on here too. Turns never go back, so until tasks are added
        a rank can only grow: one that is old is a lower bound.
        """
        found = self._head(level)
        if found is None:
            if level.line.levels.get(level.base) is level:
                del level.line.levels[level.base]
            return None
        tag, entry = found
        level.first, level.as_of = entry, self.turns.taken
        queued_at = entry.queued_at
        aged = level.base + int((now - queued_at) / self._step_s) if now > queued_at else level.base
        return -aged, 0.0 if self._alone else tag, queued_at, entry.arrival, level

    def is_current(self, level: Level) -> bool:
        """Whether the level's rank is as it was: nothing was taken since, or nothing that it depends on."""
        return self._alone or level.as_of == self.turns.taken

    def take(self, level: Level) -> Entry:
        """Removes and gives ``level.first``; call ``rank`` before. Its tenant and its key have had their turn."""
        entry = level.first
        assert entry is not None
        lane, line = entry.lane, level.line
        lane.pop(entry)
        del self.waiting[entry.task_id]
        tenant = lane.place[1]
        if len(line.lanes) > 1:
            level.tenants[tenant].lanes.rotate(-1)  # The tenant's other keys have their turn.
        line.size -= 1
        if not line.size:
            self._drop(line)
        self.turns.served(tenant)
        return entry

    def park(self, lane: Lane, at: Limit | str, until: float | None = None) -> None:
        """The lane waits beside its line, whose other lanes go on, until ``unpark`` or that time. It must be first.

        ``at``: the concurrency key that has no place, the tenant or session that may start nothing, or the executor
        that it wants and that has no slot.
        """
        self._parked.setdefault(at, {})[id(lane)] = lane
        lane.line.levels[lane.level].tenants[lane.tenant].lanes.remove(lane)
        if until is not None and isinstance(at, str):
            self._arrivals += 1
            heappush(self._patience, (until, self._arrivals, at, lane))

    def unpark(self, at: Limit | str, most: int | None = None) -> None:
        """Lets the lanes that wait for this go on; the first ``most`` of them where that is given."""
        lanes = self._parked.get(at)
        while lanes and (most is None or most > 0):
            self._activate(lanes.pop(next(iter(lanes))))
            most = None if most is None else most - 1
        if lanes is not None and not lanes:
            del self._parked[at]

    def unpark_all(self) -> None:
        for at in list(self._parked):
            self.unpark(at)
        self._patience.clear()

    def beside(self, line: Line) -> dict[str, int]:
        """How many of a line's tasks wait beside it: for a place of their key, or for the executor they want."""
        counts: dict[str, int] = {}
        for at, lanes in self._parked.items():
            gate = "affinity" if isinstance(at, str) else "concurrency" if at.scope == "key" else "budget"
            for lane in lanes.values():
                if lane.line is line:
                    counts[gate] = counts.get(gate, 0) + len(lane) - lane.stale
        return counts

    def wanted_executors(self) -> list[str]:
        """Executors that lanes wait for."""
        return [at for at in self._parked if isinstance(at, str)] if self._patience else []

    def lose_patience(self, now: float) -> float | None:
        """Lets lanes go on that waited for an executor as long as they wished; gives when the next one will."""
        while self._patience and self._patience[0][0] <= now:
            _, _, at, lane = heappop(self._patience)
            lanes = self._parked.get(at)
            if lanes is not None and lanes.pop(id(lane), None) is not None:
                self._activate(lane)
                if not lanes:
                    del self._parked[at]
        return self._patience[0][0] if self._patience else None

    def entry(self, task_id: str) -> Entry | None:
        return self.waiting.get(task_id)

    def level_of(self, entry: Entry, now: float) -> int:
        """The level of a waiting task, its age added."""
        return entry.lane.level + max(0, int((now - entry.queued_at) / self._step_s))

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
            level = lane.line.levels[lane.level] = Level(lane.line, lane.level)
        tenant = level.tenants.get(lane.tenant)
        if tenant is not None:
            tenant.lanes.append(lane)
            return
        tenant = level.tenants[lane.tenant] = TenantLanes(lane)
        self.turns.enter(lane.tenant)
        self._arrivals += 1
        heappush(level.order, (self.turns.tag(lane.tenant), self._arrivals, tenant))

    def _head(self, level: Level) -> tuple[float, Entry] | None:
        """Tag and first entry of the tenant whose turn it is; what is empty or has moved on is put right on the way."""
        order, waiting = level.order, self.waiting
        while order:
            known, arrival, tenant = order[0]
            tag = self.turns.tag(tenant.tenant)
            if tag > known and len(order) > 1:
                heapreplace(order, (tag, arrival, tenant))
                continue
            lanes = tenant.lanes
            while lanes:
                lane = lanes[0]
                entry = lane.first(waiting)
                if entry is not None:
                    return tag, entry
                lanes.popleft()
                if lane.line.lanes.get(lane.place) is lane:
                    del lane.line.lanes[lane.place]
            heappop(order)
            del level.tenants[tenant.tenant]
        return None
