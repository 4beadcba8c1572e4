"""The server's figures as values; what each number counts stands in docs/api.md."""

from datetime import datetime

from msgspec import Struct


class SystemMetrics(Struct, frozen=True, kw_only=True):
    """The tenant's system now, in the last minute and in the last hour."""

    timestamp: datetime
    concurrent_tasks: int
    peak_concurrent_tasks: int
    total_tasks_processed: int
    tasks_per_minute: int
    average_duration_seconds: float
    failure_rate_percent: float
    active_agents: int
    sla_violations_last_hour: int


class AgentMetrics(Struct, frozen=True, kw_only=True):
    """What became of the attempts that an executor held."""

    total_tasks: int
    successful_tasks: int
    failed_tasks: int
    success_rate_percent: float
    average_duration_seconds: float
    average_wait_seconds: float = 0.0


class ResourceMetrics(Struct, frozen=True, kw_only=True):
    average_cpu_percent: float
    peak_cpu_percent: float
    average_memory_mb: float
    peak_memory_mb: float
    sample_count: int


class WorkflowMetrics(Struct, frozen=True, kw_only=True):
    total_workflows: int
    average_duration_seconds: float
    average_step_count: float
    longest_workflow_seconds: float
    shortest_workflow_seconds: float


class SlaMetrics(Struct, frozen=True, kw_only=True):
    last_hour: int
    last_24h: int
    compliance_rate_24h: float


class HourlyTrend(Struct, frozen=True, kw_only=True):
    """``timestamp`` is the hour's beginning."""

    timestamp: datetime
    completed_tasks: int
    failed_tasks: int
    average_duration_seconds: float
    success_rate_percent: float


class Trends(Struct, frozen=True, kw_only=True):
    hourly_trends: list[HourlyTrend]


class Report(Struct, frozen=True, kw_only=True):
    """Of so many hours, the current one being the last."""

    report_timestamp: datetime
    hours: int
    current_metrics: SystemMetrics
    agent_metrics: dict[str, AgentMetrics]
    resource_metrics: ResourceMetrics
    workflow_metrics: WorkflowMetrics
    sla_metrics: SlaMetrics
    performance_trends: Trends


class QueueStatistics(Struct, frozen=True, kw_only=True):
    """All queues together."""

    total_tasks: int
    pending_tasks: int
    running_tasks: int
    completed_tasks: int
    failed_tasks: int
    queue_length: int
    priority_distribution: dict[str, int]
    agent_workloads: dict[str, int]
    overdue_tasks: int
    cancelled_tasks: int = 0


class ExecutorStats(Struct, frozen=True, kw_only=True):
    """What an executor has run for the tenant, of all time; ``success_rate`` is in percent."""

    executor_id: str
    type: str
    active: bool
    running_tasks: int
    total_executions: int
    successful_executions: int
    success_rate: float
    average_duration_seconds: float
    failed_executions: int = 0
    capabilities: tuple[str, ...] = ()
    registered_at: datetime | None = None
    last_seen_at: datetime | None = None


class ExecutorStatsList(Struct, frozen=True):
    executors: list[ExecutorStats]


class Component(Struct, frozen=True):
    """``status``: healthy, degraded or unhealthy; ``since`` as the gateway that answers has seen it."""

    status: str
    since: datetime
    detail: str = ""


class Health(Struct, frozen=True):
    """``status`` is that of the worst component."""

    status: str
    timestamp: datetime
    components: dict[str, Component]
