"""Which gates hold a ready task: what no executor has, places that others hold, limits, and whose turn it is."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from taskloom.domain.scheduling.executors import Standing
from taskloom.domain.scheduling.leases import MAX_SHOWN, Limit
from taskloom.domain.scheduling.lines import Entry
from taskloom.domain.scheduling.match import Requirement, amounts, mismatches, requirement_of, shown
from taskloom.domain.scheduling.scheduler import Scheduler, limit_of
from taskloom.domain.task.state import TaskState


class GateLease(Struct, frozen=True):
    """A task of the same tenant that holds a place of a limit, and since when."""

    task_id: str
    since: datetime


class Gate(Struct, frozen=True, omit_defaults=True):
    """One reason to wait. ``held_by`` names tasks of the same tenant, executors, tasks waited for, or who paused it;
    ``leases`` says of those that hold a place of a limit since when, whichever orchestrator they belong to.

    ``gate``: schedule, retry, dependency, approval, pause, cancel, start, step (of a workflow); of ready tasks:
    executor, agent, queue, kind, capability, label (nobody has it), resources, slot, quarantine, breaker, concurrency,
    parallel, budget, affinity, rate, priority.
    """

    gate: str
    detail: str
    since: datetime | None = None
    held_by: tuple[str, ...] = ()
    leases: tuple[GateLease, ...] = ()


Held = tuple[list[Gate], datetime | None]
"""Gates, and when the clock opens them where nothing else is needed."""

Described = tuple[Gate, datetime | None]
"""The same for one gate."""


def placement_gates(state: TaskState, scheduler: Scheduler, now: datetime) -> Held:
    """Everything that keeps a ready task from starting at this moment; nothing when it is about to be dispatched."""
    requirement, since = requirement_of(state.spec), state.queued_at
    matching = scheduler.pool.matching(requirement)
    if not matching:
        missing = _missing(requirement, scheduler, state.spec.tenant_id)
        return [Gate(gate, detail, since) for gate, detail in missing.items()], None
    gates, expected = _places(state, requirement, matching, scheduler)
    gates += _limits(state, scheduler)
    budgets, opens = _budgets(state, scheduler, now)
    gates += budgets
    expected = max(filter(None, (expected, opens)), default=None)
    near, patience = _affinity(state, scheduler, now)
    gates += near
    expected = patience if expected is None else expected
    ahead, before = _before(state, scheduler, now)
    opens_at = scheduler.rate_opens_at(requirement, now.timestamp())
    if opens_at > now.timestamp():
        rates = ", ".join(f"{rate.per_s:g} a second of {what}" for what, rate in scheduler.rates_of(requirement))
        gates.append(Gate("rate", f"the rate limit is reached: {rates}", since))
        slowest = min(rate.per_s for _, rate in scheduler.rates_of(requirement))
        opens = _time(opens_at + ahead / (slowest * scheduler.pool.part))
        expected = opens if expected is None else max(opens, expected)
    return gates + before, expected


def _places(state: TaskState, requirement: Requirement, matching: list[Standing], scheduler: Scheduler) -> Held:
    """Why none of the matching executors has room; nothing when one has."""
    reasons = [(_reason(requirement, standing, scheduler), standing) for standing in matching]
    if any(not reason for reason, _ in reasons):
        return [], None
    gates, ends = [], []
    for name, describe in _DESCRIBED.items():
        standings = [standing for reason, standing in reasons if reason == name]
        if standings:
            gate, end = describe(state, requirement, standings, scheduler)
            gates.append(gate)
            ends.append(end)
    known = [end for end in ends if end is not None]
    return gates, min(known, default=None)


def _reason(requirement: Requirement, standing: Standing, scheduler: Scheduler) -> str:
    health, executor_id = scheduler.pool.health, standing.offer.executor_id
    if health.quarantine(executor_id) is not None:
        return "quarantine"
    if health.breaker(executor_id, requirement.kind) is not None:
        return "breaker"
    if standing.usable <= len(standing.leases) or standing.refused_until_beat:
        return "slot"
    needs = requirement.resources
    return "resources" if needs and not standing.fits(needs, scheduler.pool.part) else ""


def _slot(state: TaskState, _r: Requirement, standings: list[Standing], scheduler: Scheduler) -> Described:
    held = [task_id for standing in standings for task_id, _ in standing.leases]
    holders = scheduler.holders(held, state.spec.tenant_id, MAX_SHOWN)
    return Gate("slot", f"all slots of {_names(standings)} are taken", state.queued_at, holders), None


def _resources(
    state: TaskState, requirement: Requirement, standings: list[Standing], scheduler: Scheduler
) -> Described:
    held = [task_id for standing in standings for task_id in standing.needs]
    holders = scheduler.holders(held, state.spec.tenant_id, MAX_SHOWN)
    detail = f"needs {shown(requirement.resources)}; too little is free on {_names(standings)}"
    return Gate("resources", detail, state.queued_at, holders), None


def _breaker(state: TaskState, requirement: Requirement, standings: list[Standing], scheduler: Scheduler) -> Described:
    found = [scheduler.pool.health.breaker(each.offer.executor_id, requirement.kind) for each in standings]
    opened = [each.opened_at for each in found if each is not None and each.opened_at is not None]
    probing = [each.probe for each in found if each is not None and each.probe]
    detail = f"tasks of kind {requirement.kind!r} failed too often in a row on {_names(standings)}"
    if probing:
        holders = scheduler.holders(probing, state.spec.tenant_id, MAX_SHOWN)
        return Gate("breaker", f"{detail}; one is tried there now", _since(state, opened), holders), None
    pause_s = scheduler.policy.breaker_pause_s
    return Gate("breaker", f"{detail}; tried again after {pause_s:g} s", _since(state, opened), _ids(standings)), (
        _time(min(opened) + pause_s) if opened else None
    )


def _quarantine(state: TaskState, _r: Requirement, standings: list[Standing], scheduler: Scheduler) -> Described:
    found = [scheduler.pool.health.quarantine(each.offer.executor_id) for each in standings]
    began = [each.since for each in found if each is not None and each.since is not None]
    pause_s = scheduler.policy.quarantine_pause_s
    detail = f"{_names(standings)} lost attempts too often; back after {pause_s:g} s or when started anew"
    return Gate("quarantine", detail, _since(state, began), _ids(standings)), (
        _time(min(began) + pause_s) if began else None
    )


_DESCRIBED: Final[dict[str, Callable[[TaskState, Requirement, list[Standing], Scheduler], Described]]] = {
    "slot": _slot,
    "resources": _resources,
    "breaker": _breaker,
    "quarantine": _quarantine,
}


def _limits(state: TaskState, scheduler: Scheduler) -> list[Gate]:
    spec, gates = state.spec, []
    entry = scheduler.ready.waiting.get(state.task_id)
    if entry is not None and entry.lane.key is not None and scheduler.key_is_full(entry.lane):
        detail = f"key {entry.lane.key.name!r} is limited to {entry.lane.limit} at once"
        gates.append(_held("concurrency", detail, entry.lane.key, state, scheduler))
    if scheduler.queue_is_full(spec.queue):
        detail = f"queue {spec.queue!r} is limited to {scheduler.policy.queue_parallel[spec.queue]} at once"
        gates.append(_held("parallel", detail, Limit("queue", "", spec.queue), state, scheduler))
    return gates


def _held(gate: str, detail: str, limit: Limit, state: TaskState, scheduler: Scheduler) -> Gate:
    """The gate of a limit without a place, with those of the tenant's own tasks that hold one."""
    tenant = state.spec.tenant_id
    found = [
        GateLease(task_id, since)
        for task_id, owner, since in scheduler.leases.holders(limit)
        if owner == tenant or (owner is None and scheduler.holders([task_id], tenant, 1))
    ][:MAX_SHOWN]
    beyond = scheduler.leases.beyond.get(limit)
    if beyond is not None and beyond.older:
        detail += "; a task that waits for longer goes first"
    return Gate(gate, detail, state.queued_at, tuple(lease.task_id for lease in found), tuple(found))


