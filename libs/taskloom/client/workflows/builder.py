"""Builds workflows step by step."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from taskloom.client.workflows import prebuilt
from taskloom.client.workflows.steps import Condition, StepType, WorkflowStep
from taskloom.client.workflows.workflow import Workflow


class WorkflowBuilder:
    """Each call adds to the workflow and returns the builder. Steps get the ids step_1, step_2 and so on; they may
    depend on each other by id or by name."""

    create_ci_cd_workflow = staticmethod(prebuilt.create_ci_cd_workflow)
    create_data_processing_workflow = staticmethod(prebuilt.create_data_processing_workflow)
    create_code_review_workflow = staticmethod(prebuilt.create_code_review_workflow)
    create_monitoring_workflow = staticmethod(prebuilt.create_monitoring_workflow)

    def __init__(self, name: str, created_by: str) -> None:
        self.workflow = Workflow(name=name, created_by=created_by, steps=[])

    def description(self, description: str) -> Self:
        self.workflow.description = description
        return self

    def version(self, version: str) -> Self:
        self.workflow.version = version
        return self

    def max_parallel_tasks(self, max_tasks: int) -> Self:
        self.workflow.max_parallel_tasks = max_tasks
        return self

    def timeout_seconds(self, timeout: float) -> Self:
        self.workflow.timeout_seconds = timeout
        return self

    def context(self, context: Mapping[str, Any]) -> Self:
        self.workflow.context |= context
        return self

    def variables(self, variables: Mapping[str, Any]) -> Self:
        self.workflow.variables |= variables
        return self

    def metadata(self, metadata: Mapping[str, Any]) -> Self:
        self.workflow.metadata |= metadata
        return self

    def tags(self, tags: Collection[str]) -> Self:
        self.workflow.tags |= set(tags)
        return self

    def add_task_step(
        self,
        name: str,
        task_template: Mapping[str, Any],
        depends_on: Collection[str] = (),
        description: str | None = None,
    ) -> Self:
        return self._add(name, StepType.TASK, depends_on, description, task_template=dict(task_template))

    def add_parallel_step(
        self,
        name: str,
        sub_steps: Sequence[WorkflowStep],
        depends_on: Collection[str] = (),
        description: str | None = None,
    ) -> Self:
        return self._add(name, StepType.PARALLEL, depends_on, description, sub_steps=list(sub_steps))

    def add_sequential_step(
        self,
        name: str,
        sub_steps: Sequence[WorkflowStep],
        depends_on: Collection[str] = (),
        description: str | None = None,
    ) -> Self:
        return self._add(name, StepType.SEQUENTIAL, depends_on, description, sub_steps=list(sub_steps))

    def add_conditional_step(
        self,
        name: str,
        condition: Condition,
        true_steps: Sequence[WorkflowStep],
        false_steps: Sequence[WorkflowStep] = (),
        depends_on: Collection[str] = (),
        description: str | None = None,
    ) -> Self:
        branches = {"true_steps": list(true_steps), "false_steps": list(false_steps)}
        return self._add(name, StepType.CONDITIONAL, depends_on, description, condition=condition, **branches)

    def add_loop_step(
        self,
        name: str,
        loop_condition: Condition,
        loop_steps: Sequence[WorkflowStep],
        max_iterations: int = 100,
        depends_on: Collection[str] = (),
        description: str | None = None,
    ) -> Self:
        return self._add(
            name,
            StepType.LOOP,
            depends_on,
            description,
            loop_condition=loop_condition,
            loop_steps=list(loop_steps),
            max_iterations=max_iterations,
        )

    def add_wait_step(
        self,
        name: str,
        wait_seconds: float | None = None,
        wait_condition: Condition | None = None,
        depends_on: Collection[str] = (),
        description: str | None = None,
    ) -> Self:
        """Waits for a time, or until a condition holds: one of both."""
        return self._add(
            name, StepType.WAIT, depends_on, description, wait_seconds=wait_seconds, wait_condition=wait_condition
        )

    def add_step(self, step: WorkflowStep) -> Self:
        """A step of any kind, under its own id."""
        self.workflow.steps.append(step)
        return self

    def build(self) -> Workflow:
        """The workflow.

        Raises:
            BadWorkflow: a ValueError; names each faulty field by its path.
        """
        self.workflow.validate()
        return self.workflow

    def _add(
        self, name: str, step_type: StepType, depends_on: Collection[str], description: str | None, **configured: Any
    ) -> Self:
        step_id = f"step_{len(self.workflow.steps) + 1}"
        return self.add_step(
            WorkflowStep(
                id=step_id,
                name=name,
                description=description,
                step_type=step_type,
                depends_on=set(depends_on or ()),
                **configured,
            )
        )
