"""What executors report. Attempt number and executor fence every report: a late one is recorded, not applied."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.attempts import after_failure, after_timeout, hold
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.state import MAX_IGNORED_REPORTS, TaskState

Events = list[e.TaskEvent]


def decide_report(state: TaskState, command: Any, now: datetime, caller: Caller) -> Events | Refusal:
    """Events of one report; an empty list for a repeat, ``ReportIgnored`` for a late one."""
    live = state.live
    if live is not None and live.number == command.attempt and live.executor_id == command.executor_id:
        if caller.command_id and caller.command_id in live.reports:
            return []
        return _HANDLERS[type(command)](state, command, now)
    if caller.command_id and caller.command_id == state.ended_by:
        return []
    if command.attempt > state.attempts:
        return Refusal("conflict", f"attempt {command.attempt} was never assigned", "attempt", state.word)
    if state.ignored >= MAX_IGNORED_REPORTS or isinstance(command, c.ReportStopped):
        return []
    reason = f"the task is {state.word}" if live is None else f"attempt {live.number} took its place"
    return [e.ReportIgnored(command.attempt, type(command).__name__, command.executor_id, reason)]


def _started(state: TaskState, command: c.ReportStarted, _now: datetime) -> Events:
    return [] if state.phase == "running" else [e.AttemptStarted(command.attempt, command.executor_id, command.pid)]


def _declined(state: TaskState, command: c.ReportDeclined, _now: datetime) -> Events:
    declined = e.AttemptDeclined(command.attempt, command.executor_id, command.reason)
    if state.cancel is not None:
        was_paused = state.pause is not None
        return [declined, e.TaskCancelled(command.attempt, was_paused=was_paused, reason=state.cancel.reason)]
    return [declined, e.TaskQueued("declined"), *hold(state)]


def _heartbeat(state: TaskState, command: c.ReportHeartbeat, _now: datetime) -> Events:
    beat = e.AttemptHeartbeat(command.attempt, command.progress, command.message, command.details)
    return [*_begun(state, command), beat]


def _output_started(state: TaskState, command: c.ReportOutputStarted, _now: datetime) -> Events:
    return [*_begun(state, command), e.OutputStarted(command.attempt, command.stream)]


def _completed(state: TaskState, command: c.ReportCompleted, _now: datetime) -> Events:
    completed = e.TaskCompleted(
        command.attempt,
        command.result,
        command.response,
        command.exit_code,
        command.output,
        command.resources,
        command.usage,
    )
    return [*_begun(state, command), completed]


def _failed(state: TaskState, command: c.ReportFailed, now: datetime) -> Events:
    failed = e.AttemptFailed(
        command.attempt, command.error, command.exit_code, command.output, command.resources, command.usage
    )
    return [*_begun(state, command), failed, *after_failure(state, command.error, now, command.usage)]


def _timed_out(state: TaskState, command: c.ReportTimedOut, now: datetime) -> Events:
    ended = e.AttemptTimedOut(
        command.attempt, command.timeout, command.limit_s, True, command.output, command.resources
    )
    return [
        *_begun(state, command),
        ended,
        *after_timeout(state, command.timeout, command.limit_s, now, confirmed=True),
    ]


def _paused(state: TaskState, command: c.ReportPaused, _now: datetime) -> Events:
    if state.pause is None or state.pause.paused_at is not None:
        return []
    return [*_begun(state, command), e.TaskPaused(command.checkpoint)]


def _stop_signalled(state: TaskState, command: c.ReportStopSignalled, _now: datetime) -> Events:
    if state.cancel is None:
        return []
    if command.stage == "signalled":
        return [e.CancelSignalled(command.attempt, command.signal, command.processes)]
    return [e.CancelEscalated(command.attempt, command.signal, command.processes)]


def _stopped(state: TaskState, command: c.ReportStopped, _now: datetime) -> Events:
    if state.cancel is None:
        return []
    return [
        e.TaskCancelled(
            command.attempt,
            True,
            state.pause is not None,
            state.cancel.reason,
            command.exit_code,
            command.output,
            command.resources,
        )
    ]


def _begun(state: TaskState, command: Any) -> Events:
    """A report of a running attempt implies its start, should the start's own report have come to nothing."""
    return [] if state.phase == "running" else [e.AttemptStarted(command.attempt, command.executor_id)]


_HANDLERS: Final[dict[type[c.Command], Callable[[TaskState, Any, datetime], Events]]] = {
    c.ReportStarted: _started,
    c.ReportDeclined: _declined,
    c.ReportHeartbeat: _heartbeat,
    c.ReportOutputStarted: _output_started,
    c.ReportCompleted: _completed,
    c.ReportFailed: _failed,
    c.ReportTimedOut: _timed_out,
    c.ReportPaused: _paused,
    c.ReportStopSignalled: _stop_signalled,
    c.ReportStopped: _stopped,
}
