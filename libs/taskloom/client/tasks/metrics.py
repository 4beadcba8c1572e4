"""Figures of a system, worked out from the tasks that its API lists."""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
OPEN_RUNNING: Final = ("running", "pausing", "cancelling")

Tries = Sequence[tuple[a.TaskSummary, Sequence[a.Execution]]]


class Counts(Struct, frozen=True):
    """What is counted elsewhere: running tasks, tasks that ever ended, executors that are ready."""

    running: int
    processed: int
    agents: int


class TaskMetrics:
    """Works on the tasks of the last ``metrics_retention_hours``, at most ``max_tasks`` of the newest. Agents' and
    resources' figures look at tasks that ended in the last ``sample_window_minutes``, at most ``max_sample``.

    A task violates the SLA when it timed out, or, with ``sla_seconds``, ran longer than that.
    """

    def __init__(
        self,
        metrics_retention_hours: float = 24,
        sample_window_minutes: float = 5,
        *,
        sla_seconds: float | None = None,
        max_tasks: int = 5_000,
        max_sample: int = 200,
    ) -> None:
        for name, value in (
            ("metrics_retention_hours", metrics_retention_hours),
            ("sample_window_minutes", sample_window_minutes),
            ("max_tasks", max_tasks),
            ("max_sample", max_sample),
        ):
            if value <= 0:
                raise ValueError(f"{name}: {value} is not above 0")
        self.retention = timedelta(hours=metrics_retention_hours)
        self.sample_window = timedelta(minutes=sample_window_minutes)
        self.sla_seconds = sla_seconds
        self.max_tasks = max_tasks
        self.max_sample = max_sample

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


def agents(tries: Tries) -> dict[str, dict[str, Any]]:
    """By executor, what became of the attempts that it held."""
    held: dict[str, list[a.Execution]] = {}
    for _, attempts in tries:
        for attempt in attempts:
            if attempt.executor_id and attempt.completed_at is not None:
                held.setdefault(attempt.executor_id, []).append(attempt)
    return {agent_id: _agent(attempts) for agent_id, attempts in sorted(held.items())}


def resources(tries: Tries) -> dict[str, Any]:
    """Over the peaks of attempts that were measured, which are those with a process of their own."""
    peaks = [attempt.peak_resource_usage for _, attempts in tries for attempt in attempts]
    measured = [peak for peak in peaks if peak.get("samples")]
    cpu = [float(peak.get("cpu_percent", 0.0)) for peak in measured]
    memory = [float(peak.get("memory_mb", 0.0)) for peak in measured]
    return {
        "average_cpu_percent": _mean(cpu),
        "peak_cpu_percent": max(cpu, default=0.0),
        "average_memory_mb": _mean(memory),
        "peak_memory_mb": max(memory, default=0.0),
        "sample_count": len(measured),
    }


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


def queue_statistics(
    queues: Iterable[a.Queue], executors: Iterable[a.Executor], totals: Mapping[str, int], overdue: int | None
) -> dict[str, Any]:
    """``totals``: number of ``all``, ``completed`` and ``failed`` tasks. ``overdue``: None when it is not known."""
    queues = list(queues)
    by_state: dict[str, int] = {}
    by_priority = dict.fromkeys(("LOW", "NORMAL", "HIGH", "URGENT", "CRITICAL"), 0)
    names = dict(zip("12345", by_priority, strict=True))
    for queue in queues:
        for state, number in queue.by_state.items():
            by_state[state] = by_state.get(state, 0) + number
        for priority, number in queue.by_priority.items():
            by_priority[names[str(priority)]] += number
    running = sum(by_state.get(state, 0) for state in OPEN_RUNNING)
    return {
        "total_tasks": totals["all"],
        "pending_tasks": sum(by_state.values()) - running,
        "running_tasks": running,
        "completed_tasks": totals["completed"],
        "failed_tasks": totals["failed"],
        "queue_length": sum(queue.depth for queue in queues),
        "priority_distribution": by_priority,
        "agent_workloads": {each.executor_id: each.held for each in executors if each.status == "ready"},
        "overdue_tasks": overdue,
    }


def _agent(attempts: Sequence[a.Execution]) -> dict[str, Any]:
    good = [attempt for attempt in attempts if attempt.status == "completed"]
    bad = sum(attempt.status in ("failed", "timeout", "lost") for attempt in attempts)
    durations = [duration for each in good if (duration := seconds_between(each.started_at, each.completed_at))]
    return {
        "total_tasks": len(attempts),
        "successful_tasks": len(good),
        "failed_tasks": bad,
        "success_rate_percent": _percent(len(good), len(attempts)),
        "average_duration_seconds": _mean(durations),
    }


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
