"""``Tally.count``: what each event adds to the hour and the second in which it happened.

What is counted happens once and stays true: a task that is retried after its end, or deleted, has ended all the same,
and ends again when it ends again. Moments are those of the events, never of the one that counts.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct, field

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.domain.values import ResourceUse
from taskloom.domain.workflow.events import WorkflowStarted
from taskloom.views.metrics.sums import Hour, HourKey, Second, SecondKey, add
from taskloom.views.task_executions.row import Row

HOUR_S: Final = 3_600
RUNNING: Final = "RUNNING"

MOST: Final = 10**12
"""A larger measured number is no measurement; it is cut to this, so that sums stay within their columns."""

_MICROSECOND: Final = timedelta(microseconds=1)
_ENDS: Final = {"COMPLETED": "completed", "FAILED": "failed", "CANCELLED": "cancelled", "TIMEOUT": "timed_out"}


class Tally(Struct):
    """Sums of many events. Those of one task must come in order, of different tasks in any."""

    hours: dict[HourKey, Hour] = field(default_factory=dict)
    seconds: dict[SecondKey, Second] = field(default_factory=dict)

    def count(self, before: Row | None, recorded: Recorded, after: Row) -> None:
        """Adds an event that led from one row to the next."""
        if before is None:
            return
        if before.status != after.status:
            self._moved(before, recorded.meta.at, after)
        change = _CHANGES.get(type(recorded.event))
        if change is not None:
            change(self, before, recorded, after)

    def _moved(self, before: Row, at: datetime, after: Row) -> None:
        running = (after.status == RUNNING) - (before.status == RUNNING)
        if running:
            self.second(after, at).running += running
        if after.completed_at is not None and before.completed_at is None:
            self._ended(before, at, after)

    def _ended(self, before: Row, at: datetime, after: Row) -> None:
        hour, second = self.hour(after, at), self.second(after, at)
        name = _ENDS[after.status]
        setattr(hour, name, getattr(hour, name) + 1)
        name = "failed" if name == "timed_out" else name
        setattr(second, name, getattr(second, name) + 1)
        if after.status == "COMPLETED" and after.started_at is not None:
            took = _between(after.started_at, at)
            hour.timed += 1
            hour.duration_us += took
            hour.duration_max_us = max(hour.duration_max_us, took)
            hour.duration_min_us = took if hour.duration_min_us is None else min(hour.duration_min_us, took)
            second.timed += 1
            second.duration_us += took
        if after.deadline is not None and not after.overdue:
            if at <= after.deadline:
                hour.sla_met += 1
            else:
                hour.sla_violated += 1
                second.sla_violated += 1

    def hour(self, row: Row, at: datetime, executor_id: str | None = None) -> Hour:
        """The sum that ``row`` belongs to at that moment; of its latest executor unless one is named."""
        key = HourKey(
            row.tenant_id,
            int(at.timestamp()) // HOUR_S,
            row.kind,
            row.executor_id if executor_id is None else executor_id,
        )
        found = self.hours.get(key)
        if found is None:
            found = self.hours[key] = Hour()
        return found

    def second(self, row: Row, at: datetime) -> Second:
        key = SecondKey(row.tenant_id, int(at.timestamp()))
        found = self.seconds.get(key)
        if found is None:
            found = self.seconds[key] = Second()
        return found

    def totals(self) -> dict[HourKey, Hour]:
        """The hours' sums with all hours as one, number 0."""
        sums: dict[HourKey, Hour] = {}
        for key, hour in self.hours.items():
            add(sums.setdefault(HourKey(key.tenant_id, 0, key.kind, key.executor_id), Hour()), hour)
        return sums


def _started(tally: Tally, before: Row, recorded: Recorded, after: Row) -> None:
    hour = tally.hour(after, recorded.meta.at)
    waited = _between(before.queued_at or before.created_at, recorded.meta.at)
    hour.waits += 1
    hour.wait_us += waited
    hour.wait_max_us = max(hour.wait_max_us, waited)


def _attempt_ended(name: str) -> Callable[[Tally, Row, Recorded, Row], None]:
    def change(tally: Tally, before: Row, recorded: Recorded, _after: Row) -> None:
        if not before.executor_id or before.phase not in ("assigned", "running"):
            return  # nothing was under way: a task that is cancelled in its queue, a workflow run
        at, event = recorded.meta.at, recorded.event
        hour = tally.hour(before, at)
        setattr(hour, name, getattr(hour, name) + 1)
        took = 0 if before.attempt_started_at is None else _between(before.attempt_started_at, at)
        if name == "attempts_completed" and before.attempt_started_at is not None:
            hour.attempts_timed += 1
            hour.attempts_us += took
            hour.attempts_max_us = max(hour.attempts_max_us, took)
        used: ResourceUse | None = getattr(event, "resources", None)
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


def _run_began(tally: Tally, _before: Row, recorded: Recorded, after: Row) -> None:
    hour, event = tally.hour(after, recorded.meta.at), recorded.event
    assert isinstance(event, WorkflowStarted)
    hour.runs += 1
    hour.run_steps += _whole(event.steps)


def _overdue(tally: Tally, _before: Row, recorded: Recorded, after: Row) -> None:
    tally.hour(after, recorded.meta.at).sla_violated += 1
    tally.second(after, recorded.meta.at).sla_violated += 1


def _between(earlier: datetime, later: datetime) -> int:
    """Microseconds; 0 when another machine's clock says that it ended before it began."""
    return max(0, (later - earlier) // _MICROSECOND)


def _whole(number: float) -> int:
    return round(min(max(number, 0), MOST))


_CHANGES: Final[dict[type[e.Event], Callable[[Tally, Row, Recorded, Row], Any]]] = {
    e.AttemptStarted: _started,
    e.AttemptFailed: _attempt_ended("attempts_failed"),
    e.AttemptTimedOut: _attempt_ended("attempts_timed_out"),
    e.AttemptLost: _attempt_ended("attempts_lost"),
    e.TaskCancelled: _attempt_ended("attempts_cancelled"),
    e.TaskCompleted: _attempt_ended("attempts_completed"),
    e.TaskOverdue: _overdue,
    WorkflowStarted: _run_began,
}
