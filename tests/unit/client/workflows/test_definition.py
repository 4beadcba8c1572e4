"""The JSON that workflows become; the engine's own check judges it."""

from typing import Any

import msgspec
import pytest

from taskloom.client.workflows import (
    BadWorkflow,
    ConditionOperator,
    ConditionSource,
    StepType,
    Workflow,
    WorkflowBuilder,
    WorkflowCondition,
    WorkflowStep,
    create_ci_cd_workflow,
    create_code_review_workflow,
    create_data_processing_workflow,
    create_monitoring_workflow,
)
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.workflow.check import decode, validate
from taskloom.templates.work import AGENT_FUNCTION

WORK: dict[str, Any] = {"metadata": {"cmd": "true"}}


def work(step_id: str) -> WorkflowStep:
    return WorkflowStep(id=step_id, task_template=WORK)


def documented() -> WorkflowBuilder:
    """The source's own snippets, in one workflow."""
    deploy, rollback, retry = work("deploy"), work("rollback"), work("retry")
    return (
        WorkflowBuilder("all", "user123")
        .description("every kind of step")
        .version("2.0")
        .max_parallel_tasks(3)
        .timeout_seconds(60)
        .context({"c": 1})
        .variables({"v": 2})
        .metadata({"m": 3})
        .tags({"z", "a"})
        .add_task_step(
            "build",
            task_template={
                "name": "Build Application",
                "task_type": "code_generation",
                "metadata": {"action": "build"},
            },
        )
        .add_parallel_step("parallel_tests", sub_steps=[work("unit"), work("integration")], depends_on={"build"})
        .add_sequential_step("deployment_sequence", sub_steps=[work("verify"), work("notify")], depends_on={"step_2"})
        .add_conditional_step(
            "deploy_check",
            condition=WorkflowCondition(field="test_status", operator=ConditionOperator.EQUALS, value="passed"),
            true_steps=[deploy],
            false_steps=[rollback],
        )
        .add_loop_step(
            "retry_loop",
            loop_condition=WorkflowCondition(field="retry_count", operator=ConditionOperator.LESS_THAN, value=3),
            loop_steps=[retry],
            max_iterations=5,
        )
        .add_wait_step("wait_5min", wait_seconds=300)
        .add_wait_step(
            "wait_for_approval",
            wait_condition=WorkflowCondition(field="approved", operator=ConditionOperator.EQUALS, value=True),
        )
    )


def test_every_documented_kind_of_step_is_taken() -> None:
    workflow = documented().build()

    definition = decode(workflow.to_definition())

    assert [step.id for step in definition.steps] == [f"step_{number}" for number in range(1, 8)]
    assert (definition.name, definition.version, definition.max_parallel_tasks) == ("all", "2.0", 3)
    assert (definition.context, definition.variables, definition.tags) == ({"c": 1}, {"v": 2}, ("a", "z"))
    plain = workflow.to_definition()["steps"]
    assert plain[3]["condition"] == {"field": "test_status", "operator": "equals", "value": "passed"}
    assert [step["id"] for step in plain[3]["false_steps"]] == ["rollback"]
    assert plain[4]["max_iterations"] == 5
    assert plain[5]["wait_seconds"] == 300


def test_task_of_a_type_is_for_an_agent_that_knows_the_workflow() -> None:
    workflow = documented().build()

    template = workflow.to_definition()["steps"][0]["task_template"]

    assert (template["kind"], template["capabilities"]) == ("python", ["code_generation"])
    assert template["input"]["function"] == AGENT_FUNCTION
    assert template["input"]["kwargs"]["task"]["metadata"] == {
        "action": "build",
        "workflow_context": "{{ context }}",
        "workflow_variables": "{{ variables }}",
    }
    assert template["metadata"]["task.workflow_id"] == str(workflow.id)
    assert template["metadata"]["task.workflow_step_id"] == "step_1"
    announced = workflow.to_definition(kinds={"code_generation"})["steps"][0]["task_template"]
    assert (announced["kind"], "capabilities" in announced) == ("code_generation", False)
    assert announced["input"]["task"]["metadata"]["workflow_variables"] == "{{ variables }}"


def test_template_that_names_a_kind_is_a_submission_as_it_is() -> None:
    given = {"kind": "echo", "input": {"x": "{{ variables.x }}"}, "priority": "{{ variables.p }}"}
    workflow = WorkflowBuilder("w", "me").add_task_step("a", given).build()

    assert workflow.to_definition()["steps"][0]["task_template"] == given


