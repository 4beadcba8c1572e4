"""Which gates hold a task that is not running, since when, and who holds them."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from taskloom.domain.scheduling.gates import Gate, placement_gates
from taskloom.domain.scheduling.leases import MAX_SHOWN
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.state import TaskState
from taskloom.domain.workflow.results import held_by
from taskloom.domain.workflow.wanted import child_id

MAX_STEPS_EXPLAINED: Final = 5
"""Tasks of a run's steps whose own gates are shown, those that do not run first."""

Find = Callable[[str], TaskState | None]
"""The state of an open task by its id, None when there is none."""


class Explanation(Struct, frozen=True, omit_defaults=True):
    """Answer of ``/why``: no gates when the task runs or has ended; ``expected_start`` where the clock decides."""

    state: str
    gates: tuple[Gate, ...] = ()
    expected_start: datetime | None = None


def explain(state: TaskState, scheduler: Scheduler, now: datetime, find: Find = lambda _task_id: None) -> Explanation:
    """Why a task does not run. ``find`` gives the tasks of a workflow's steps, whose gates are then shown with it."""
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
        gates += _gates_of_run(state, scheduler, now, find)
    return Explanation(state.word, tuple(gates), expected)


def _gates_of_run(state: TaskState, scheduler: Scheduler, now: datetime, find: Find) -> list[Gate]:
    """What a workflow's steps wait for: for a step with a task, what that task waits for."""
    waits = held_by(state.run)
    children = {w.step: find(child_id(state.task_id, w.step, w.restart)) for w in waits if w.gate == "task"}
    waits.sort(key=lambda w: _runs(children.get(w.step)))
    gates: list[Gate] = []
    explained = 0
    for w in waits[:MAX_SHOWN]:
        child = children.get(w.step)
        if child is not None and child.run is None and explained < MAX_STEPS_EXPLAINED:
            explained += 1
            gates += _gates_of_step(w.step, child, scheduler, now)
        elif child is not None:
            gates.append(Gate("step", _GATES["task"], child.changed_at, (child.task_id,)))
        else:
            gates.append(Gate("step", _GATES.get(w.gate, w.gate), w.since or state.changed_at, (w.step,)))
    return gates


def _gates_of_step(step: str, child: TaskState, scheduler: Scheduler, now: datetime) -> list[Gate]:
    own = explain(child, scheduler, now).gates
    if not own:
        return [Gate("step", _GATES["task"], child.changed_at, (child.task_id,))]
    return [structs.replace(gate, detail=f"step {step}: {gate.detail}") for gate in own]


def _runs(child: TaskState | None) -> bool:
    return child is not None and child.phase == "running"


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
    if state.approval is not None and state.spec.approval is not None:
        wish = state.spec.approval
        detail = f"waits for a decision{f': {wish.message}' if wish.message else ''}"
        gates.append(Gate("approval", detail, state.approval.requested_at, wish.approvers[:MAX_SHOWN]))
    if state.waiting_for and state.phase == "waiting":
        named = tuple(sorted(state.waiting_for))
        count = "1 task" if len(named) == 1 else f"{len(named)} tasks"
        gates.append(Gate("dependency", f"waits for the end of {count}", state.submitted_at, named[:MAX_SHOWN]))
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
