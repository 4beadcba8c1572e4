"""A task as the task API sees it. It belongs to the program that holds it: only ``TaskAPI`` talks to the server."""

from collections.abc import Collection
from enum import IntEnum, StrEnum
from typing import Any, Final
from uuid import UUID, uuid4

from msgspec import field

from taskloom.client.tasks.record import Record, Time, has_zone, now, seconds_between


class TaskType(StrEnum):
    CODE_ANALYSIS = "code_analysis"
    CODE_GENERATION = "code_generation"
    CODE_REVIEW = "code_review"
    TESTING = "testing"
    DEPLOYMENT = "deployment"
    MONITORING = "monitoring"
    WORKFLOW = "workflow"
    CUSTOM = "custom"


class TaskStatus(StrEnum):
    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RETRYING = "retrying"


class TaskPriority(IntEnum):
    LOW = 1
    NORMAL = 2
    HIGH = 3
    URGENT = 4
    CRITICAL = 5


ENDS: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class Task(Record, kw_only=True):
    """``depends_on`` must be completed before it starts; ``blocks`` wait for it. ``max_retries`` does not count the
    first attempt, ``timeout_seconds`` limits each one. What it runs is said in ``taskloom.templates.work``."""

    id: UUID = field(default_factory=uuid4)
    name: str
    created_by: str
    description: str | None = None
    task_type: TaskType = TaskType.CUSTOM
    tags: set[str] = field(default_factory=set)
    status: TaskStatus = TaskStatus.PENDING
    priority: TaskPriority = TaskPriority.NORMAL
    assigned_to: str | None = None
    depends_on: set[UUID] = field(default_factory=set)
    blocks: set[UUID] = field(default_factory=set)
    created_at: Time = field(default_factory=now)
    updated_at: Time = field(default_factory=now)
    scheduled_at: Time | None = None
    started_at: Time | None = None
    completed_at: Time | None = None
    deadline: Time | None = None
    max_retries: int = 3
    retry_count: int = 0
    timeout_seconds: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    execution_context: dict[str, Any] = field(default_factory=dict)
    resource_requirements: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error_message: str | None = None
    workflow_id: UUID | None = None
    workflow_step_id: str | None = None

    def __post_init__(self) -> None:
        self.task_type, self.status = TaskType(self.task_type), TaskStatus(self.status)
        self.priority = TaskPriority(self.priority)
        self.tags, self.depends_on, self.blocks = set(self.tags), set(self.depends_on), set(self.blocks)
        if not self.name.strip():
            raise ValueError("name: a task has a name")
        if self.max_retries < 0:
            raise ValueError(f"max_retries: {self.max_retries} is below 0")
        if self.timeout_seconds is not None and self.timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds: {self.timeout_seconds:g} is not above 0")
        for name in ("scheduled_at", "deadline"):
            has_zone(getattr(self, name), name)
        if self.id in self.depends_on:
            raise ValueError(f"depends_on: task {self.id} cannot depend on itself")

    def update_status(self, status: TaskStatus, message: str | None = None) -> None:
        """Takes the status and the times that go with it; ``message`` becomes ``error_message``."""
        self.status = status
        self._touch()
        if status is TaskStatus.RUNNING and self.started_at is None:
            self.started_at = self.updated_at
        self.completed_at = self.updated_at if status in ENDS else None
        if message is not None:
            self.error_message = message

    def add_dependency(self, task_id: UUID) -> None:
        """
        Raises:
            ValueError: it is this task's own id.
        """
        if task_id == self.id:
            raise ValueError(f"depends_on: task {self.id} cannot depend on itself")
        self.depends_on.add(task_id)
        self._touch()

    def remove_dependency(self, task_id: UUID) -> None:
        self.depends_on.discard(task_id)
        self._touch()

    def add_blocked_task(self, task_id: UUID) -> None:
        self.blocks.add(task_id)
        self._touch()

    def is_ready_to_run(self, completed_ids: Collection[UUID]) -> bool:
        """Whether it is pending and everything that it depends on is completed."""
        return self.status is TaskStatus.PENDING and self.depends_on.issubset(completed_ids)

    def can_retry(self) -> bool:
        return self.status is TaskStatus.FAILED and self.retry_count < self.max_retries

    def increment_retry(self) -> None:
        """Counts a retry; the task is then retrying.

        Raises:
            ValueError: all retries are used up.
        """
        if self.retry_count >= self.max_retries:
            raise ValueError(f"task {self.id} has used its {self.max_retries} retries")
        self.retry_count += 1
        self.update_status(TaskStatus.RETRYING)

    def is_overdue(self) -> bool:
        """Whether the deadline has passed before the task's end."""
        return self.deadline is not None and self.status not in ENDS and now() > self.deadline

    def get_duration(self) -> float | None:
        """Seconds from the start to the end, or until now; None before the start."""
        return seconds_between(self.started_at, self.completed_at or now())

    def _touch(self) -> None:
        self.updated_at = now()


class CreateTaskRequest(Record, kw_only=True):
    """What ``TaskAPI.create_task`` takes in place of a ``Task``."""

    name: str
    created_by: str
    description: str | None = None
    task_type: TaskType = TaskType.CUSTOM
    priority: TaskPriority = TaskPriority.NORMAL
    assigned_to: str | None = None
    depends_on: set[UUID] = field(default_factory=set)
    metadata: dict[str, Any] = field(default_factory=dict)
    execution_context: dict[str, Any] = field(default_factory=dict)
    resource_requirements: dict[str, Any] = field(default_factory=dict)
    max_retries: int = 3
    timeout_seconds: float | None = None
    scheduled_at: Time | None = None
    deadline: Time | None = None
    tags: set[str] = field(default_factory=set)

    def task(self) -> Task:
        return Task(**{name: getattr(self, name) for name in self.__struct_fields__})


class UpdateTaskRequest(Record, kw_only=True):
    """Changes of a task; None leaves a field as it is, ``metadata`` is merged into what is there."""

    name: str | None = None
    description: str | None = None
    priority: TaskPriority | None = None
    assigned_to: str | None = None
    metadata: dict[str, Any] | None = None
    deadline: Time | None = None
    tags: set[str] | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that change, as JSON has them."""
        return {name: value for name, value in self.to_dict().items() if value is not None}
