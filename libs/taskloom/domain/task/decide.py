"""``decide(state, command, now, caller)``: which events a command leads to, or why it is refused. Pure."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, get_args

from taskloom.domain.refusals import Refusal
from taskloom.domain.runs import is_run
from taskloom.domain.task import approvals, changes, dependencies, reports, runs, webhooks
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.attempts import end_lost, fire_timers
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.state import TaskState
from taskloom.domain.task.submission import Invalid, body_hash, normalise
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.check import not_pinned

Decision = list[e.TaskEvent] | Refusal


def decide(state: TaskState | None, command: c.TaskCommand, now: datetime, caller: Caller) -> Decision:
    """Events in order, an empty list when nothing changes (a repeat, say), or the reason for saying no."""
    kind = type(command)
    if isinstance(command, c.SubmitTask):
        return _submit(state, command, now, caller)
    if state is None or (caller.tenant_id != state.spec.tenant_id and isinstance(command, _OF_TENANT)):
        return Refusal("not_found", f"task {caller.task_id} does not exist")
    if state.deleted and isinstance(command, _OF_SHOWN):
        return Refusal("not_found", f"task {caller.task_id} was deleted")
    if caller.command_id and caller.command_id in state.command_ids:
        return []
    handler = _HANDLERS.get(kind)
    if handler is not None:
        decision = handler(state, command, now)
    elif kind is c.FireTimers:
        decision = fire_timers(state, now, caller.means)
    elif isinstance(command, c.DecideApproval):
        decision = approvals.decide(state, command, now, caller)
    elif kind in runs.COMMANDS:
        decision = runs.tell(state, command, now, caller)
    else:
        decision = reports.decide_report(state, command, now, caller)
    if isinstance(decision, Refusal):
        return decision
    told = webhooks.call(state, decision, caller.webhooks, caller.task_id, now)
    return changes.with_deletion(state, dependencies.tell_watchers(state, told))


def _submit(state: TaskState | None, command: c.SubmitTask, now: datetime, caller: Caller) -> Decision:
    try:
        spec = normalise(
            command,
            task_id=caller.task_id,
            tenant_id=caller.tenant_id,
            user_id=caller.actor,
            key_id=caller.key_id,
        )
    except Invalid as invalid:
        return Refusal("invalid", invalid.message, invalid.field)
    digest = body_hash(spec)
    if state is not None:
        ours = state.spec.tenant_id == spec.tenant_id
        if ours and state.deleted:
            return Refusal("conflict", f"task {caller.task_id} was deleted; choose another id or key", "task_id")
        if ours and state.body_hash == digest:
            return []
        return Refusal(
            "conflict",
            f"task {caller.task_id} exists with another body; choose another id or key",
            "task_id",
            state.word if ours else "",
        )
    if spec.kind == "workflow" and (missing := not_pinned(spec.input)):
        return Refusal("invalid", missing[0].message, missing[0].path)
    submitted = e.TaskSubmitted(spec, digest, caller.correlation_id, caller.traceparent)
    if command.fails_with is not None:
        failed: list[e.TaskEvent] = [submitted, e.TaskFailed(command.fails_with)]
        return webhooks.call(None, failed, caller.webhooks, caller.task_id, now)
    held: list[e.TaskEvent] = [] if spec.approval is None else [approvals.request(spec.approval, 1, now)]
    if spec.depends_on:
        held.append(e.TaskWaiting(spec.depends_on))
    begun = [submitted, *(held or dependencies.release(spec, now, "submitted", means=caller.means))]
    return webhooks.call(None, begun, caller.webhooks, caller.task_id, now)


def _cancel(state: TaskState, command: c.CancelTask, now: datetime) -> Decision:
    if state.ended:
        return Refusal("conflict", f"Task is already in terminal state: {state.word}", state=state.word)
    if state.cancel is not None:
        return []
    requested = e.CancelRequested(command.reason, command.grace_s)
    if state.live is not None:
        return [requested]
    if state.run is not None:
        return _and_run(state, h.Cancel(command.reason), now, requested)
    return [requested, e.TaskCancelled(was_paused=state.pause is not None, reason=command.reason)]


def _pause(state: TaskState, command: c.PauseTask, now: datetime) -> Decision:
    if state.ended or state.cancel is not None:
        return Refusal("conflict", f"cannot pause {state.word} task", state=state.word)
    if state.pause is not None:
        return Refusal("conflict", "task is already paused", state=state.word)
    requested = e.PauseRequested(command.reason)
    if state.live is not None:
        return [requested]
    if state.run is not None:
        return _and_run(state, h.Pause(command.reason), now, requested, e.TaskPaused())
    return [requested, e.TaskPaused()]


def _resume(state: TaskState, command: c.ResumeTask, now: datetime) -> Decision:
    if state.ended or state.cancel is not None:
        return Refusal("conflict", f"cannot resume {state.word} task", state=state.word)
    if state.pause is None:
        return Refusal("conflict", "task is not paused", state=state.word)
    resumed = e.TaskResumed(command.reason)
    if state.run is not None and state.run.paused:
        return _and_run(state, h.Resume(command.reason), now, resumed)
    if is_run(state.spec.kind) and state.phase == "ready":
        return [resumed, *runs.begin(state.spec, now)]
    return [resumed]


def _delete(state: TaskState, command: c.DeleteTask, now: datetime) -> Decision:
    cancelling: Decision = [] if state.ended else _cancel(state, c.CancelTask(command.reason, command.grace_s), now)
    return changes.remove(state, command, cancelling)


def _and_run(
    state: TaskState, happening: h.Happening, now: datetime, before: e.TaskEvent, *after: e.TaskEvent
) -> Decision:
    """The wish, and what it does to the workflow's run."""
    decision = runs.happen(state, happening, now)
    return decision if isinstance(decision, Refusal) else [before, *decision, *after]


