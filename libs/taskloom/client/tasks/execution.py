"""One attempt at a task, as the task API sees it."""

from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid4

from msgspec import field, structs

from taskloom.client.tasks.record import Record, Time, now, seconds_between


class ExecutionStatus(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


ENDS: Final = frozenset(
    {ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.TIMEOUT}
)


class ResourceUsage(Record, kw_only=True):
    """``cpu_percent`` is of one core; 0.0 also where nothing was measured."""

    cpu_percent: float = 0.0
    memory_mb: float = 0.0
    disk_io_mb: float = 0.0
    network_io_mb: float = 0.0
    gpu_percent: float = 0.0

    def peak(self, other: "ResourceUsage") -> "ResourceUsage":
        """The larger of both, field by field."""
        names = self.__struct_fields__
        return ResourceUsage(**{name: max(getattr(self, name), getattr(other, name)) for name in names})


class ExecutionLog(Record, kw_only=True):
    timestamp: Time = field(default_factory=now)
    level: str = "INFO"
    message: str
    context: dict[str, Any] = field(default_factory=dict)


class TaskExecution(Record, kw_only=True):
    """``execution_number`` counts attempts from 1. ``error_details``: ``error_type``, ``error_message``,
    ``timestamp``. ``resource_usage`` is the last known use, ``peak_resource_usage`` the highest."""

    id: UUID = field(default_factory=uuid4)
    task_id: UUID
    execution_number: int = 1
    executor_id: str = ""
    executor_type: str = ""
    execution_environment: dict[str, Any] = field(default_factory=dict)
    status: ExecutionStatus = ExecutionStatus.QUEUED
    queued_at: Time = field(default_factory=now)
    started_at: Time | None = None
    completed_at: Time | None = None
    resource_usage: ResourceUsage = field(default_factory=ResourceUsage)
    peak_resource_usage: ResourceUsage = field(default_factory=ResourceUsage)
    result: dict[str, Any] | None = None
    output: str | None = None
    error_details: dict[str, Any] | None = None
    execution_time_seconds: float | None = None
    queue_time_seconds: float | None = None
    logs: list[ExecutionLog] = field(default_factory=list)
    retry_reason: str | None = None
    recovery_actions: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def start_execution(self) -> None:
        self.status = ExecutionStatus.STARTING
        self.started_at = now()
        self.queue_time_seconds = seconds_between(self.queued_at, self.started_at)

    def mark_running(self) -> None:
        if self.started_at is None:
            self.start_execution()
        self.status = ExecutionStatus.RUNNING

    def complete_execution(self, result: dict[str, Any] | None = None, output: str | None = None) -> None:
        self.result = result
        self._end(ExecutionStatus.COMPLETED, output)

    def fail_execution(self, error_details: dict[str, Any], output: str | None = None) -> None:
        self.error_details = {"timestamp": now().isoformat(), **error_details}
        self._end(ExecutionStatus.FAILED, output)

    def cancel_execution(self, reason: str | None = None) -> None:
        if reason:
            self.error_details = _error("cancelled", reason)
        self._end(ExecutionStatus.CANCELLED)

    def timeout_execution(self) -> None:
        self.error_details = _error("timeout", "the time limit passed")
        self._end(ExecutionStatus.TIMEOUT)

    def update_resource_usage(self, usage: ResourceUsage) -> None:
        """Takes the present use and keeps the peaks."""
        self.resource_usage = structs.replace(usage)
        self.peak_resource_usage = self.peak_resource_usage.peak(usage)

    def add_log(self, level: str, message: str, context: dict[str, Any] | None = None) -> None:
        self.logs.append(ExecutionLog(level=level, message=message, context=context or {}))

    def add_recovery_action(self, action: str) -> None:
        self.recovery_actions.append(action)

    def get_total_duration(self) -> float | None:
        """Seconds from the queue to the end, or until now."""
        return seconds_between(self.queued_at, self.completed_at or now())

    def is_completed(self) -> bool:
        """Whether it has ended, however."""
        return self.status in ENDS

    def is_successful(self) -> bool:
        return self.status is ExecutionStatus.COMPLETED

    def _end(self, status: ExecutionStatus, output: str | None = None) -> None:
        self.status = status
        self.completed_at = now()
        self.execution_time_seconds = seconds_between(self.started_at, self.completed_at)
        if output is not None:
            self.output = output


def _error(error_type: str, message: str) -> dict[str, Any]:
    return {"error_type": error_type, "error_message": message, "timestamp": now().isoformat()}
