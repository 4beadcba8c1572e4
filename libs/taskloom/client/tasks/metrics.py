"""Figures worked out from a list of tasks by the one who has it. Those of the whole system are the server's."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from statistics import fmean
from typing import Any, Final

from msgspec import Struct

from taskloom.client import answers as a
from taskloom.client.tasks.record import now, seconds_between

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
BAD_ENDS: Final = frozenset({"FAILED", "TIMEOUT"})


class Counts(Struct, frozen=True):
    """What is counted elsewhere: running tasks, tasks that ever ended, executors that are ready."""

    running: int
    processed: int
    agents: int


class TaskMetrics:
    """Trends look at the last ``metrics_retention_hours``; a ``TaskAPI`` that is given this asks the server for reports
    of so many hours, a week at most. ``sample_window_minutes`` is what callers call recent.

    A task violates the SLA of these figures when it timed out, or, with ``sla_seconds``, ran longer than that.
    """

    def __init__(
        self,
        metrics_retention_hours: float = 24,
        sample_window_minutes: float = 5,
        *,
        sla_seconds: float | None = None,
    ) -> None:
        for name, value in (
            ("metrics_retention_hours", metrics_retention_hours),
            ("sample_window_minutes", sample_window_minutes),
        ):
            if value <= 0:
                raise ValueError(f"{name}: {value} is not above 0")
        self.retention = timedelta(hours=metrics_retention_hours)
        self.sample_window = timedelta(minutes=sample_window_minutes)
        self.sla_seconds = sla_seconds

    def current(
        self, tasks: Collection[a.TaskSummary], counts: Counts, *, complete: bool = True, at: datetime | None = None
    ) -> dict[str, Any]:
        """The system metrics at ``at``. ``complete``: whether ``tasks`` are all of the retention time; when false,
        rates of a busy system are lower bounds."""
        at = at or now()
        ended = [task for task in tasks if _ended_since(task, at - HOUR)]
        done = [task for task in ended if task.completed]
        bad = sum(task.word in BAD_ENDS for task in ended)
        return {
            "timestamp": at.isoformat(),
            "concurrent_tasks": counts.running,
            "peak_concurrent_tasks": max(counts.running, peak(tasks, at)),
            "total_tasks_processed": counts.processed,
            "tasks_per_minute": sum(_ended_since(task, at - MINUTE) for task in done),
            "average_duration_seconds": _mean(_durations(done)),
            "failure_rate_percent": _percent(bad, len(done) + bad),
            "active_agents": counts.agents,
            "sla_violations_last_hour": sum(map(self._violates, ended)),
            "complete": complete,
        }

    def sla(self, tasks: Iterable[a.TaskSummary], at: datetime) -> dict[str, Any]:
        """Violations, and the share of the tasks ended in 24 h that are none, in percent."""
        ended = [task for task in tasks if _ended_since(task, at - 24 * HOUR)]
        violations = [task for task in ended if self._violates(task)]
        return {
            "last_hour": sum(_ended_since(task, at - HOUR) for task in violations),
            "last_24h": len(violations),
            "compliance_rate_24h": _percent(len(ended) - len(violations), len(ended), none=100.0),
        }

    def trends(self, tasks: Iterable[a.TaskSummary], at: datetime) -> dict[str, Any]:
        """A line for each hour in which tasks ended, oldest first; ``timestamp`` is the hour's beginning."""
        ended = sorted((task for task in tasks if _ended_since(task, at - self.retention)), key=_ended_at)
        return {"hourly_trends": [_trend(hour, list(group)) for hour, group in groupby(ended, key=_hour)]}

    def workflows(self, runs: Sequence[a.TaskSummary], step_counts: Sequence[int]) -> dict[str, Any]:
        durations = _durations(runs)
        return {
            "total_workflows": len(runs),
            "average_duration_seconds": _mean(durations),
            "average_step_count": _mean(step_counts),
            "longest_workflow_seconds": max(durations, default=0.0),
            "shortest_workflow_seconds": min(durations, default=0.0),
        }

    def _violates(self, task: a.TaskSummary) -> bool:
        if task.word == "TIMEOUT":
            return True
        duration_s = seconds_between(task.started_at, task.completed_at)
        return self.sla_seconds is not None and duration_s is not None and duration_s > self.sla_seconds


def peak(tasks: Iterable[a.TaskSummary], at: datetime) -> int:
    """The most tasks that ran at one moment, from their starts and ends."""
    changes = [
        change
        for task in tasks
        if task.started_at is not None
        for change in ((task.started_at, 1), (task.completed_at or at, -1))
    ]
    running = highest = 0
    # At one moment ends come before starts: a task that follows another one does not run beside it.
    for _, change in sorted(changes):
        running += change
        highest = max(highest, running)
    return highest


def _trend(hour: datetime, ended: Sequence[a.TaskSummary]) -> dict[str, Any]:
    done = [task for task in ended if task.completed]
    bad = sum(task.word in BAD_ENDS for task in ended)
    return {
        "timestamp": hour.isoformat(),
        "completed_tasks": len(done),
        "failed_tasks": bad,
        "average_duration_seconds": _mean(_durations(done)),
        "success_rate_percent": _percent(len(done), len(done) + bad),
    }


def _ended_at(task: a.TaskSummary) -> datetime:
    return task.completed_at or task.created_at


def _ended_since(task: a.TaskSummary, since: datetime) -> bool:
    return task.ended and _ended_at(task) > since


def _hour(task: a.TaskSummary) -> datetime:
    return _ended_at(task).replace(minute=0, second=0, microsecond=0)


def _durations(tasks: Iterable[a.TaskSummary]) -> list[float]:
    found = (seconds_between(task.started_at, task.completed_at) for task in tasks)
    return [duration for duration in found if duration is not None]


def _mean(values: Sequence[float]) -> float:
    return round(fmean(values), 3) if values else 0.0


def _percent(part: int, whole: int, none: float = 0.0) -> float:
    return round(100 * part / whole, 2) if whole else none