def _recall(state: TaskState, _command: c.RecallTask, _now: datetime) -> Decision:
    """Nothing has happened to the task until its executor gave the attempt back (``ReportDeclined``)."""
    if state.phase == "assigned":
        return []
    return Refusal(
        "conflict", f"the task is {state.word}: only what was assigned and has not started moves", state=state.word
    )


def _explain(_state: TaskState, _command: c.ExplainTask, _now: datetime) -> Decision:
    return []


def _assign(state: TaskState, command: c.AssignAttempt, _now: datetime) -> Decision:
    if not state.dispatchable:
        return Refusal("conflict", f"task {state.task_id} is {state.word}, not ready", state=state.word)
    return [e.AttemptAssigned(state.attempts + 1, command.executor_id, command.incarnation)]


def _lose(state: TaskState, command: c.LoseAttempt, now: datetime) -> Decision:
    if state.live is None or state.live.number != command.attempt:
        return []
    return end_lost(state, command.reason, now)


def _break(state: TaskState, command: c.BreakRun, now: datetime) -> Decision:
    return runs.break_off(state, command.error, now)


_OF_TENANT: Final = (*get_args(c.ClientCommand), *get_args(c.PeerCommand))
_OF_SHOWN: Final = tuple(set(get_args(c.ClientCommand)) - {c.SubmitTask, c.DeleteTask} | {c.WatchTask})
"""What a deleted task no longer takes: it is as if it did not exist."""

_HANDLERS: Final[dict[type[c.Command], Callable[[TaskState, Any, datetime], Decision]]] = {
    c.CancelTask: _cancel,
    c.PauseTask: _pause,
    c.ResumeTask: _resume,
    c.RetryTask: changes.retry,
    c.UpdateTask: changes.update,
    c.DeleteTask: _delete,
    c.AddDependency: dependencies.add,
    c.RemoveDependency: dependencies.remove,
    c.WatchTask: dependencies.watch,
    c.NoteDependency: dependencies.note,
    c.RecallTask: _recall,
    c.ExplainTask: _explain,
    c.AssignAttempt: _assign,
    c.LoseAttempt: _lose,
    c.BreakRun: _break,
    c.RetryChild: changes.retry_child,
}
