"""What the orchestrator remembers of a task: folded from its events, frozen, one shallow copy a change."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec import Struct

from taskloom.domain.runs import is_run
from taskloom.domain.values import ErrorInfo, OutputSummary, TaskSpec
from taskloom.domain.workflow.state import next_due as due_of_run

Phase = Literal[
    "waiting", "scheduled", "ready", "assigned", "running", "retrying", "completed", "failed", "cancelled", "timed_out"
]
TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})
REMEMBERED_COMMANDS: Final = 128
"""Client commands whose ids a task remembers, newest first to stay; older repeats are decided anew."""

MAX_IGNORED_REPORTS: Final = 100
"""Late reports that are recorded for one task; what is sent beyond is dropped, so that a stream stays bounded."""

EXECUTOR_REPORT_SLACK_S: Final = 10.0
"""The executor enforces limits itself and reports; the orchestrator's own timer waits this much longer for that."""

REMEMBERED_REPORTS: Final = 32
"""Reports of the live attempt whose ids it remembers: more than an executor sends again after an outage of Kafka."""

STOP_SLACK_S: Final = 30.0
"""After the grace time of a cancel the executor has this long to confirm that nothing runs."""


class LiveAttempt(Struct, frozen=True, omit_defaults=True):
    """The attempt that holds a slot now; it ends with exactly one event. ``reports`` are the ids of those that changed
    something, newest first."""

    number: int
    executor_id: str
    incarnation: str
    assigned_at: datetime
    started_at: datetime | None = None
    heard_at: datetime | None = None
    paused_s: float = 0.0
    reports: tuple[str, ...] = ()


class Pause(Struct, frozen=True, omit_defaults=True):
    """``paused_at`` is set once the task holds."""

    requested_at: datetime
    reason: str = ""
    by: str = ""
    paused_at: datetime | None = None


class Cancel(Struct, frozen=True, omit_defaults=True):
    requested_at: datetime
    grace_s: float
    reason: str = ""
    by: str = ""


class Deletion(Struct, frozen=True, omit_defaults=True):
    """The wish to delete the task; ``done`` once it has ended and is gone from all lists."""

    reason: str = ""
    done: bool = False


class PendingApproval(Struct, frozen=True, omit_defaults=True):
    """Somebody has to decide whether the task may start. Who, stands in its specification."""

    number: int
    requested_at: datetime
    due_at: datetime | None = None


class TaskState(Struct, frozen=True, omit_defaults=True):
    """A task as of ``version``. ``attempts`` counts all attempts, ``failures`` those that used up the retry policy,
    ``losses`` those in a row whose executors were lost.

    ``held_s`` is how long it was paused since it was queued. ``command_ids`` are the client commands applied, newest
    first; ``ended_by`` the report that ended the last attempt; ``ignored`` counts late reports. ``waiting_for`` are the
    tasks that have to end before this one may run, ``watchers`` those that wait for this one. ``retried_at`` is when it
    last began anew after an end, ``updated_at`` when a client last changed its specification. ``run`` is the state of a
    workflow that runs, or ended badly and may go on (``workflow.state.RunState``). ``error`` tells how an attempt last
    ended badly; ``tokens`` and ``cost_usd`` are what failed attempts used, for the budget; a retry after the end gives
    a new one. ``approved``: it needed an approval and has it, for its retries too.
    """

    task_id: str
    version: int
    digest: bytes
    spec: TaskSpec
    body_hash: str
    submitted_at: datetime
    changed_at: datetime
    phase: Phase = "ready"
    queued_at: datetime | None = None
    held_s: float = 0.0
    retry_at: datetime | None = None
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    live: LiveAttempt | None = None
    pause: Pause | None = None
    cancel: Cancel | None = None
    overdue: bool = False
    error: ErrorInfo | None = None
    output: OutputSummary = OutputSummary()
    correlation_id: str = ""
    traceparent: str = ""
    command_ids: tuple[str, ...] = ()
    ended_by: str = ""
    ignored: int = 0
    waiting_for: frozenset[str] = frozenset()
    watchers: tuple[str, ...] = ()
    retried_at: datetime | None = None
    updated_at: datetime | None = None
    deletion: Deletion | None = None
    run: Any = None
    tokens: int = 0
    cost_usd: float = 0.0
    approval: PendingApproval | None = None
    approvals_asked: int = 0
    approved: bool = False

    @property
    def ended(self) -> bool:
        return self.phase in TERMINAL

    @property
    def just_updated(self) -> bool:
        """Its specification is not what it was: where it waits, its place may be another one."""
        return self.updated_at is not None and self.updated_at == self.changed_at

    @property
    def deleted(self) -> bool:
        return self.deletion is not None and self.deletion.done

    @property
    def word(self) -> str:
        """The fine state that people and APIs see."""
        if self.deleted:
            return "deleted"
        if self.ended:
            return self.phase
        if self.cancel is not None:
            return "cancelling"
        if self.pause is not None:
            return "paused" if self.pause.paused_at is not None else "pausing"
        return self.phase

    @property
    def dispatchable(self) -> bool:
        """A run never is: it runs here, and only its steps go to executors."""
        held = self.pause is not None or self.cancel is not None
        return self.phase == "ready" and not held and not is_run(self.spec.kind)