def _budgets(state: TaskState, scheduler: Scheduler, now: datetime) -> Held:
    """What the tenant or the session may not exceed: attempts at once, tokens and money."""
    gates, opens = [], []
    for scope in scheduler.scopes_of(state.spec.tenant_id, state.spec.session_id):
        who = f"session {scope.session_id}" if scope.session_id else f"tenant {scope.tenant_id}"
        places = scheduler.over_parallel(scope)
        if places is not None:
            detail = f"{who} is limited to {places} attempts at once"
            gates.append(_held("parallel", detail, limit_of(scope), state, scheduler))
        spent = scheduler.out_of_budget(scope, now.timestamp())
        if spent is not None:
            gates.append(Gate("budget", spent.detail, state.queued_at))
            opens.append(spent.until)
    return gates, max(filter(None, opens), default=None)


def _affinity(state: TaskState, scheduler: Scheduler, now: datetime) -> Held:
    """The executor that the task would rather go to, while it waits for that."""
    entry = scheduler.ready.waiting.get(state.task_id)
    wanted = None if entry is None else scheduler.waits_for(entry, now.timestamp())
    if wanted is None or state.spec.affinity is None:
        return [], None
    executor_id, until = wanted
    what = "key" if state.spec.affinity.to == "key" else f"same {state.spec.affinity.to}"
    detail = f"prefers {executor_id}, which last got a task of the {what} and is full; then any executor will do"
    return [Gate("affinity", detail, state.queued_at, (executor_id,))], _time(until)


