"""The engine: what follows from what happened to a run. Pure; every decision it takes is an event.

``start`` and ``advance`` give the next events and change nothing. Each event is applied to a draft of the state by the
same function that replays it, and the next decision is taken on that.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from taskloom.domain.goals.checking import edit_fault
from taskloom.domain.refusals import Refusal
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow import stopping
from taskloom.domain.workflow.goal_steps import with_text
from taskloom.domain.workflow.means import USUAL, Means
from taskloom.domain.workflow.settle import complete, settle, too_many
from taskloom.domain.workflow.sizes import size_of
from taskloom.domain.workflow.state import ENDED, MAX_KEPT_SIGNAL_BYTES, MAX_KEPT_SIGNALS, MAX_RESTARTS, Node, RunState
from taskloom.domain.workflow.work import Work

Decision = list[e.WorkflowEvent] | Refusal
Start = Literal["failed", "start"]
"""Where a run that ended goes on: at what failed, or at its very beginning."""


def start(state: RunState, now: datetime, means: Means = USUAL) -> list[e.WorkflowEvent]:
    """The first events of a run that ``open_run`` opened."""
    definition = state.plan.definition
    work = Work(state, now, means)
    due_at = _limit(state, now)
    work.emit(e.WorkflowStarted(definition.name, definition.version, len(definition.steps), due_at))
    settle(work)
    return work.events


def _limit(state: RunState, now: datetime) -> datetime | None:
    limit_s = state.plan.definition.timeout_seconds
    return None if limit_s is None else now + timedelta(seconds=limit_s)


def restart(state: RunState, begin: Start, now: datetime, means: Means = USUAL) -> Decision:
    """How a run that ended badly goes on: where it failed, or from its start. Refused when it was too often already, or
    when steps were undone that going on would count on."""
    if state.restarts >= MAX_RESTARTS:
        return Refusal("conflict", f"the workflow was retried {MAX_RESTARTS} times; submit it anew", state=state.status)
    if begin == "failed" and state.undone:
        undone = f"{state.undone} of the workflow's steps {'were' if state.undone > 1 else 'was'} undone (compensation)"
        return Refusal("conflict", f'{undone}: retry it with "from": "start"', "from", state.status)
    done = {plan.id: node.status for plan in state.plan.root.steps if (node := _done(state, plan.id)) is not None}
    if begin == "start":
        done = {}
    left = tuple(plan.id for plan in state.plan.root.steps if plan.id not in done)
    tolerated = list(done.values()).count("failed")
    work = Work(state, now, means)
    work.emit(e.WorkflowRetried(state.restarts + 1, begin, left, tolerated, _limit(state, now)))
    settle(work)
    return work.events


def _done(state: RunState, step_id: str) -> Node | None:
    node = state.nodes.get(step_id)
    return node if node is not None and node.done else None


def advance(state: RunState, happening: h.Happening, now: datetime, means: Means = USUAL) -> Decision:
    """The events that a happening leads to: none when it changes nothing (a late or repeated one), or a refusal.

    About ``means.room`` events at most: then ``next_due`` is in the past, and ``TimerDue`` goes on with the rest.
    """
    if state.status in ENDED or state.status == "pending":
        return _too_late(state, happening)
    work = Work(state, now, means)
    refusal = _HANDLERS[type(happening)](work, happening)
    if refusal is not None:
        return refusal
    settle(work)
    return work.events


def _too_late(state: RunState, happening: h.Happening) -> Decision:
    if isinstance(happening, (h.ChildEnded, h.TimerDue, h.Break)):
        return []
    return Refusal("conflict", f"the workflow is {state.status}", state=state.status)


def _child_ended(work: Work, happening: h.ChildEnded) -> None:
    node = work.d.nodes.get(happening.path)
    if node is None or node.status != "running" or not node.plan.needs_slot:
        return
    if happening.restart != (node.restart or 0):
        return
    if happening.outcome == "completed":
        if node.plan.kind == "task":
            complete(work, node.path, happening.result if work.d.goal is None else with_text(happening))
        else:
            work.emit(e.StepCompleted(node.path, happening.result))
    elif happening.outcome in ("cancelled", "refused") and node.stopping:
        work.emit(e.StepCancelled(node.path, node.stopping))
    else:
        error = happening.error or ErrorInfo(*_WORDS[happening.outcome], retryable=False)
        stopping.fail(work, node, error, refused=happening.outcome == "refused")


_WORDS: Final = {
    "failed": ("Failed", "its task failed"),
    "cancelled": ("Cancelled", "its task was cancelled"),
    "timed_out": ("Timeout", "its task passed its time limit"),
    "refused": ("Refused", "its task was refused"),
}


def _timer(_work: Work, _happening: h.TimerDue) -> None:
    """``settle`` looks at the timers in any case."""


def _signal(work: Work, happening: h.Signal) -> Refusal | None:
    d = work.d
    if d.kept_signals >= MAX_KEPT_SIGNALS:
        return Refusal("conflict", f"{MAX_KEPT_SIGNALS} signals wait for steps to take them; no more are kept", "name")
    size, wait = size_of(happening.payload), d.kept_signal_bytes
    if size + wait > MAX_KEPT_SIGNAL_BYTES:
        full = (
            f"signals of {wait} bytes wait for steps to take them; with {size} more it is over {MAX_KEPT_SIGNAL_BYTES}"
        )
        return Refusal("conflict", full, "payload")
    work.emit(e.SignalReceived(happening.name, happening.payload))
    return None


def _decide(work: Work, happening: h.Decide) -> Refusal | None:
    node = _approval(work, happening.step)
    if isinstance(node, Refusal):
        return node
    approvers = node.plan.step.approvers  # type: ignore[union-attr]
    if approvers and happening.by not in approvers:
        return Refusal("conflict", f"{happening.by or 'nobody'} is not among the approvers of {node.path}", "by")
    made, modified = happening, happening.modified_action
    if work.d.goal is not None and made.approved and (fault := edit_fault(work.d.goal, modified)) is not None:
        return Refusal("invalid", fault.message, f"modified_action.{fault.place}")
    work.emit(e.ApprovalDecided(node.path, made.approved, made.by, made.comment, modified, made.on_behalf_of))
    answer = {"approved": made.approved, "by": made.by, "comment": made.comment}
    if modified is not None:
        answer["modified_action"] = modified
    stopping.answer_approval(work, node, answer)
    return None


def _approval(work: Work, step: str) -> Node | Refusal:
    d = work.d
    if step in d.approvals:
        return d.nodes[step]
    found = [path for path in d.approvals.place_of if d.nodes[path].plan.id == step]
    if len(found) == 1:
        return d.nodes[found[0]]
    if found:
        return Refusal("conflict", f"{len(found)} approvals of {step} wait; name one by its path", "step")
    return Refusal("conflict", f"no approval of {step!r} waits for a decision", "step")


def _patch(work: Work, happening: h.PatchVariables) -> Refusal | None:
    fault = too_many(work.d, happening.values) if happening.values else ""
    if fault:
        return Refusal("conflict", fault, "values")
    if happening.values:
        work.emit(e.VariablesMerged(happening.values))
    return None


def _cancel(work: Work, happening: h.Cancel) -> None:
    if work.d.stopping != "cancelled":
        stopping.stop_run(work, "cancelled", happening.reason)


def _break(work: Work, happening: h.Break) -> None:
    stopping.break_off(work, happening.error)


def _pause(work: Work, happening: h.Pause) -> Refusal | None:
    d = work.d
    if d.paused or d.stopping:
        word = "paused" if d.paused else "stopping"
        return Refusal("conflict", f"the workflow is already {word}", state=word)
    work.emit(e.WorkflowPaused(happening.reason))
    return None


def _resume(work: Work, happening: h.Resume) -> Refusal | None:
    if not work.d.paused:
        return Refusal("conflict", "the workflow is not paused", state="running")
    work.emit(e.WorkflowResumed(happening.reason))
    return None


_HANDLERS: Final[dict[type[Any], Callable[[Work, Any], Refusal | None]]] = {
    h.ChildEnded: _child_ended,
    h.TimerDue: _timer,
    h.Signal: _signal,
    h.Decide: _decide,
    h.PatchVariables: _patch,
    h.Cancel: _cancel,
    h.Break: _break,
    h.Pause: _pause,
    h.Resume: _resume,
}