def close_deadline(state: TaskState) -> datetime | None:
    """When the running attempt is over its start-to-close limit; None while it holds or has not started."""
    live = state.live
    if live is None or live.started_at is None or (state.pause is not None and state.pause.paused_at is not None):
        return None
    return live.started_at + timedelta(seconds=state.spec.timeouts.start_to_close_s + live.paused_s)


def next_due(state: TaskState) -> datetime | None:
    """When this task next needs the clock: the earliest of its timers, None when none runs."""
    if state.ended:
        return None
    return min((due for due in _timers(state) if due is not None), default=None)


def _timers(state: TaskState) -> tuple[datetime | None, ...]:
    spec, live = state.spec, state.live
    return (
        spec.run_at if state.phase == "scheduled" else None,
        state.retry_at if state.phase == "retrying" else None,
        schedule_to_start_deadline(state),
        _later(close_deadline(state), EXECUTOR_REPORT_SLACK_S),
        _later(heartbeat_deadline(state), EXECUTOR_REPORT_SLACK_S),
        total_deadline(state),
        spec.deadline if not state.overdue else None,
        stop_deadline(state) if live is not None else None,
        None if state.approval is None else state.approval.due_at,
        run_due(state),
    )


def run_due(state: TaskState) -> datetime | None:
    """When the workflow's run next needs the clock."""
    return None if state.run is None else due_of_run(state.run)


def total_deadline(state: TaskState) -> datetime | None:
    """``total_s`` counts from the submission, or from ``run_at`` when the task was to wait for that; anew from a retry
    after the end."""
    limit, run_at = state.spec.timeouts.total_s, state.spec.run_at
    begun = state.retried_at or state.submitted_at
    start = begun if run_at is None else max(begun, run_at)
    return None if limit is None else start + timedelta(seconds=limit)


def schedule_to_start_deadline(state: TaskState) -> datetime | None:
    limit = state.spec.timeouts.schedule_to_start_s
    if limit is None or state.queued_at is None or state.phase not in ("ready", "assigned"):
        return None
    if state.pause is not None and state.pause.paused_at is not None:
        return None
    return state.queued_at + timedelta(seconds=limit + state.held_s)


def heartbeat_deadline(state: TaskState) -> datetime | None:
    live, limit = state.live, state.spec.timeouts.heartbeat_s
    if live is None or live.started_at is None or limit is None or state.pause is not None:
        return None
    return (live.heard_at or live.started_at) + timedelta(seconds=limit)


def stop_deadline(state: TaskState) -> datetime | None:
    cancel = state.cancel
    return None if cancel is None else cancel.requested_at + timedelta(seconds=cancel.grace_s + STOP_SLACK_S)


def _later(at: datetime | None, by_s: float) -> datetime | None:
    return None if at is None else at + timedelta(seconds=by_s)
