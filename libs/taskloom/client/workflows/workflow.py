"""A workflow as the task API sees it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, cast
from uuid import UUID, uuid4

from msgspec import field

from taskloom.client import answers as a
from taskloom.client.submission import Submission
from taskloom.client.tasks.record import Record, Time, now
from taskloom.client.workflows.definition import step_definition
from taskloom.client.workflows.errors import BadWorkflow
from taskloom.client.workflows.steps import BODIES, StepStatus, WorkflowStep
from taskloom.domain.workflow.check import validate
from taskloom.templates.work import OWN

KIND: Final = "workflow"


class WorkflowStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"


_ENDS: Final = {
    "completed": WorkflowStatus.COMPLETED,
    "failed": WorkflowStatus.FAILED,
    "timed_out": WorkflowStatus.FAILED,
    "cancelled": WorkflowStatus.CANCELLED,
}


class Workflow(Record, kw_only=True):
    """``id`` is the id of its run. A step's ``task_template`` holds fields of a ``Task``, or, with ``kind``, those of a
    submission. Methods that change the status change this object, not a run on the server: ``TaskAPI`` does that."""

    id: UUID = field(default_factory=uuid4)
    name: str
    created_by: str
    steps: list[WorkflowStep]
    description: str | None = None
    version: str = "1.0"
    status: WorkflowStatus = WorkflowStatus.PENDING
    created_at: Time = field(default_factory=now)
    updated_at: Time = field(default_factory=now)
    started_at: Time | None = None
    completed_at: Time | None = None
    context: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error_message: str | None = None
    max_parallel_tasks: int = 10
    timeout_seconds: float | None = None
    checkpoint_data: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.status, self.tags = WorkflowStatus(self.status), set(self.tags)

    def start_workflow(self) -> None:
        self._become(WorkflowStatus.RUNNING)

    def complete_workflow(self, result: dict[str, Any] | None = None) -> None:
        self.result = result
        self._become(WorkflowStatus.COMPLETED)

    def fail_workflow(self, error_message: str) -> None:
        self.error_message = error_message
        self._become(WorkflowStatus.FAILED)

    def pause_workflow(self) -> None:
        """
        Raises:
            ValueError: it is not running.
        """
        self._require(WorkflowStatus.RUNNING, "paused")
        self._become(WorkflowStatus.PAUSED)

    def resume_workflow(self) -> None:
        """
        Raises:
            ValueError: it is not paused.
        """
        self._require(WorkflowStatus.PAUSED, "resumed")
        self._become(WorkflowStatus.RUNNING)

    def cancel_workflow(self) -> None:
        self._become(WorkflowStatus.CANCELLED)

    def get_ready_steps(self) -> list[WorkflowStep]:
        """Top-level steps that are pending, with everything they depend on completed, by id or name."""
        done = {name for step in self.steps if step.status is StepStatus.COMPLETED for name in (step.id, step.name)}
        return [step for step in self.steps if step.status is StepStatus.PENDING and step.depends_on <= done]

    def get_step_by_id(self, step_id: str) -> WorkflowStep | None:
        """A step at any depth."""
        return next((step for step in walk(self.steps) if step.id == step_id), None)

    def update_step_status(
        self, step_id: str, status: StepStatus, result: Any = None, error_message: str | None = None
    ) -> bool:
        """False when there is no such step."""
        step = self.get_step_by_id(step_id)
        if step is None:
            return False
        step.update_status(StepStatus(status), result, error_message)
        self.updated_at = now()
        return True

    def is_completed(self) -> bool:
        """Whether it, or each of its top-level steps, is completed."""
        done = bool(self.steps) and all(step.status is StepStatus.COMPLETED for step in self.steps)
        return self.status is WorkflowStatus.COMPLETED or done

    def has_failed_steps(self) -> bool:
        return any(step.status is StepStatus.FAILED for step in walk(self.steps))

    def get_progress_percentage(self) -> float:
        """The share of top-level steps that are completed, 0.0 to 100.0."""
        done = sum(step.status is StepStatus.COMPLETED for step in self.steps)
        return 100.0 * done / len(self.steps) if self.steps else 0.0

    def create_checkpoint(self) -> dict[str, Any]:
        """workflow_id, status, step_statuses by step id, context, variables and timestamp; also kept in
        ``checkpoint_data``."""
        plain = self.to_dict()
        names = ("status", "result", "error_message", "started_at", "completed_at")
        self.checkpoint_data = {
            "workflow_id": plain["id"],
            "status": plain["status"],
            "step_statuses": {
                step.id: {name: told for name, told in step.to_dict().items() if name in names}
                for step in walk(self.steps)
            },
            "context": plain["context"],
            "variables": plain["variables"],
            "timestamp": now().isoformat(),
        }
        return self.checkpoint_data

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes status, context, variables and the steps' states as they were then.

        Raises:
            ValueError: it is another workflow's checkpoint, or not a checkpoint.
        """
        if checkpoint.get("workflow_id") != str(self.id):
            raise ValueError(f"workflow_id: {checkpoint.get('workflow_id')} is not this workflow, {self.id}")
        statuses = checkpoint.get("step_statuses", {})
        restored = Workflow.from_dict(
            self.to_dict()
            | {name: checkpoint[name] for name in ("status", "context", "variables") if name in checkpoint}
            | {"steps": [_restored(step.to_dict(), statuses) for step in self.steps]}
        )
        for name in ("status", "context", "variables", "steps"):
            setattr(self, name, getattr(restored, name))
        self.checkpoint_data = dict(checkpoint)
        self.updated_at = now()

    def to_definition(self, kinds: Collection[str] = ()) -> dict[str, Any]:
        """The workflow as the server takes it. ``kinds``: those that executors announce, see ``templates.work``.

        Raises:
            BadWorkflow: a task template holds a field that tasks do not have.
        """
        plain = self.to_dict()
        copied = ("description", "timeout_seconds", "context", "variables", "metadata", "tags")
        steps = [
            step_definition(self, step, f"definition.steps[{index}]", kinds) for index, step in enumerate(self.steps)
        ]
        return {
            "name": self.name,
            "version": self.version,
            "created_by": self.created_by,
            "max_parallel_tasks": self.max_parallel_tasks,
            **{name: plain[name] for name in copied if plain[name]},
            "steps": steps,
        }

    def validate(self) -> None:
        """
        Raises:
            BadWorkflow: names each faulty field by its path, such as ``definition.steps[2].condition.operator``.
        """
        if faults := validate(self.to_definition()):
            raise BadWorkflow(faults)

    def to_submission(self, kinds: Collection[str] = ()) -> Submission:
        """The submission that runs it.

        Raises:
            BadWorkflow: it cannot run.
        """
        self.validate()
        definition = self.to_definition(kinds)
        submission: dict[str, Any] = {
            "task_id": str(self.id),
            "kind": KIND,
            "name": self.name,
            "tags": sorted(self.tags),
            "metadata": {**self.metadata, f"{OWN}type": KIND, f"{OWN}created_by": self.created_by},
            "input": {"definition": definition, "variables": self.variables, "context": self.context},
        }
        return cast(Submission, submission)

    def take_end(self, run: a.Task) -> None:
        """Takes status, times, result and variables of a run that has ended, and the results of completed steps."""
        self.status = _ENDS[run.state]
        self.started_at, self.completed_at = run.started_at or run.created_at, run.completed_at
        self.updated_at = run.updated_at or now()
        self.error_message = run.error or ("timed out" if run.state == "timed_out" else None)
        told = run.response if isinstance(run.response, dict) else {}
        self.result = told or None
        if isinstance(variables := told.get("variables"), dict):
            self.variables = variables
        results = told.get("results")
        for step_id, result in results.items() if isinstance(results, dict) else ():
            self.update_step_status(step_id, StepStatus.COMPLETED, result)

    def _become(self, status: WorkflowStatus) -> None:
        self.status = status
        self.updated_at = now()
        if status is WorkflowStatus.RUNNING:
            self.started_at = self.started_at or self.updated_at
        elif status is not WorkflowStatus.PAUSED:
            self.completed_at = self.updated_at

    def _require(self, status: WorkflowStatus, wish: str) -> None:
        if self.status is not status:
            raise ValueError(f"status: a {self.status} workflow cannot be {wish}")


def walk(steps: Iterable[WorkflowStep]) -> Iterator[WorkflowStep]:
    """All steps, each before those inside it."""
    for step in steps:
        yield step
        yield from walk(step.children())


def _restored(step: dict[str, Any], statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    bodies = {name: [_restored(each, statuses) for each in value] for name, value in step.items() if name in BODIES}
    return step | bodies | dict(statuses.get(step["id"], {}))
