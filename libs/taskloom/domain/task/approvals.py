"""Approvals: a task that its client holds back until somebody decides, and decisions on those of workflows' steps.

The task asks with its submission and waits; a yes lets it go where its dependencies do too, a no ends it. It asks anew
after a retry, unless it had been approved.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from taskloom.domain.refusals import Refusal
from taskloom.domain.runs import is_run
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task import runs
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.dependencies import release
from taskloom.domain.task.state import TaskState
from taskloom.domain.task.submission import Invalid, check_size
from taskloom.domain.values import Approval, ErrorInfo
from taskloom.domain.workflow.means import USUAL, Means
from taskloom.domain.workflow.wanted import child_id

Decision = list[e.TaskEvent] | Refusal

_OWN: Final = ".approval."
"""No path of a step begins with a full stop."""


def own_approval_id(task_id: str, number: int) -> str:
    """Id of the approval that a task asked for before it began; ``number`` counts how often, from 1."""
    return child_id(task_id, f"{_OWN}{number}")


def step_approval_id(task_id: str, path: str) -> str:
    """Id of the approval of the step at ``path`` of a run."""
    return child_id(task_id, path)


def request(wish: Approval, number: int, now: datetime) -> e.TaskApprovalRequested:
    due_at = None if wish.timeout_s is None else now + timedelta(seconds=wish.timeout_s)
    return e.TaskApprovalRequested(number, wish.message, wish.approvers, due_at)


def request_anew(state: TaskState, now: datetime) -> list[e.TaskEvent]:
    """What a retry asks for; nothing when the task needs no approval, or had it."""
    wish = state.spec.approval
    return [] if wish is None or state.approved else [request(wish, state.approvals_asked + 1, now)]


def decide(state: TaskState, command: c.DecideApproval, now: datetime, caller: Caller) -> Decision:
    """``command.step`` names the approval by its id, or a step's by path or id."""
    try:
        check_size("modified_action", command.modified_action)
    except Invalid as invalid:
        return Refusal("invalid", invalid.message, invalid.field, state.word)
    place = command.step.removeprefix(child_id(state.task_id, ""))
    if state.ended or state.approval is None:
        if not is_run(state.spec.kind):
            return Refusal("conflict", f"no approval of the {state.word} task waits for a decision", "step", state.word)
        return runs.decide(state, place, command, now, caller)
    number = state.approval.number
    if place not in (f"{_OWN}{number}", "approval"):
        waiting = own_approval_id(state.task_id, number)
        return Refusal("conflict", f"{command.step!r} waits for no decision, {waiting} does", "step", state.word)
    return _own(state, number, command, now, caller)


def _own(state: TaskState, number: int, command: c.DecideApproval, now: datetime, caller: Caller) -> Decision:
    wish = state.spec.approval
    assert wish is not None
    if state.cancel is not None:
        return Refusal("conflict", f"the task is {state.word}", state=state.word)
    if wish.approvers and caller.actor not in wish.approvers:
        return Refusal("conflict", f"{caller.actor or 'nobody'} is not among its approvers", "by", state.word)
    decided = e.TaskApprovalDecided(
        number, command.approved, caller.actor, command.comment, command.modified_action, command.on_behalf_of
    )
    if command.approved:
        return [decided, *_let_go(state, now, caller.means)]
    by = f" by {caller.actor}" if caller.actor else ""
    return [decided, _denied(state, number, f"rejected{by}: {command.comment or 'no comment'}")]


def expire(state: TaskState, now: datetime, means: Means = USUAL) -> list[e.TaskEvent]:
    """What happens when nobody has decided in time; an empty list when there is time left, or nothing to decide."""
    pending, wish = state.approval, state.spec.approval
    if pending is None or wish is None or pending.due_at is None or pending.due_at > now:
        return []
    expired = e.TaskApprovalExpired(pending.number, wish.on_timeout)
    if wish.on_timeout == "approve":
        return [expired, *_let_go(state, now, means)]
    said = f"nobody decided within {wish.timeout_s:g} s"
    if wish.on_timeout == "reject":
        return [expired, _denied(state, pending.number, f"rejected: {said}")]
    return [expired, _failed(state, pending.number, "approval_expired", said)]


def _let_go(state: TaskState, now: datetime, means: Means) -> list[e.TaskEvent]:
    """Nothing while the task still waits for others."""
    if state.waiting_for:
        return []
    return release(state.spec, now, "approved", held=state.pause is not None, means=means)


def _denied(state: TaskState, number: int, message: str) -> e.TaskFailed:
    return _failed(state, number, "approval_denied", message)


def _failed(state: TaskState, number: int, kind: str, message: str) -> e.TaskFailed:
    details: dict[str, Any] = {"approval_id": own_approval_id(state.task_id, number)}
    return e.TaskFailed(ErrorInfo(kind, message, retryable=False, details=details), state.attempts)
