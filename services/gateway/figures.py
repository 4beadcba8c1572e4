"""The answers of the metrics, worked out from the sums. Names are those of the task management engine's document."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from services.gateway.agents import executor_called
from services.gateway.readside import Views
from taskloom.views.executors.query import Executor
from taskloom.views.metrics.query import HOUR, Hours, LastHour, Sla, first_hour
from taskloom.views.metrics.sums import Hour, add
from taskloom.views.queues.query import PRIORITY_WORDS, QueueStats

DAY_H = 24
WORKFLOW = "workflow"
AGENT_TYPE = "agent_type"
"""The label of an executor that says what type of agent it is."""


class SystemMetrics(Struct, frozen=True):
    """``concurrent_tasks`` are running; their peak is the highest of the last hour, looked at once a second.
    ``tasks_per_minute`` completed in the last 60 s. Duration and failure rate are of the last hour: of completed tasks,
    from first start to end, and failed or timed-out ones by all that completed, failed or timed out.
    ``sla_violations_last_hour``: tasks that ended after their deadline, or are still open past it."""

    timestamp: datetime
    concurrent_tasks: int
    peak_concurrent_tasks: int
    total_tasks_processed: int
    tasks_per_minute: int
    average_duration_seconds: float
    failure_rate_percent: float
    active_agents: int
    sla_violations_last_hour: int


class AgentMetrics(Struct, frozen=True):
    """Of attempts; ``failed_tasks`` failed, timed out or were lost. Durations are of successful ones."""

    total_tasks: int
    successful_tasks: int
    failed_tasks: int
    success_rate_percent: float
    average_duration_seconds: float
    average_wait_seconds: float


class ResourceMetrics(Struct, frozen=True):
    """Over the attempts that were sampled, which are those with processes of their own: processor time by run time (100
    is one core), the mean of their highest memory use, and the highest of both. ``sample_count``: samples taken."""

    average_cpu_percent: float
    peak_cpu_percent: float
    average_memory_mb: float
    peak_memory_mb: float
    sample_count: int


class WorkflowMetrics(Struct, frozen=True):
    """Runs that ended; durations are of completed ones, ``average_step_count`` of those that started."""

    total_workflows: int
    average_duration_seconds: float
    average_step_count: float
    longest_workflow_seconds: float
    shortest_workflow_seconds: float


class SlaMetrics(Struct, frozen=True):
    """Violations. ``last_24h`` is of the current hour and the 23 before it, and so is the rate: tasks that ended by
    their deadline, in percent of those and the violations."""

    last_hour: int
    last_24h: int
    compliance_rate_24h: float


class HourlyTrend(Struct, frozen=True):
    """``timestamp``: the hour's beginning. ``failed_tasks`` failed or timed out."""

    timestamp: datetime
    completed_tasks: int
    failed_tasks: int
    average_duration_seconds: float
    success_rate_percent: float


class Trends(Struct, frozen=True):
    hourly_trends: list[HourlyTrend]


class PerformanceReport(Struct, frozen=True):
    """All but ``current_metrics`` is of ``hours`` hours, the current one being the last."""

    report_timestamp: datetime
    hours: int
    current_metrics: SystemMetrics
    agent_metrics: dict[str, AgentMetrics]
    resource_metrics: ResourceMetrics
    workflow_metrics: WorkflowMetrics
    sla_metrics: SlaMetrics
    performance_trends: Trends


class QueueStatistics(Struct, frozen=True):
    """``queue_length`` tasks wait for an executor, and are counted by priority; ``pending_tasks`` are all open ones
    that do not run. ``failed_tasks`` failed or timed out. ``overdue_tasks`` are open past their deadline.
    ``agent_workloads``: attempts that each ready executor holds, of all tenants."""

    total_tasks: int
    pending_tasks: int
    running_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    queue_length: int
    priority_distribution: dict[str, int]
    agent_workloads: dict[str, int]
    overdue_tasks: int


class ExecutorStats(Struct, frozen=True):
    """Executions are the caller's tenant's attempts that ended, of all time; ``success_rate`` is in percent.
    ``running_tasks`` are attempts that the executor holds, of all tenants."""

    executor_id: str
    type: str
    active: bool
    running_tasks: int
    total_executions: int
    successful_executions: int
    failed_executions: int
    success_rate: float
    average_duration_seconds: float
    capabilities: tuple[str, ...]
    registered_at: datetime | None
    last_seen_at: datetime


class ExecutorStatsList(Struct, frozen=True):
    executors: list[ExecutorStats]
    total_count: int


async def system_metrics(views: Views, tenant_id: str) -> SystemMetrics:
    return _system(await views.last_hour(tenant_id), await views.executors(tenant_id))


async def performance_report(views: Views, tenant_id: str, hours: int) -> PerformanceReport:
    now = await views.last_hour(tenant_id)
    found = await views.hours_since(tenant_id, first_hour(now.at, hours))
    sla = await views.sla_since(tenant_id, first_hour(now.at, DAY_H))
    return PerformanceReport(
        report_timestamp=now.at,
        hours=hours,
        current_metrics=_system(now, await views.executors(tenant_id)),
        agent_metrics={name: _agent(held) for name, held in sorted(found.executors.items()) if name and held.attempts},
        resource_metrics=_resources(found.kinds.values()),
        workflow_metrics=_workflows(found.kinds.get(WORKFLOW, Hour())),
        sla_metrics=_sla(now, sla),
        performance_trends=Trends(_trends(found, now.at, hours)),
    )


