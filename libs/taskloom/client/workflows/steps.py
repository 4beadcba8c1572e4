"""Steps of a workflow and their conditions."""

from enum import StrEnum
from typing import Any, Final

from msgspec import field

from taskloom.client.tasks.record import Record, Time, now


class StepType(StrEnum):
    TASK = "task"
    PARALLEL = "parallel"
    SEQUENTIAL = "sequential"
    CONDITIONAL = "conditional"
    LOOP = "loop"
    WAIT = "wait"
    MAP = "map"
    CHILD = "child"
    APPROVAL = "approval"
    SIGNAL = "signal"
    CHECKPOINT = "checkpoint"


class StepStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class ConditionOperator(StrEnum):
    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    GREATER_THAN = "greater_than"
    LESS_THAN = "less_than"
    CONTAINS = "contains"
    EXISTS = "exists"


class ConditionSource(StrEnum):
    VARIABLES = "variables"
    RESULT = "result"
    CONTEXT = "context"


class WorkflowCondition(Record, kw_only=True):
    """Compares the value at ``field``, a dotted path, with ``value``, which ``exists`` does not look at. Without a
    ``source`` the field is looked up in the variables, then in the last step's result, then in the context."""

    field: str
    operator: ConditionOperator = ConditionOperator.EQUALS
    value: Any = None
    source: ConditionSource | None = None

    def __post_init__(self) -> None:
        self.operator = ConditionOperator(self.operator)
        self.source = None if self.source is None else ConditionSource(self.source)

    def to_definition(self) -> dict[str, Any]:
        return {name: value for name, value in self.to_dict().items() if value is not None}


Condition = WorkflowCondition | str | bool
"""A condition of one field, or an expression as text."""

BODIES: Final = ("sub_steps", "true_steps", "false_steps", "loop_steps")
CONDITIONS: Final = ("condition", "loop_condition", "wait_condition")


class WorkflowStep(Record, kw_only=True):
    """``depends_on`` holds ids or names of steps beside it. ``configuration`` holds fields of the definition that have
    no place of their own here: ``on_failure``, ``compensation``, or what kinds beyond the six need, such as ``items``
    of a map. What ``task_template`` may hold is said in ``Workflow``."""

    id: str
    name: str = ""
    description: str | None = None
    step_type: StepType = StepType.TASK
    depends_on: set[str] = field(default_factory=set)
    status: StepStatus = StepStatus.PENDING
    started_at: Time | None = None
    completed_at: Time | None = None
    result: Any = None
    error_message: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    task_template: dict[str, Any] | None = None
    sub_steps: "list[WorkflowStep]" = field(default_factory=list)
    condition: Condition | None = None
    true_steps: "list[WorkflowStep]" = field(default_factory=list)
    false_steps: "list[WorkflowStep]" = field(default_factory=list)
    loop_condition: Condition | None = None
    loop_steps: "list[WorkflowStep]" = field(default_factory=list)
    max_iterations: int = 100
    wait_seconds: float | None = None
    wait_condition: Condition | None = None
    configuration: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.step_type, self.status = StepType(self.step_type), StepStatus(self.status)
        self.depends_on = set(self.depends_on)

    def children(self) -> "list[WorkflowStep]":
        """The steps directly inside it."""
        return [step for body in BODIES for step in getattr(self, body)]

    def update_status(self, status: StepStatus, result: Any = None, error_message: str | None = None) -> None:
        self.status = status
        if status is StepStatus.RUNNING:
            self.started_at = self.started_at or now()
        elif status is not StepStatus.PENDING:
            self.completed_at = now()
        if result is not None:
            self.result = result
        if error_message is not None:
            self.error_message = error_message
