"""How attempts end without a report, and what follows when one ends: another try, a hold, or the end of the task."""

from datetime import datetime, timedelta
from typing import Final

from taskloom.domain.task import events as e
from taskloom.domain.task import runs
from taskloom.domain.task.approvals import expire
from taskloom.domain.task.dependencies import release
from taskloom.domain.task.state import (
    EXECUTOR_REPORT_SLACK_S,
    TaskState,
    close_deadline,
    heartbeat_deadline,
    schedule_to_start_deadline,
    stop_deadline,
    total_deadline,
)
from taskloom.domain.values import ErrorInfo, TimeoutKind, Usage, backoff
from taskloom.domain.workflow.means import USUAL, Means

NOTHING_USED: Final = Usage()
QUARANTINED: Final = "quarantined"
"""Type of the error of a task that may be what kills its executors; a retry lets it run again."""


def after_failure(state: TaskState, error: ErrorInfo, now: datetime, used: Usage = NOTHING_USED) -> list[e.TaskEvent]:
    """What follows the failed attempt of ``state`` (the state before its end): a retry, or ``TaskFailed``.

    ``used`` is what that attempt used. When the budget is used up there is no other attempt to use more.
    """
    if state.cancel is not None:
        return [_cancelled(state)]
    retry = _retry(state, error, now)
    spent = _spent(state, used) if retry else ""
    if spent:
        details = {"error": error.type, "message": error.message}
        message = f"{spent}: no further attempt after {error.type}: {error.message}"
        return [e.TaskFailed(ErrorInfo("budget_exceeded", message, False, details, error.fault), state.attempts)]
    return retry or [e.TaskFailed(error, state.attempts)]


def _spent(state: TaskState, used: Usage) -> str:
    """Which budget is used up by all attempts so far, in words; empty when none is."""
    budget = state.spec.budget
    if budget is None:
        return ""
    tokens = state.tokens + used.input_tokens + used.output_tokens
    cost_usd = state.cost_usd + used.cost_usd
    if budget.tokens is not None and tokens >= budget.tokens:
        return f"{tokens} of {budget.tokens} tokens of the budget are used"
    if budget.cost_usd is not None and cost_usd >= budget.cost_usd:
        return f"{cost_usd:g} of {budget.cost_usd:g} USD of the budget are used"
    return ""


def after_timeout(
    state: TaskState, timeout: TimeoutKind, limit_s: float, now: datetime, *, confirmed: bool
) -> list[e.TaskEvent]:
    """``confirmed``: the executor said that nothing of the attempt runs any more."""
    if state.cancel is not None:
        return [_cancelled(state, confirmed=confirmed)]
    error = ErrorInfo("timeout", f"{timeout} limit of {limit_s:g} s passed", details={"timeout": timeout})
    return _retry(state, error, now) or [e.TaskTimedOut(timeout, limit_s, state.attempts)]


def end_lost(state: TaskState, reason: str, now: datetime) -> list[e.TaskEvent]:
    """The live attempt is given up: nobody can say any more whether it runs."""
    assert state.live is not None
    lost = e.AttemptLost(state.live.number, state.live.executor_id, reason)
    if state.cancel is not None:
        return [lost, _cancelled(state, confirmed=False)]
    error = ErrorInfo("lost", reason, fault=True)
    if state.losses + 1 >= state.spec.retry.max_lost and _retry(state, error, now):
        message = f"{state.losses + 1} executors in a row were lost while they ran it; the last: {reason}"
        return [lost, e.TaskFailed(ErrorInfo(QUARANTINED, message, retryable=False, fault=True), state.attempts)]
    return [lost, *after_failure(state, error, now)]


def hold(state: TaskState) -> list[e.TaskEvent]:
    """A task that was asked to pause holds as soon as no attempt of it lives."""
    return [e.TaskPaused()] if state.pause is not None and state.pause.paused_at is None else []


def fire_timers(state: TaskState, now: datetime, means: Means = USUAL) -> list[e.TaskEvent]:
    """Events of whatever is due; an empty list when nothing is. A task's end wins over all else."""
    if state.ended:
        return []
    events: list[e.TaskEvent] = []
    if not state.overdue and _is_due(state.spec.deadline, now) and state.spec.deadline is not None:
        events.append(e.TaskOverdue(state.spec.deadline))
    return events + (
        _total(state, now)
        or _attempt_limits(state, now)
        or expire(state, now, means)
        or _wake(state, now, means)
        or runs.fire(state, now, means)
    )


def _total(state: TaskState, now: datetime) -> list[e.TaskEvent]:
    limit = state.spec.timeouts.total_s
    if limit is None or not _is_due(total_deadline(state), now):
        return []
    return [*_cut_off(state, "total", limit), e.TaskTimedOut("total", limit, state.attempts)]


def _attempt_limits(state: TaskState, now: datetime) -> list[e.TaskEvent]:
    limits = state.spec.timeouts
    if state.live is not None and _is_due(stop_deadline(state), now):
        return end_lost(state, "the executor did not confirm the stop", now)
    if limits.schedule_to_start_s is not None and _is_due(schedule_to_start_deadline(state), now):
        limit = limits.schedule_to_start_s
        ended = e.TaskTimedOut("schedule_to_start", limit, state.attempts)
        return [*_cut_off(state, "schedule_to_start", limit), ended]
    if _is_due(close_deadline(state), now, EXECUTOR_REPORT_SLACK_S):
        limit = limits.start_to_close_s
        return _give_up(state, "start_to_close", limit, now)
    if limits.heartbeat_s is not None and _is_due(heartbeat_deadline(state), now, EXECUTOR_REPORT_SLACK_S):
        limit = limits.heartbeat_s
        return _give_up(state, "heartbeat", limit, now)
    return []


def _wake(state: TaskState, now: datetime, means: Means) -> list[e.TaskEvent]:
    if state.phase == "scheduled" and _is_due(state.spec.run_at, now):
        return release(state.spec, now, "run_at", held=state.pause is not None, means=means)
    if state.phase == "retrying" and _is_due(state.retry_at, now):
        return [e.TaskQueued("retry")]
    return []


def _cut_off(state: TaskState, timeout: TimeoutKind, limit_s: float) -> list[e.TaskEvent]:
    """Ends the live attempt, if any; its executor is told to stop it (policies.py) and late reports are ignored."""
    return [] if state.live is None else [e.AttemptTimedOut(state.live.number, timeout, limit_s)]


def _give_up(state: TaskState, timeout: TimeoutKind, limit_s: float, now: datetime) -> list[e.TaskEvent]:
    return [*_cut_off(state, timeout, limit_s), *after_timeout(state, timeout, limit_s, now, confirmed=False)]


def _retry(state: TaskState, error: ErrorInfo, now: datetime) -> list[e.TaskEvent]:
    policy, failures = state.spec.retry, state.failures + 1
    if not error.retryable or error.type in policy.non_retryable or failures >= policy.max_attempts:
        return []
    delay_s = backoff(failures, policy, key=state.task_id)
    due_at = now + timedelta(seconds=delay_s)
    return [e.RetryScheduled(state.attempts + 1, due_at, round(delay_s, 3), error.type), *hold(state)]


def _cancelled(state: TaskState, *, confirmed: bool = True) -> e.TaskCancelled:
    assert state.cancel is not None
    return e.TaskCancelled(state.attempts, confirmed, state.pause is not None, state.cancel.reason)


def _is_due(at: datetime | None, now: datetime, slack_s: float = 0.0) -> bool:
    return at is not None and at + timedelta(seconds=slack_s) <= now
