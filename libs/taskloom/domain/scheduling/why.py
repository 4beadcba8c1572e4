"""Which gates hold a task that is not running, since when, and who holds them."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from taskloom.domain.scheduling.gates import MAX_HOLDERS, Gate, placement_gates
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.state import TaskState
from taskloom.domain.workflow.results import held_by


class Explanation(Struct, frozen=True, omit_defaults=True):
    """Answer of ``/why``: no gates when the task runs or has ended; ``expected_start`` where the clock decides."""

    state: str
    gates: tuple[Gate, ...] = ()
    expected_start: datetime | None = None


def explain(state: TaskState, scheduler: Scheduler, now: datetime) -> Explanation:
    if state.ended:
        return Explanation(state.word)
    gates, expected = _own_gates(state)
    if state.phase == "ready":
        placement, opens_at = placement_gates(state, scheduler, now)
        gates += placement
        expected = opens_at if state.dispatchable else None
    elif state.phase == "assigned" and state.live is not None:
        detail = f"assigned to executor {state.live.executor_id}, which has not started it yet"
        gates.append(Gate("start", detail, state.live.assigned_at, (state.live.executor_id,)))
    elif state.run is not None and state.pause is None:
        gates += _gates_of_run(state)
    return Explanation(state.word, tuple(gates), expected)


def _gates_of_run(state: TaskState) -> list[Gate]:
    """What a workflow's steps wait for."""
    waits = held_by(state.run)[:MAX_HOLDERS]
    return [Gate("step", _GATES.get(w["gate"], w["gate"]), state.changed_at, (w["step"],)) for w in waits]


_GATES: Final = {
    "task": "its task is under way",
    "wait": "waits for its time or condition",
    "approval": "waits for a decision",
    "signal": "waits for its signal",
    "max_parallel_tasks": "as many steps run as max_parallel_tasks allows",
}


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


def _named(by: str) -> tuple[str, ...]:
    return (by,) if by else ()
