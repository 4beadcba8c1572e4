"""Who runs next and where: keeps lines and leases in step with the states, and pairs ready tasks with free slots."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from heapq import heapify, heappop, heapreplace
from itertools import islice

from msgspec import Struct

from taskloom.domain.scheduling.executors import ExecutorPool, Hint, Standing
from taskloom.domain.scheduling.homes import Homes, near_of
from taskloom.domain.scheduling.leases import LeaseBook, Limit, Occupied, Place
from taskloom.domain.scheduling.limits import TokenBucket
from taskloom.domain.scheduling.lines import Entry, Lane, Level, Line, Rank
from taskloom.domain.scheduling.match import Requirement, needs_of, requirement_of
from taskloom.domain.scheduling.policy import DEFAULT, Policy, Rate
from taskloom.domain.scheduling.queues import ReadyQueues
from taskloom.domain.scheduling.quotas import Exhausted, Ledger, Quota, Scope, Use
from taskloom.domain.task.state import LiveAttempt, TaskState
from taskloom.domain.values import TaskSpec

Held = tuple[str, str, int, int, str, str]
"""Executor, incarnation, attempt (0: paired, not yet accepted), failures of the task before it, kind, tenant."""


class Assignment(Struct, frozen=True):
    """A pairing that the task has yet to accept (``AssignAttempt``), once it has a lease of each of ``places``."""

    task_id: str
    executor_id: str
    incarnation: str
    places: tuple[Place, ...] = ()


class Scheduler:
    """Follows the states of the owned partitions' open tasks.

    Lines, leases and limits can be rebuilt from the states alone. What comes on top is lost with the process and does
    no harm: tenants' turns, tokens of rate limits, trust in executors, which executor a retry should avoid.

    ``recalls``: attempts asked back from an executor's reserve, with that executor and the one that has a slot for them
    (rebalance.py). What was not dispatched needs none of this: it waits here and finds its place when a slot is free.
    """

    def __init__(self, pool: ExecutorPool, policy: Policy = DEFAULT) -> None:
        self.pool = pool
        self._health = pool.health
        self.policy = policy
        self.ready = ReadyQueues(policy)
        self.leases = LeaseBook()
        self.queue_buckets = {name: TokenBucket(rate) for name, rate in policy.queue_rates.items()}
        self.kind_buckets = {name: TokenBucket(rate) for name, rate in policy.kind_rates.items()}
        self.ledger = Ledger(policy.quotas) if policy.quotas else None
        self._waiting = self.ready.waiting
        self._leases: dict[str, Held] = {}
        self._hints: dict[str, Hint] = {}
        self.homes = Homes()
        self.recalls: dict[str, tuple[str, str]] = {}
        self._limited = bool(policy.queue_rates or policy.kind_rates or policy.queue_parallel)
        self._pool_version = -1
        self._round = 0
        self.more = False
        self.next_at: float | None = None
        """When the clock alone may let a waiting task go, in Unix seconds; None when it does not."""

    def observe(self, state: TaskState) -> None:
        """Brings line and lease of one task in step with its new state."""
        task_id, live = state.task_id, state.live
        held = self._leases.get(task_id)
        if self.recalls and (live is None or live.started_at is not None):
            self._answered(task_id, state)
        if live is None:
            if held is not None:
                self._release(task_id, held)
                if state.phase != "completed" or self._health.breakers or self._health.quarantines:
                    self._learn(state, held)
        elif held is None or held[2] != live.number or held[0] != live.executor_id or held[1] != live.incarnation:
            self._lease(state, live, held)
        # What had a lease does not wait: so it is not looked for among the many that do.
        if live is not None or not state.dispatchable:
            if held is None and task_id in self._waiting:
                self.ready.discard(task_id)
            if self._hints and state.ended:
                self._hints.pop(task_id, None)
        elif held is not None or task_id not in self._waiting or state.just_updated:
            self._queue(state)

    def _answered(self, task_id: str, state: TaskState) -> None:
        """A recalled attempt came back, or had started before."""
        recall = self.recalls.pop(task_id, None)
        if recall is not None and state.live is None and not state.ended:
            self._hints[task_id] = (recall[1], recall[0])

    def forget(self, task_ids: Iterable[str]) -> None:
        """Drops tasks whose partition went to another owner."""
        for task_id in task_ids:
            self.ready.discard(task_id)
            self._hints.pop(task_id, None)
            self.recalls.pop(task_id, None)
            held = self._leases.get(task_id)
            if held is not None:
                self._release(task_id, held)
                self._health.undecided(held[0], held[4], task_id)
            self.drop_lease(task_id)

    def assign(self, limit: int, now: datetime) -> list[Assignment]:
        """Takes up to ``limit`` ready tasks out of their lines and pairs them with executors, best rank first.

        A slot is held from here on; ``observe`` of the task's next state confirms or releases it. What has ``places``
        may only start when the store grants them; else ``withdraw`` puts it back. ``more`` says whether the limit cut
        the round short, ``next_at`` when the clock may let more go.
        """
        at = now.timestamp()
        self.more, self.next_at = False, self._health.settle(at)
        if not self.ready:
            return []
        self._catch_up(at)
        self._round += 1
        heads = self._heads(at)
        assignments: list[Assignment] = []
        closed: set[str] = set()
        ready = self.ready
        while heads and len(assignments) < limit:
            rank = heads[0]
            level = rank[4]
            line = level.line
            if line.shut == self._round:
                heappop(heads)
                continue
            following: Rank | None = rank
            if ready.is_current(level) or (following := ready.rank(level, at)) == rank:
                following = self._serve(level, at, closed, assignments)
            if following is None:
                heappop(heads)
            elif len(heads) > 1 and (heads[1] < following or (len(heads) > 2 and heads[2] < following)):
                heapreplace(heads, following)
            else:
                heads[0] = following
        self.more = bool(heads)
        return assignments

    def _heads(self, at: float) -> list[Rank]:
        """Ranks of the first tasks of all levels, as a heap; of lines only that some executor has room for."""
        for line in self.ready.lines():
            if line.seen != self.pool.version:
                line.places, line.seen = self.pool.matching(line.requirement), self.pool.version
        served = (line for line in self.ready.lines() if any(place.has_room for place in line.places))
        ranks = (self.ready.rank(level, at) for level in self.ready.levels(served))
        heads = [rank for rank in ranks if rank is not None]
        heapify(heads)
        return heads

    def _serve(self, level: Level, at: float, closed: set[str], assignments: list[Assignment]) -> Rank | None:
        """Lets the first task of a level go, or notes what it waits for; gives what comes next there."""
        assert level.first is not None
        lane = level.first.lane
        if self.ledger is not None and (shut := self._shut(lane, at)) is not None:
            self.ready.park(lane, shut)
        elif lane.limit and (key := lane.key) is not None and self.key_is_full(lane):
            self.ready.park(lane, key)
        elif lane.near is not None and (wanted := self.waits_for(level.first, at)) is not None:
            self.ready.park(lane, *wanted)
            self._look_again(wanted[1])
        else:
            standing = self._place(level, at, closed)
            if standing is None:
                level.line.shut = self._round
                return None
            assignments.append(self._take(level, standing, at))
        return self.ready.rank(level, at)

    def seconds_to_next(self, now: datetime, at_most: float) -> float:
        """How long nothing can change by the clock alone, as of the last round."""
        return at_most if self.next_at is None else min(at_most, max(0.0, self.next_at - now.timestamp()))

    def key_is_full(self, lane: Lane) -> bool:
        """Whether the lane's concurrency key has no place left, as far as is known here."""
        return lane.key is not None and self.leases.is_full(lane.key, lane.limit)

    def queue_is_full(self, queue: str) -> bool:
        places = self.policy.queue_parallel.get(queue)
        return places is not None and self.leases.is_full(Limit("queue", "", queue), places)

    def over_parallel(self, scope: Scope) -> int | None:
        """The scope's limit of attempts at once, when all its places are taken; else None."""
        places = self._parallel(scope)
        return places if places is not None and self.leases.is_full(limit_of(scope), places) else None

    def _parallel(self, scope: Scope) -> int | None:
        quota = None if self.ledger is None else self.ledger.of(scope.tenant_id)
        if quota is None:
            return None
        return quota.session.parallel if scope.session_id else quota.parallel

    def places_of(self, spec: TaskSpec) -> tuple[Place, ...]:
        """The limits that an attempt of such a task needs a lease of."""
        key, places = (None, 0) if spec.concurrency is None else (spec.concurrency.key, spec.concurrency.limit)
        return self._places(spec.tenant_id, key, places, spec.queue, spec.session_id)

    def _places(self, tenant: str, key: str | None, places: int, queue: str, session: str) -> tuple[Place, ...]:
        found: list[Place] = []
        if key is not None:
            found.append((Limit("key", tenant, key), places))
        if queue in self.policy.queue_parallel:
            found.append((Limit("queue", "", queue), self.policy.queue_parallel[queue]))
        if self.ledger is not None:
            scopes = ((scope, self._parallel(scope)) for scope in self.scopes_of(tenant, session))
            found += ((limit_of(scope), parallel) for scope, parallel in scopes if parallel is not None)
        return tuple(found)

    def out_of_budget(self, scope: Scope, at: float) -> Exhausted | None:
        return None if self.ledger is None else self.ledger.shut(scope, at)

    def scopes_of(self, tenant_id: str, session_id: str) -> list[Scope]:
        """Who has to be let start something: the tenant, and the session where sessions are limited."""
        if self.ledger is None:
            return []
        session = self.ledger.session_of(tenant_id, session_id)
        return [Scope(tenant_id), Scope(tenant_id, session)] if session else [Scope(tenant_id)]

    def learn_usage(self, scopes: Iterable[Scope], uses: Iterable[Use]) -> None:
        """What the store says these used; who waited for that is looked at again with the next round."""
        if self.ledger is not None:
            scopes = list(scopes)
            self.ledger.learn(scopes, uses)
            for scope in scopes:
                self.ready.unpark(limit_of(scope))

    def learn_quotas(self, quotas: Mapping[str, Quota], states: Iterable[TaskState]) -> None:
        """Other quotas from now on. ``states``: the open tasks of those tenants whose quota is another one."""
        if self.ledger is None:
            if not quotas:
                return
            self.ledger = Ledger(quotas)
        self.ledger.quotas = quotas
        for state in states:
            if state.live is not None and state.task_id in self._leases:
                self._relimit(state, state.live)
            elif state.task_id in self._waiting:
                self._queue(state)  # its lane may be that of a session now, or no more
        self.ready.unpark_all()

    def _relimit(self, state: TaskState, live: LiveAttempt) -> None:
        """What runs holds places of the limits that there are now."""
        limits = tuple(limit for limit, _ in self.places_of(state.spec))
        if limits:
            self.leases.take(state.task_id, limits, live.assigned_at)
        elif state.task_id in self.leases.held:
            self.leases.leave(state.task_id)

    def _shut(self, lane: Lane, at: float) -> Limit | None:
        """The tenant or session of the lane that may start nothing now."""
        tenant, session = lane.tenant, lane.place[5]
        for scope in (Scope(tenant), Scope(tenant, session))[: 2 if session else 1]:
            if self.over_parallel(scope) is not None or self.out_of_budget(scope, at) is not None:
                return limit_of(scope)
        return None

    def learn_leases(self, limit: Limit, occupied: Occupied) -> bool:
        """What the store says of a limit; who waits for it is looked at again where that changes anything."""
        changed = self.leases.learn(limit, occupied)
        if changed:
            self.ready.unpark(limit)
        return changed

    def settle(self, task_ids: Iterable[str]) -> bool:
        """The ends of these tasks' attempts are stored; gives whether that freed places while something waits."""
        return self._free(self.leases.settle(task_ids))

    def drop_lease(self, task_id: str) -> None:
        """The task's leases are no longer ours."""
        if self.leases.held:
            self._free(self.leases.leave(task_id))

    def is_paired(self, made: Assignment) -> bool:
        """Whether the pairing still stands: its executor may have gone meanwhile."""
        return self.pool.holds(made.executor_id, made.incarnation, (made.task_id, 0))

    def withdraw(self, state: TaskState) -> None:
        """Puts a paired task back into its line, as if nothing had been."""
        held = self._leases.get(state.task_id)
        if held is None or held[2]:
            return
        for bucket in self._buckets(requirement_of(state.spec)):
            bucket.put_back()
        self.observe(state)

    def _free(self, limits: Iterable[Limit]) -> bool:
        freed = False
        for limit in limits:
            self.ready.unpark(limit)
            freed = True
        return freed and bool(self.ready)

    def rate_opens_at(self, requirement: Requirement, now: float) -> float:
        """When the rate limits of queue and kind next let a task start; ``now`` when they do."""
        return max((bucket.ready_at(now, self.pool.part) for bucket in self._buckets(requirement)), default=now)

    def rates_of(self, requirement: Requirement) -> list[tuple[str, Rate]]:
        """The rate limits that such tasks are under, each with what it is for."""
        queue, kind = requirement.queue, requirement.kind
        found = ((f"queue {queue!r}", self.queue_buckets.get(queue)), (f"kind {kind!r}", self.kind_buckets.get(kind)))
        return [(what, bucket.rate) for what, bucket in found if bucket is not None]

    def holders(self, task_ids: Iterable[str], tenant: str, limit: int) -> tuple[str, ...]:
        """Those of the tasks that are the tenant's own: others' are not to be seen."""
        own = (task_id for task_id in task_ids if (held := self._leases.get(task_id)) and held[5] == tenant)
        return tuple(islice(own, limit))

    def _catch_up(self, at: float) -> None:
        """What the clock and the pool changed since the last round."""
        self.ready.boost(at)
        if self._pool_version != self.pool.version:
            self._pool_version = self.pool.version
            self.ready.unpark_all()  # Our share of the limits' places may have grown, or an executor have gone.
        patience = self.ready.lose_patience(at)
        if patience is not None:
            self._look_again(patience)
            for name in self.ready.wanted_executors():
                self.ready.unpark(name, self.pool.room_of(name))

    def _place(self, level: Level, at: float, closed: set[str]) -> Standing | None:
        """Where the level's first task may go now."""
        line, first = level.line, level.first
        requirement = line.requirement
        assert first is not None
        if self._limited and not self._limits_open(requirement, at):
            return None
        hint = self._hints.get(first.task_id) if self._hints else None
        if first.lane.near is not None and (home := self.homes.of(first.lane)):
            avoid = "" if hint is None else hint[1]
            hint = ("" if home == avoid else home, avoid)
        standing = self.pool.choose(line.places, requirement, hint, closed)
        if standing is None and requirement.resources and at - first.queued_at > self.policy.ageing_step_s:
            self._reserve(line, closed)
        return standing

    def waits_for(self, entry: Entry, at: float) -> tuple[str, float] | None:
        """The executor that a task with an affinity waits for, and until when; None when it goes there, or anywhere."""
        near, line = entry.lane.near, entry.lane.line
        home = self.homes.of(entry.lane)
        if near is None or not home or at >= entry.queued_at + near[1]:
            return None
        standing = next((each for each in line.places if each.offer.executor_id == home), None)
        avoided = self._hints.get(entry.task_id, ("", ""))[1] == home
        if standing is None or standing.has_room or avoided or not self.pool.open_for(standing, line.requirement):
            return None
        return home, entry.queued_at + near[1]

    def _reserve(self, line: Line, closed: set[str]) -> None:
        """Keeps an executor's resources from smaller tasks of lower rank until the one that waits for long fits."""
        open_places = [each for each in line.places if each.offer.executor_id not in closed]
        if open_places:
            closed.add(min(open_places, key=lambda each: (len(each.needs), each.offer.executor_id)).offer.executor_id)

    def _limits_open(self, requirement: Requirement, at: float) -> bool:
        if self.queue_is_full(requirement.queue):
            return False
        opens_at = self.rate_opens_at(requirement, at)
        if opens_at <= at:
            return True
        self._look_again(opens_at)
        return False

    def _look_again(self, at: float) -> None:
        self.next_at = at if self.next_at is None else min(self.next_at, at)

    def _buckets(self, requirement: Requirement) -> list[TokenBucket]:
        found = (self.queue_buckets.get(requirement.queue), self.kind_buckets.get(requirement.kind))
        return [bucket for bucket in found if bucket is not None]

    def _take(self, level: Level, standing: Standing, at: float) -> Assignment:
        requirement, offer = level.line.requirement, standing.offer
        entry = self.ready.take(level)
        task_id, lane = entry.task_id, entry.lane
        self._leases[task_id] = (offer.executor_id, offer.incarnation, 0, 0, requirement.kind, lane.tenant)
        if requirement.resources:
            self.pool.lease(offer.executor_id, offer.incarnation, (task_id, 0), requirement.resources)
        else:
            standing.leases.add((task_id, 0))
        if self._health.half_open:
            self._health.assigned(offer.executor_id, requirement.kind, task_id)
        if self._hints:
            self._hints.pop(task_id, None)
        if lane.near is not None:
            self.homes.note((lane.tenant, lane.near[0]), offer.executor_id)
        places: tuple[Place, ...] = ()
        if lane.limit or self._limited or self.ledger is not None:
            places = self._places(lane.tenant, lane.place[2], lane.limit, requirement.queue, lane.place[5])
            if places:
                since = datetime.fromtimestamp(at, UTC)
                self.leases.take(task_id, tuple(limit for limit, _ in places), since)
            for bucket in self._buckets(requirement):
                bucket.take()
        return Assignment(task_id, offer.executor_id, offer.incarnation, places)

    def _queue(self, state: TaskState) -> None:
        spec = state.spec
        self.ready.add(
            state.task_id,
            requirement_of(spec),
            spec.priority,
            (state.queued_at or state.submitted_at).timestamp(),
            spec.tenant_id,
            spec.concurrency,
            None if spec.deadline is None else spec.deadline.timestamp(),
            None if spec.affinity is None else near_of(state),
            "" if self.ledger is None else self.ledger.session_of(spec.tenant_id, spec.session_id),
        )

    def _lease(self, state: TaskState, live: LiveAttempt, held: Held | None) -> None:
        spec, task_id = state.spec, state.task_id
        name, incarnation, number = live.executor_id, live.incarnation, live.number
        self._leases[task_id] = (name, incarnation, number, state.failures, spec.kind, spec.tenant_id)
        if held is not None:
            if not held[2] and held[0] == name and held[1] == incarnation:
                self.pool.confirm(name, incarnation, task_id, number)
                return
            self.pool.release(held[0], held[1], (task_id, held[2]))
            self._learn(state, held)
        self.pool.lease(name, incarnation, (task_id, number), needs_of(spec))
        if spec.affinity is not None and (near := near_of(state)) is not None:
            self.homes.note((spec.tenant_id, near[0]), name)
        if (spec.concurrency is not None or self._limited or self.ledger is not None) and (
            places := self.places_of(spec)
        ):
            self.leases.take(task_id, tuple(limit for limit, _ in places), live.assigned_at)

    def _release(self, task_id: str, held: Held) -> None:
        self.pool.release(held[0], held[1], (task_id, held[2]))
        del self._leases[task_id]
        if task_id in self.leases.held:
            self._free(self.leases.end(task_id) if held[2] else self.leases.leave(task_id))

    def _learn(self, state: TaskState, held: Held) -> None:
        """What the end of an attempt says about its executor."""
        executor_id, incarnation, number, failures, kind, _ = held
        health, task_id = self._health, state.task_id
        if state.phase == "completed":
            health.succeeded(executor_id, kind)
        elif not number or state.failures <= failures:
            health.undecided(executor_id, kind, task_id)
        else:
            if not state.ended:
                self._hints[task_id] = ("", executor_id)
            if held_against_executor(state):
                health.failed(executor_id, kind, task_id, task_id if state.ended_by else incarnation)
            else:
                health.undecided(executor_id, kind, task_id)


def limit_of(scope: Scope) -> Limit:
    """What the scope's attempts at once are counted under."""
    return Limit("session" if scope.session_id else "tenant", scope.tenant_id, scope.session_id)


def held_against_executor(state: TaskState) -> bool:
    """Whether the end of the last attempt speaks against its handler or executor.

    Lost, over its limit, crashed, an exception that nobody foresaw: yes. An exit code, a bad input or a refusal from
    elsewhere: no.
    """
    return state.error is not None and state.error.fault
