"""From steps of this API to the definition's JSON."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from taskloom.client.tasks.mapping import submission_of
from taskloom.client.tasks.task import Task
from taskloom.client.workflows.errors import BadWorkflow
from taskloom.client.workflows.steps import BODIES, CONDITIONS, StepType, WorkflowCondition, WorkflowStep
from taskloom.domain.workflow.faults import Fault
from taskloom.templates.work import tell_workflow

if TYPE_CHECKING:
    from taskloom.client.workflows.workflow import Workflow

FIELDS: Final = {
    StepType.TASK: ("task_template",),
    StepType.PARALLEL: ("sub_steps",),
    StepType.SEQUENTIAL: ("sub_steps",),
    StepType.CONDITIONAL: ("condition", "true_steps", "false_steps"),
    StepType.LOOP: ("loop_condition", "loop_steps", "max_iterations"),
    StepType.WAIT: ("wait_seconds", "wait_condition"),
}
_REQUIRED: Final = ("task_template", "sub_steps", "condition", "loop_condition", "loop_steps")
_NOT_OF_STEPS: Final = ("task_id", "depends_on", "run_at")


def step_definition(workflow: Workflow, step: WorkflowStep, path: str, kinds: Collection[str]) -> dict[str, Any]:
    """The step's JSON, with its bodies. What ``configuration`` holds is added as it is.

    Raises:
        BadWorkflow: a task template does not fit; names its path.
    """
    told: dict[str, Any] = {"id": step.id, "step_type": step.step_type.value}
    told |= {name: value for name in ("name", "description", "metadata") if (value := getattr(step, name))}
    if step.depends_on:
        told["depends_on"] = sorted(step.depends_on)
    for name in FIELDS.get(step.step_type, ()):
        value = _value(workflow, step, name, path, kinds)
        if value is not None and (value != [] or name in _REQUIRED):
            told[name] = value
    return told | step.configuration


def _value(workflow: Workflow, step: WorkflowStep, name: str, path: str, kinds: Collection[str]) -> Any:
    value = getattr(step, name)
    if name in BODIES:
        return [step_definition(workflow, each, f"{path}.{name}[{at}]", kinds) for at, each in enumerate(value)]
    if name in CONDITIONS:
        return value.to_definition() if isinstance(value, WorkflowCondition) else value
    if name == "task_template":
        return template(workflow, step, f"{path}.{name}", kinds)
    return value


def template(workflow: Workflow, step: WorkflowStep, path: str, kinds: Collection[str]) -> dict[str, Any]:
    """A submission's fields for a step's task: as given when they name a ``kind``, else from the fields of a task.

    A task that an agent runs finds the workflow's context and variables in its metadata, as they are when it starts.

    Raises:
        BadWorkflow: names the faulty field.
    """
    given = step.task_template or {}
    if "kind" in given or not given:
        return given
    if unknown := sorted(given.keys() - set(Task.__struct_fields__)):
        raise BadWorkflow([Fault(f"{path}.{name}", "a task has no such field") for name in unknown])
    fields = {"name": step.name or step.id, "created_by": workflow.created_by, **given}
    try:
        task = Task.from_dict(fields | {"workflow_id": str(workflow.id), "workflow_step_id": step.id})
        submission: dict[str, Any] = dict(submission_of(task, kinds))
    except ValueError as error:
        raise BadWorkflow([Fault(path, str(error))]) from error
    for name in _NOT_OF_STEPS:
        submission.pop(name, None)
    submission["input"] = tell_workflow(submission["input"])
    return {name: value for name, value in submission.items() if value not in ({}, [], ())}
