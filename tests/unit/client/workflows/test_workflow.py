"""Workflows as values."""

from typing import Any

import pytest

from taskloom.client.workflows import (
    ConditionOperator,
    StepStatus,
    StepType,
    Workflow,
    WorkflowCondition,
    WorkflowStatus,
    WorkflowStep,
)


def step(step_id: str, *depends_on: str, **fields: Any) -> WorkflowStep:
    known: dict[str, Any] = {"name": f"name of {step_id}", "task_template": {"metadata": {"cmd": "true"}}}
    return WorkflowStep(id=step_id, depends_on=set(depends_on), **{**known, **fields})


def a_workflow(*steps: WorkflowStep, **fields: Any) -> Workflow:
    return Workflow(name="w", created_by="me", steps=list(steps), **fields)


def test_workflow_has_the_documented_defaults() -> None:
    workflow = a_workflow()

    assert (workflow.version, workflow.status, workflow.max_parallel_tasks) == ("1.0", WorkflowStatus.PENDING, 10)
    assert workflow.timeout_seconds is None
    assert workflow.context == workflow.variables == workflow.metadata == {}
    assert step("a").max_iterations == 100


def test_workflow_survives_being_written_and_read() -> None:
    condition = WorkflowCondition(field="x.y", operator=ConditionOperator.LESS_THAN, value=3)
    inner = step("inner")
    workflow = a_workflow(
        step("a"),
        WorkflowStep(id="c", step_type=StepType.CONDITIONAL, condition=condition, true_steps=[inner]),
        step("d", condition="variables.x > 1"),
        tags={"t"},
        variables={"x": 1},
    )

    again = Workflow.from_dict(workflow.to_dict())

    assert again == workflow
    assert again.get_step_by_id("inner") == inner
    assert again.get_step_by_id("nobody") is None


def test_steps_are_ready_once_what_they_need_is_completed_by_id_or_name() -> None:
    workflow = a_workflow(step("a"), step("b", "a"), step("c", "name of a"), step("d", "b", "name of c"))
    assert [each.id for each in workflow.get_ready_steps()] == ["a"]

    assert workflow.update_step_status("a", StepStatus.COMPLETED, {"k": 1})
    assert [each.id for each in workflow.get_ready_steps()] == ["b", "c"]
    assert workflow.get_progress_percentage() == 25.0
    workflow.update_step_status("b", StepStatus.FAILED, error_message="boom")
    workflow.update_step_status("c", StepStatus.COMPLETED)
    assert workflow.get_ready_steps() == []
    assert workflow.has_failed_steps()
    assert not workflow.is_completed()
    assert not workflow.update_step_status("nobody", StepStatus.FAILED)


def test_workflow_whose_steps_are_all_completed_is_completed() -> None:
    workflow = a_workflow(step("a"))
    workflow.update_step_status("a", StepStatus.COMPLETED)

    assert workflow.is_completed()
    assert workflow.get_progress_percentage() == 100.0
    assert not a_workflow().is_completed()


def test_status_follows_the_methods() -> None:
    workflow = a_workflow(step("a"))
    with pytest.raises(ValueError, match="pending workflow cannot be paused"):
        workflow.pause_workflow()
    workflow.start_workflow()
    began = workflow.started_at
    workflow.pause_workflow()
    assert workflow.to_dict()["completed_at"] is None
    workflow.resume_workflow()
    assert (workflow.status.value, workflow.started_at) == ("running", began)
    with pytest.raises(ValueError, match="resumed"):
        workflow.resume_workflow()

    workflow.fail_workflow("boom")

    assert (workflow.status.value, workflow.error_message) == ("failed", "boom")
    assert workflow.completed_at is not None
    cancelled, completed = a_workflow(), a_workflow()
    cancelled.cancel_workflow()
    completed.complete_workflow({"a": 1})
    assert (cancelled.status, completed.status) == (WorkflowStatus.CANCELLED, WorkflowStatus.COMPLETED)
    assert completed.result == {"a": 1}


def test_checkpoint_brings_back_statuses_context_and_variables() -> None:
    inner = step("inner")
    workflow = a_workflow(step("a"), step("p", step_type=StepType.PARALLEL, sub_steps=[inner]), variables={"x": 1})
    workflow.start_workflow()
    workflow.update_step_status("a", StepStatus.COMPLETED, {"k": [1]})
    workflow.update_step_status("inner", StepStatus.RUNNING)
    checkpoint = workflow.create_checkpoint()
    assert checkpoint["step_statuses"]["a"]["result"] == {"k": [1]}
    assert checkpoint.keys() == {"workflow_id", "status", "step_statuses", "context", "variables", "timestamp"}

    workflow.update_step_status("inner", StepStatus.FAILED, error_message="boom")
    workflow.fail_workflow("boom")
    workflow.variables["x"] = 2
    workflow.restore_from_checkpoint(checkpoint)

    assert workflow.status is WorkflowStatus.RUNNING
    assert workflow.variables == {"x": 1}
    assert {each: (found := workflow.get_step_by_id(each)) and found.status.value for each in ("a", "inner", "p")} == {
        "a": "completed",
        "inner": "running",
        "p": "pending",
    }
    assert not workflow.has_failed_steps()
    with pytest.raises(ValueError, match="workflow_id"):
        a_workflow().restore_from_checkpoint(checkpoint)