def _before(state: TaskState, scheduler: Scheduler, now: datetime) -> tuple[int, list[Gate]]:
    """How many of the tenant's own tasks go first in the task's line, and the gate. Costs a walk through the line."""
    mine = scheduler.ready.waiting.get(state.task_id)
    if mine is None:
        return 0, []
    at, line = now.timestamp(), mine.lane.line

    def order(entry: Entry) -> tuple[int, float, int]:
        return -scheduler.ready.level_of(entry, at), entry.queued_at, entry.arrival

    ahead = [entry for entry in scheduler.ready.waiting_in(line) if order(entry) < order(mine)]
    own = sorted((entry for entry in ahead if entry.lane.tenant == state.spec.tenant_id), key=order)
    if own:
        names = tuple(entry.task_id for entry in own[:MAX_SHOWN])
        first = "1 task goes" if len(own) == 1 else f"{len(own)} tasks go"
        return len(own), [Gate("priority", f"{first} first, by priority or age", state.queued_at, names)]
    if ahead:
        detail = "tasks of others have higher priority or are older; all take turns"
        return 0, [Gate("priority", detail, state.queued_at)]
    return 0, []


def _missing(requirement: Requirement, scheduler: Scheduler, tenant_id: str) -> dict[str, str]:
    """The fewest gates that separate the task from an executor, each with what is wanted. Other tenants' agents are not
    there for it."""
    wanted: dict[str, Any] = {
        "executor": f"executor {requirement.executor_id} is not connected",
        "agent": "agents run only what names one of them, a queue of theirs, a capability or a label",
        "queue": f"no executor serves queue {requirement.queue!r}",
        "kind": f"no executor runs kind {requirement.kind!r}",
        "capability": f"no executor has all of the capabilities {', '.join(requirement.capabilities)}",
        "label": "no executor has the labels " + ", ".join(f"{name}={value}" for name, value in requirement.labels),
    }
    offers = [s.offer for s in scheduler.pool.standings() if s.offer.ready and s.offer.tenant_id in ("", tenant_id)]
    if not offers:
        return {"executor": "no executor is connected"}
    closest, offer = min(((mismatches(requirement, offer), offer) for offer in offers), key=lambda each: len(each[0]))
    has = shown(amounts(offer.resources))
    wanted["resources"] = (
        f"needs {shown(requirement.resources)}, which no executor that would match ever has free; "
        f"{offer.executor_id} offers {has} in all"
    )
    return {gate: wanted[gate] for gate in closest}


def _since(state: TaskState, times: Sequence[float]) -> datetime | None:
    """When the gate closed for this task: not before it was queued."""
    closed = _time(min(times)) if times else None
    return max(filter(None, (closed, state.queued_at)), default=None)


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _ids(standings: list[Standing]) -> tuple[str, ...]:
    return tuple(standing.offer.executor_id for standing in standings[:MAX_SHOWN])


def _names(standings: list[Standing]) -> str:
    return ", ".join(_ids(standings))
