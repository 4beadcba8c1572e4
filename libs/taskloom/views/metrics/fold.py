"""``Tally.count``: what each event adds to the hour and the second in which it happened.

What is counted happens once and stays true: a task that is retried after its end, or deleted, has ended all the same,
and ends again when it ends again. Moments are those of the events, never of the one that counts.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import Struct, field

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.domain.task.submission import WEBHOOK_KIND
from taskloom.domain.values import ResourceUse
from taskloom.domain.workflow.events import WorkflowStarted
from taskloom.views.metrics.sums import Hour, HourKey, Second, SecondKey, add
from taskloom.views.task_executions.row import Row

HOUR_S: Final = 3_600
RUNNING: Final = "RUNNING"

MOST: Final = 10**12
"""A larger measured number is no measurement; it is cut to this, so that sums stay within their columns."""


class Tally(Struct):
    """Sums of many events. Those of one task must come in order, of different tasks in any."""

    hours: dict[HourKey, Hour] = field(default_factory=dict)
    seconds: dict[SecondKey, Second] = field(default_factory=dict)

    def count(self, before: Row | None, recorded: Recorded, after: Row) -> None:
        """Adds an event that led from one row to the next. Most events change nothing here: they cost two look-ups."""
        if before is None or after.kind == WEBHOOK_KIND:
            return
        change = _CHANGES.get(type(recorded.event))
        moved = before.status != after.status
        if change is None and not moved:
            return
        at = recorded.meta.at
        second = int(at.timestamp())
        ended = moved and after.completed_at is not None and before.completed_at is None
        if change is not None or ended:
            hour = self._hour(after, second)
            if change is not None:
                change(self, hour, before, recorded)
            if ended:
                _ended(hour, self._second(after, second), at, after)
        if moved and (running := (after.status == RUNNING) - (before.status == RUNNING)):
            self._second(after, second).running += running

    def _hour(self, row: Row, second: int) -> Hour:
        """The sum that ``row`` belongs to: of its latest executor, whose attempt it is that starts or ends."""
        key = HourKey(row.tenant_id, second // HOUR_S, row.kind, row.executor_id)
        found = self.hours.get(key)
        if found is None:
            found = self.hours[key] = Hour()
        return found

    def _second(self, row: Row, second: int) -> Second:
        key = SecondKey(row.tenant_id, second)
        found = self.seconds.get(key)
        if found is None:
            found = self.seconds[key] = Second()
        return found

    def overdue(self, row: Row, at: datetime) -> None:
        self._second(row, int(at.timestamp())).sla_violated += 1

    def totals(self) -> dict[HourKey, Hour]:
        """The hours' sums with all hours as one, number 0."""
        sums: dict[HourKey, Hour] = {}
        for key, hour in self.hours.items():
            add(sums.setdefault(HourKey(key.tenant_id, 0, key.kind, key.executor_id), Hour()), hour)
        return sums


def _ended(hour: Hour, second: Second, at: datetime, after: Row) -> None:
    status = after.status
    if status == "COMPLETED":
        hour.completed += 1
        second.completed += 1
        if after.started_at is not None:
            took = _between(after.started_at, at)
            hour.timed += 1
            hour.duration_us += took
            if took > hour.duration_max_us:
                hour.duration_max_us = took
            if hour.duration_min_us is None or took < hour.duration_min_us:
                hour.duration_min_us = took
            second.timed += 1
            second.duration_us += took
    elif status == "CANCELLED":
        hour.cancelled += 1
        second.cancelled += 1
    else:
        second.failed += 1
        if status == "TIMEOUT":
            hour.timed_out += 1
        else:
            hour.failed += 1
    if after.deadline is not None and not after.overdue:
        if at <= after.deadline:
            hour.sla_met += 1
        else:
            hour.sla_violated += 1
            second.sla_violated += 1


def _started(_tally: Tally, hour: Hour, before: Row, recorded: Recorded) -> None:
    waited = _between(before.queued_at or before.created_at, recorded.meta.at)
    hour.waits += 1
    hour.wait_us += waited
    if waited > hour.wait_max_us:
        hour.wait_max_us = waited


def _attempt_ended(name: str) -> Callable[[Tally, Hour, Row, Recorded], None]:
    completes = name == "attempts_completed"

    def change(_tally: Tally, hour: Hour, before: Row, recorded: Recorded) -> None:
        if not before.executor_id or before.phase not in ("assigned", "running"):
            return  # nothing was under way: a task that is cancelled in its queue, a workflow run
        setattr(hour, name, getattr(hour, name) + 1)
        started_at = before.attempt_started_at
        took = 0 if started_at is None else _between(started_at, recorded.meta.at)
        if completes and started_at is not None:
            hour.attempts_timed += 1
            hour.attempts_us += took
            if took > hour.attempts_max_us:
                hour.attempts_max_us = took
        used: ResourceUse | None = getattr(recorded.event, "resources", None)
        if used is not None and used.samples:
            _add_use(hour, used, took)

    return change


def _add_use(hour: Hour, used: ResourceUse, took: int) -> None:
    memory = _whole(used.memory_mb * 1024)
    hour.measured += 1
    hour.measured_us += took
    hour.samples += _whole(used.samples)
    hour.cpu_us += _whole(used.cpu_s * 1e6)
    hour.cpu_peak_milli = max(hour.cpu_peak_milli, _whole(used.cpu_percent * 1000))
    hour.memory_kb += memory
    hour.memory_peak_kb = max(hour.memory_peak_kb, memory)


def _run_began(_tally: Tally, hour: Hour, _before: Row, recorded: Recorded) -> None:
    event = recorded.event
    assert isinstance(event, WorkflowStarted)
    hour.runs += 1
    hour.run_steps += _whole(event.steps)


def _overdue(tally: Tally, hour: Hour, before: Row, recorded: Recorded) -> None:
    hour.sla_violated += 1
    tally.overdue(before, recorded.meta.at)


def _between(earlier: datetime, later: datetime) -> int:
    """Microseconds; 0 when another machine's clock says that it ended before it began."""
    took = later - earlier
    return (took.days * 86_400 + took.seconds) * 1_000_000 + took.microseconds if took.days >= 0 else 0


def _whole(number: float) -> int:
    return round(min(max(number, 0), MOST))


_CHANGES: Final[dict[type[e.Event], Callable[[Tally, Hour, Row, Recorded], None]]] = {
    e.AttemptStarted: _started,
    e.AttemptFailed: _attempt_ended("attempts_failed"),
    e.AttemptTimedOut: _attempt_ended("attempts_timed_out"),
    e.AttemptLost: _attempt_ended("attempts_lost"),
    e.TaskCancelled: _attempt_ended("attempts_cancelled"),
    e.TaskCompleted: _attempt_ended("attempts_completed"),
    e.TaskOverdue: _overdue,
    WorkflowStarted: _run_began,
}