async def queue_statistics(views: Views, tenant_id: str) -> QueueStatistics:
    queues, executors = await views.queues(tenant_id), await views.executors(tenant_id)
    counts = await views.count_by_status(tenant_id)
    return QueueStatistics(
        total_tasks=sum(counts.values()),
        pending_tasks=sum(queue.pending for queue in queues),
        running_tasks=sum(queue.running for queue in queues),
        completed_tasks=counts.get("COMPLETED", 0),
        failed_tasks=counts.get("FAILED", 0) + counts.get("TIMEOUT", 0),
        cancelled_tasks=counts.get("CANCELLED", 0),
        queue_length=sum(queue.depth for queue in queues),
        priority_distribution=_priorities(queues),
        agent_workloads=workloads(executors),
        overdue_tasks=sum(queue.overdue for queue in queues),
    )


async def executor_statistics(views: Views, tenant_id: str) -> ExecutorStatsList:
    held = await views.of_executors(tenant_id, None)
    found = [_executor(each, held.get(each.executor_id, Hour())) for each in await views.executors(tenant_id)]
    return ExecutorStatsList(found, len(found))


async def statistics_of(views: Views, tenant_id: str, executor_id: str) -> ExecutorStats | None:
    """None when no executor of that id, and no agent of the tenant that is called so, ever registered."""
    executor = await executor_called(views, tenant_id, executor_id)
    if executor is None:
        return None
    held = await views.of_executors(tenant_id, executor.executor_id)
    return _executor(executor, held.get(executor.executor_id, Hour()))


def workloads(executors: Iterable[Executor]) -> dict[str, int]:
    """Attempts that each ready executor holds."""
    return {each.executor_id: len(each.heartbeat.live) for each in executors if each.status == "ready"}


def _system(now: LastHour, executors: Iterable[Executor]) -> SystemMetrics:
    return SystemMetrics(
        timestamp=now.at,
        concurrent_tasks=now.running,
        peak_concurrent_tasks=now.peak,
        total_tasks_processed=now.ended_ever,
        tasks_per_minute=now.completed_last_minute,
        average_duration_seconds=_mean_s(now.duration_us, now.timed),
        failure_rate_percent=_percent(now.failed, now.completed + now.failed),
        active_agents=sum(each.status == "ready" for each in executors),
        sla_violations_last_hour=now.sla_violated,
    )


def _agent(held: Hour) -> AgentMetrics:
    return AgentMetrics(
        total_tasks=held.attempts,
        successful_tasks=held.attempts_completed,
        failed_tasks=_failed_attempts(held),
        success_rate_percent=_percent(held.attempts_completed, held.attempts),
        average_duration_seconds=_mean_s(held.attempts_us, held.attempts_timed),
        average_wait_seconds=_mean_s(held.wait_us, held.waits),
    )


def _executor(executor: Executor, held: Hour) -> ExecutorStats:
    beat = executor.heartbeat
    return ExecutorStats(
        executor_id=beat.executor_id,
        type=beat.labels.get(AGENT_TYPE, "executor"),
        active=executor.status == "ready",
        running_tasks=len(beat.live),
        total_executions=held.attempts,
        successful_executions=held.attempts_completed,
        failed_executions=_failed_attempts(held),
        success_rate=_percent(held.attempts_completed, held.attempts),
        average_duration_seconds=_mean_s(held.attempts_us, held.attempts_timed),
        capabilities=beat.capabilities,
        registered_at=beat.started_at,
        last_seen_at=beat.at,
    )


def _failed_attempts(held: Hour) -> int:
    return held.attempts_failed + held.attempts_timed_out + held.attempts_lost


def _resources(kinds: Iterable[Hour]) -> ResourceMetrics:
    total = Hour()
    for kind in kinds:
        add(total, kind)
    return ResourceMetrics(
        average_cpu_percent=round(100 * total.cpu_us / total.measured_us, 2) if total.measured_us else 0.0,
        peak_cpu_percent=total.cpu_peak_milli / 1000,
        average_memory_mb=round(total.memory_kb / 1024 / total.measured, 3) if total.measured else 0.0,
        peak_memory_mb=round(total.memory_peak_kb / 1024, 3),
        sample_count=total.samples,
    )


def _workflows(runs: Hour) -> WorkflowMetrics:
    return WorkflowMetrics(
        total_workflows=runs.ended,
        average_duration_seconds=_mean_s(runs.duration_us, runs.timed),
        average_step_count=round(runs.run_steps / runs.runs, 2) if runs.runs else 0.0,
        longest_workflow_seconds=_mean_s(runs.duration_max_us, 1),
        shortest_workflow_seconds=_mean_s(runs.duration_min_us or 0, 1),
    )


def _sla(now: LastHour, day: Sla) -> SlaMetrics:
    decided = day.met + day.violated
    return SlaMetrics(now.sla_violated, day.violated, _percent(day.met, decided) if decided else 100.0)


def _trends(found: Hours, at: datetime, hours: int) -> list[HourlyTrend]:
    first = first_hour(at, hours)
    return [_trend(hour, found.hours.get(hour, Hour())) for hour in (first + number * HOUR for number in range(hours))]


def _trend(at: datetime, hour: Hour) -> HourlyTrend:
    failed = hour.failed + hour.timed_out
    return HourlyTrend(
        timestamp=at,
        completed_tasks=hour.completed,
        failed_tasks=failed,
        average_duration_seconds=_mean_s(hour.duration_us, hour.timed),
        success_rate_percent=_percent(hour.completed, hour.completed + failed),
    )


def _priorities(queues: Iterable[QueueStats]) -> dict[str, int]:
    words = dict.fromkeys(PRIORITY_WORDS.values(), 0)
    for queue in queues:
        for word, tasks in queue.priority_distribution.items():
            words[word] += tasks
    return words


def _mean_s(micros: int, count: int) -> float:
    return round(micros / count / 1e6, 6) if count else 0.0


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
