"""Which gates hold a task that is not running, since when, and who holds them."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from taskloom.domain.scheduling.match import Requirement, mismatches, requirement_of
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.state import TaskState

MAX_HOLDERS = 10


class Gate(Struct, frozen=True, omit_defaults=True):
    """``gate``: dependency, schedule, retry, pause, cancel, start, executor, queue, kind, capability, label, slot, priority."""

    gate: str
    detail: str
    since: datetime | None = None
    held_by: tuple[str, ...] = ()


class Explanation(Struct, frozen=True, omit_defaults=True):
    """Answer of ``/why``: no gates when the task runs or has ended; ``expected_start`` where the clock decides."""

    state: str
    gates: tuple[Gate, ...] = ()
    expected_start: datetime | None = None


def explain(state: TaskState, scheduler: Scheduler) -> Explanation:
    if state.ended:
        return Explanation(state.word)
    gates, expected = _own_gates(state)
    if state.phase == "ready":
        gates += _placement_gates(state, scheduler)
    elif state.phase == "assigned" and state.live is not None:
        detail = f"assigned to executor {state.live.executor_id}, which has not started it yet"
        gates.append(Gate("start", detail, state.live.assigned_at, (state.live.executor_id,)))
    return Explanation(state.word, tuple(gates), expected)


def _own_gates(state: TaskState) -> tuple[list[Gate], datetime | None]:
    gates, expected = [], None
    if state.cancel is not None:
        detail = state.cancel.reason or "a cancel was requested; waiting for the executor to confirm that nothing runs"
        gates.append(Gate("cancel", detail, state.cancel.requested_at, _named(state.cancel.by)))
    if state.pause is not None:
        gates.append(
            Gate("pause", state.pause.reason or "paused; resume it", state.pause.requested_at, _named(state.pause.by))
        )
    if state.phase == "waiting":
        named = tuple(sorted(state.waiting_for))
        gates.append(
            Gate("dependency", f"waits for the end of {len(named)} tasks", state.submitted_at, named[:MAX_HOLDERS])
        )
    if state.phase == "scheduled":
        expected = state.spec.run_at
        gates.append(Gate("schedule", "waits for its run_at", state.submitted_at))
    if state.phase == "retrying":
        expected = state.retry_at
        error = f"{state.error.type}: {state.error.message}" if state.error is not None else "the last attempt failed"
        gates.append(Gate("retry", f"waits before attempt {state.attempts + 1} ({error[:200]})", state.changed_at))
    return gates, expected


def _placement_gates(state: TaskState, scheduler: Scheduler) -> list[Gate]:
    requirement, since = requirement_of(state.spec), state.queued_at
    matching = scheduler.pool.matching(requirement)
    if not matching:
        return [Gate(gate, detail, since) for gate, detail in _missing(requirement, scheduler).items()]
    free = [s for s in matching if s.usable > len(s.leases) and not s.refused_until_beat]
    gates = []
    if not free:
        held = [task_id for s in matching for task_id, _ in s.leases][:MAX_HOLDERS]
        names = ", ".join(s.offer.executor_id for s in matching[:MAX_HOLDERS])
        gates.append(Gate("slot", f"all slots of {names} are taken", since, tuple(held)))
    ahead, first = scheduler.ready.ahead_of(state.task_id, MAX_HOLDERS)
    if ahead:
        gates.append(Gate("priority", f"{ahead} tasks with higher priority or age go first", since, tuple(first)))
    return gates


def _missing(requirement: Requirement, scheduler: Scheduler) -> dict[str, str]:
    """The fewest gates that separate the task from an executor, each with what is wanted."""
    wanted: dict[str, Any] = {
        "executor": f"executor {requirement.executor_id} is not connected",
        "queue": f"no executor serves queue {requirement.queue!r}",
        "kind": f"no executor runs kind {requirement.kind!r}",
        "capability": f"no executor has all of the capabilities {', '.join(requirement.capabilities)}",
        "label": "no executor has the labels " + ", ".join(f"{name}={value}" for name, value in requirement.labels),
    }
    offers = [s.offer for s in scheduler.pool.standings() if s.offer.ready]
    if not offers:
        return {"executor": "no executor is connected"}
    closest = min((mismatches(requirement, offer) for offer in offers), key=len)
    return {gate: wanted[gate] for gate in closest}


def _named(by: str) -> tuple[str, ...]:
    return (by,) if by else ()
