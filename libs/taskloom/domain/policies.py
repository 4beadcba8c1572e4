"""What follows an event outside its task: directives to its executor, and commands for other tasks."""

from collections.abc import Callable
from typing import Any, Final

from taskloom.domain.entities.commands import NoteRun
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.directives import Directive, PauseAttempt, ResumeAttempt, RunAttempt, StopAttempt
from taskloom.domain.task.state import LiveAttempt, TaskState
from taskloom.domain.task.webhooks import deliveries
from taskloom.domain.values import DependencyOutcome, ErrorInfo
from taskloom.domain.workflow import events as w
from taskloom.domain.workflow.wanted import (
    CancelChild,
    RetryChild,
    SubmitChild,
    child_id,
    parent_of,
    restart_of,
    wanted,
)

ForOther = tuple[str, c.PeerCommand | c.SubmitTask | c.CancelTask | NoteRun]
"""A command and the task that it is for."""

_MAX_TEXT_CHARS: Final = 64 * 1024
"""Of a text that a run is told beside an answer; handlers of ours give a quarter of it at most."""

_STOP_GRACE_S: Final = 5.0
_STILL_RUNS: Final = frozenset({"ReportStarted", "ReportHeartbeat", "ReportOutputStarted", "ReportPaused"})


def react(before: TaskState | None, after: TaskState, event: e.TaskEvent) -> Directive | None:
    """The directive that an event asks for, or None. ``before`` still knows the attempt that the event ended."""
    policy = _POLICIES.get(type(event))
    return None if policy is None else policy(before, after, event)


def elsewhere(task_id: str, event: e.TaskEvent, tenant_id: str = "") -> list[ForOther]:
    """Commands for other tasks that an event asks for, each with its task. They follow from the event alone, so whoever
    finds the event unpublished can send them again; both ends take a repeat for one."""
    if isinstance(event, e.WebhooksDue):
        return [*deliveries(tenant_id, event)]
    policy = _ELSEWHERE.get(type(event))
    return [] if policy is None else policy(task_id, event)


def tells(event: e.TaskEvent) -> bool:
    """Whether ``elsewhere`` may have anything to say of such an event."""
    return type(event) in _TELLS


def run_attempt(state: TaskState, live: LiveAttempt) -> RunAttempt:
    """The assignment of the live attempt; the same again when it has to be repeated after a take-over."""
    spec = state.spec
    return RunAttempt(
        task_id=state.task_id,
        attempt=live.number,
        executor_id=live.executor_id,
        incarnation=live.incarnation,
        kind=spec.kind,
        input=spec.input,
        query=spec.query,
        context=spec.context,
        tenant_id=spec.tenant_id,
        session_id=spec.session_id,
        name=spec.name,
        start_to_close_s=spec.timeouts.start_to_close_s,
        heartbeat_s=spec.timeouts.heartbeat_s,
        paused=state.pause is not None,
        traceparent=state.traceparent,
    )


def _run(_before: TaskState | None, after: TaskState, _event: e.AttemptAssigned) -> Directive | None:
    return None if after.live is None else run_attempt(after, after.live)


def _stop(_before: TaskState | None, after: TaskState, event: e.CancelRequested) -> Directive | None:
    live = after.live
    if live is None:
        return None
    return StopAttempt(after.task_id, live.number, live.executor_id, live.incarnation, event.grace_s, event.reason)


def _cut_off(before: TaskState | None, after: TaskState, event: e.AttemptTimedOut) -> Directive | None:
    live = None if before is None or event.confirmed else before.live
    if live is None:
        return None
    reason = f"{event.timeout} limit passed"
    return StopAttempt(after.task_id, live.number, live.executor_id, live.incarnation, _STOP_GRACE_S, reason)


def _stop_late(_before: TaskState | None, after: TaskState, event: e.ReportIgnored) -> Directive | None:
    if event.report not in _STILL_RUNS:
        return None
    return StopAttempt(after.task_id, event.attempt, event.executor_id, "", _STOP_GRACE_S, event.reason)


