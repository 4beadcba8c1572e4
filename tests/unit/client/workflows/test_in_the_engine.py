"""The workflows for common purposes, run by the engine; the test plays the agents."""

from typing import Any

import pytest

from taskloom.client import answers as a
from taskloom.client.workflows import (
    StepStatus,
    Workflow,
    WorkflowStatus,
    create_ci_cd_workflow,
    create_code_review_workflow,
    create_data_processing_workflow,
    create_monitoring_workflow,
)
from taskloom.domain.workflow import happenings as h
from tests.unit.domain.workflow.runs import Run


def run_of(workflow: Workflow) -> Run:
    definition = workflow.to_definition()
    return Run(*definition.pop("steps"), **definition)


def told(run: Run, path: str) -> dict[str, Any]:
    """The task that the agent of a step gets."""
    task: dict[str, Any] = run.inputs[path]["kwargs"]["task"]
    return task


def ended(workflow: Workflow, run: Run) -> a.Task:
    outcome = run.end.outcome if run.end else ""
    return a.Task(
        task_id=str(workflow.id),
        status=f"TASK_STATUS_{outcome.upper()}",
        state=outcome,
        kind="workflow",
        queue="default",
        priority=2,
        attempt=0,
        created_at=workflow.created_at,
        version=1,
        max_attempts=1,
        response=run.result,
    )


@pytest.mark.parametrize(
    ("result", "deployed"),
    [
        ({"test_status": "passed"}, True),
        ({"variables": {"test_status": "passed"}}, True),
        ({"test_status": "failed"}, False),
        (None, False),
    ],
)
def test_only_what_passed_its_tests_is_deployed(result: Any, deployed: bool) -> None:
    workflow = create_ci_cd_workflow("n", "me", "http://r")
    workflow.context = {"branch": "main"}
    run = run_of(workflow)

    assert run.live == ["step_1"]
    run.complete("step_1", {"variables": {"artifact": "app.whl"}})
    metadata = told(run, "step_2")["metadata"]
    run.complete("step_2", result)

    assert metadata["workflow_variables"] == {"artifact": "app.whl"}
    assert metadata["workflow_context"] == {"branch": "main"}
    assert run.live == (["step_3.deploy"] if deployed else [])
    run.finish()
    workflow.take_end(ended(workflow, run))
    assert workflow.status is WorkflowStatus.COMPLETED
    assert workflow.variables["artifact"] == "app.whl"
    assert [step.status for step in workflow.steps] == [StepStatus.COMPLETED] * 3


def test_sources_are_extracted_side_by_side_before_the_rest() -> None:
    run = run_of(create_data_processing_workflow("n", "me", ["db1", "api1", "file1"]))

    assert len(run.live) == 3
    run.finish()
    assert run.scheduled[3:] == ["step_2", "step_3"]


@pytest.mark.parametrize(("passed", "last"), [(True, "step_2.human_review"), (False, "step_2.fix_issues")])
def test_review_follows_the_checks(passed: bool, last: str) -> None:
    run = run_of(create_code_review_workflow("n", "me", "http://pr"))

    run.finish(lambda _path, _input: {"variables": {"all_checks_passed": passed}})

    assert run.scheduled[-1] == last


def test_monitoring_goes_on_until_it_is_switched_off() -> None:
    run = run_of(create_monitoring_workflow("n", "me", ["db", "web"]))
    for _ in range(3):
        for path in list(run.live):
            run.complete(path)
        assert run.live == []
        run.pass_time(300)
    run.when(h.PatchVariables({"monitoring_active": False}))
    run.finish()

    assert len(run.scheduled) == 8
    assert run.end is not None
    assert run.end.outcome == "completed"