def test_further_fields_of_a_step_come_from_its_configuration() -> None:
    compensation = [{"id": "undo_it", "step_type": "task", "task_template": {"kind": "echo"}}]
    configuration = {"on_failure": "compensate", "compensation": compensation}
    each = WorkflowStep(
        id="each",
        step_type=StepType.MAP,
        configuration={"items": [1, 2], "task_template": {"kind": "echo", "input": {"n": "{{ item }}"}}},
    )
    careful = WorkflowStep(id="careful", task_template=WORK, configuration=configuration)

    workflow = WorkflowBuilder("w", "me").add_step(each).add_step(careful).build()

    kinds = [type(step).__name__ for step in decode(workflow.to_definition()).steps]
    assert kinds == ["MapStep", "TaskStep"]


@pytest.mark.parametrize(
    ("build", "path"),
    [
        (lambda b: b, "definition.steps"),
        (lambda b: b.add_task_step("a", {}), "definition.steps[0].task_template"),
        (lambda b: b.add_task_step("a", {"colour": 1}), "definition.steps[0].task_template.colour"),
        (lambda b: b.add_task_step("a", {"priority": 9}), "definition.steps[0].task_template"),
        (lambda b: b.add_task_step("a", WORK, depends_on={"nobody"}), "definition.steps[0].depends_on[0]"),
        (lambda b: b.add_task_step("a", WORK, depends_on={"a"}), "definition.steps[0].depends_on[0]"),
        (
            lambda b: b.add_task_step("a", WORK, depends_on={"b"}).add_task_step("b", WORK, depends_on={"a"}),
            "definition.steps[0].depends_on",
        ),
        (lambda b: b.add_wait_step("w"), "definition.steps[0].wait_seconds"),
        (lambda b: b.add_wait_step("w", 1, "variables.x"), "definition.steps[0].wait_seconds"),
        (lambda b: b.add_parallel_step("p", []), "definition.steps[0].sub_steps"),
        (lambda b: b.add_parallel_step("p", [work("x"), work("x")]), "definition.steps[0].sub_steps[1].id"),
        (lambda b: b.add_conditional_step("c", "1 +", [work("x")]), "definition.steps[0].condition"),
        (lambda b: b.add_loop_step("l", "variables.x", [work("x")], 0), "definition.steps[0].max_iterations"),
        (lambda b: b.add_step(WorkflowStep(id="a.b", task_template=WORK)), "definition.steps[0].id"),
    ],
)
def test_bad_workflow_is_not_built_and_names_the_field(build: Any, path: str) -> None:
    with pytest.raises(BadWorkflow) as caught:
        build(WorkflowBuilder("w", "me")).build()

    assert path in [fault.path for fault in caught.value.faults]
    assert path in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("workflow", "names"),
    [
        (create_ci_cd_workflow("n", "me", "http://r"), ["build", "test", "deploy_check"]),
        (create_data_processing_workflow("n", "me", ["db1", "api1"]), ["data_extraction", "transform", "load"]),
        (create_code_review_workflow("n", "me", "http://pr"), ["automated_checks", "review_gate"]),
        (create_monitoring_workflow("n", "me", ["a.b/c", "ü", "a.b c"]), ["monitoring_loop"]),
    ],
)
def test_prebuilt_workflows_can_run(workflow: Workflow, names: list[str]) -> None:
    definition = workflow.to_definition()

    assert validate(definition) == []
    assert [step.name for step in workflow.steps] == names
    assert [step.id for step in workflow.steps] == [f"step_{number + 1}" for number in range(len(names))]
    body = msgspec.convert(msgspec.to_builtins(workflow.to_submission()), SubmitTask)
    assert (body.kind, body.task_id) == ("workflow", str(workflow.id))


def test_prebuilt_workflows_have_the_documented_steps() -> None:
    ci = WorkflowBuilder.create_ci_cd_workflow(name="n", created_by="me", repository_url="http://r")
    data = WorkflowBuilder.create_data_processing_workflow(name="n", created_by="me", data_sources=["db1", "f"])
    review = WorkflowBuilder.create_code_review_workflow(name="n", created_by="me", pull_request_url="http://pr")
    watch = WorkflowBuilder.create_monitoring_workflow(name="n", created_by="me", services=["db"])

    assert ci.steps[2].condition == WorkflowCondition(field="test_status", value="passed")
    assert [step.id for step in ci.steps[2].true_steps] == ["deploy"]
    assert [step.id for step in data.steps[0].sub_steps] == ["extract_0", "extract_1"]
    assert [step.id for step in review.steps[0].sub_steps] == ["lint_check", "security_check", "test_check"]
    assert [step.id for step in (*review.steps[1].true_steps, *review.steps[1].false_steps)] == [
        "human_review",
        "fix_issues",
    ]
    loop = watch.steps[0]
    assert loop.max_iterations == 1_000
    assert isinstance(loop.loop_condition, WorkflowCondition)
    assert loop.loop_condition.source is ConditionSource.VARIABLES
    assert loop.loop_steps[1].wait_seconds == 300


def test_workflow_without_sources_is_refused() -> None:
    with pytest.raises(BadWorkflow, match="sub_steps"):
        create_data_processing_workflow("n", "me", [])