def _pause(_before: TaskState | None, after: TaskState, _event: e.PauseRequested) -> Directive | None:
    live = after.live
    return None if live is None else PauseAttempt(after.task_id, live.number, live.executor_id, live.incarnation)


def _resume(_before: TaskState | None, after: TaskState, _event: e.TaskResumed) -> Directive | None:
    live = after.live
    return None if live is None else ResumeAttempt(after.task_id, live.number, live.executor_id, live.incarnation)


_POLICIES: Final[dict[type[e.Event], Callable[[TaskState | None, TaskState, Any], Directive | None]]] = {
    e.AttemptAssigned: _run,
    e.CancelRequested: _stop,
    e.AttemptTimedOut: _cut_off,
    e.ReportIgnored: _stop_late,
    e.PauseRequested: _pause,
    e.TaskResumed: _resume,
}


def _watch_all(task_id: str, event: e.TaskWaiting) -> list[ForOther]:
    return [(other, c.WatchTask(task_id)) for other in event.depends_on]


def _watch_one(task_id: str, event: e.DependencyAdded) -> list[ForOther]:
    return [(event.dependency, c.WatchTask(task_id))]


def _tell_late_watcher(task_id: str, event: e.WatcherAdded) -> list[ForOther]:
    return [] if event.outcome is None else [_told(event.watcher, task_id, event.outcome)]


def _told(watcher: str, task_id: str, outcome: DependencyOutcome) -> ForOther:
    if is_entity_id(watcher):
        return watcher, NoteRun(task_id, outcome)
    return watcher, c.NoteDependency(task_id, outcome)


def _tell_watchers(task_id: str, event: e.WatchersTold) -> list[ForOther]:
    return [_told(watcher, task_id, event.outcome) for watcher in event.watchers]


def _child(task_id: str, event: w.StepEvent) -> list[ForOther]:
    deed = wanted(event)
    if not isinstance(deed, (SubmitChild, RetryChild, CancelChild)):
        return []
    child = child_id(task_id, deed.path, deed.restart)
    if isinstance(deed, SubmitChild):
        return [(child, deed.command)]
    return [(child, c.CancelTask(deed.reason) if isinstance(deed, CancelChild) else c.RetryChild())]


def _tell_run(task_id: str, event: e.TaskEvent) -> list[ForOther]:
    parent = parent_of(task_id)
    if parent is None:
        return []
    (run_id, path), restart = parent, restart_of(task_id)
    if isinstance(event, e.TaskCompleted):
        result = event.result if event.response is None else event.response
        text = event.result if isinstance(event.response, dict) and len(event.result) <= _MAX_TEXT_CHARS else ""
        return [(run_id, c.NoteChild(path, "completed", result, restart=restart, text=text))]
    if isinstance(event, e.TaskFailed):
        return [(run_id, c.NoteChild(path, "failed", error=event.error, restart=restart))]
    if isinstance(event, e.TaskTimedOut):
        error = ErrorInfo("timeout", f"{event.timeout} limit of {event.limit_s:g} s passed", retryable=False)
        return [(run_id, c.NoteChild(path, "timed_out", error=error, restart=restart))]
    return [(run_id, c.NoteChild(path, "cancelled", restart=restart))]


_ELSEWHERE: Final[dict[type[e.Event], Callable[[str, Any], list[ForOther]]]] = {
    e.TaskWaiting: _watch_all,
    e.DependencyAdded: _watch_one,
    e.WatcherAdded: _tell_late_watcher,
    e.WatchersTold: _tell_watchers,
    w.StepScheduled: _child,
    w.StepRetried: _child,
    w.StepCancelRequested: _child,
    e.TaskCompleted: _tell_run,
    e.TaskFailed: _tell_run,
    e.TaskTimedOut: _tell_run,
    e.TaskCancelled: _tell_run,
}

_TELLS: Final = frozenset({*_ELSEWHERE, e.WebhooksDue})
