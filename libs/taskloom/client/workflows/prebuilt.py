"""Workflows for common purposes. Their tasks are of task types, so they run on agents that have these capabilities.

Conditions name no source: a task sets what they look at by its result, as ``{"test_status": "passed"}`` for the step
after it, or for all later ones as ``{"variables": {"test_status": "passed"}}``.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from taskloom.client.tasks.task import TaskType
from taskloom.client.workflows.steps import (
    ConditionOperator,
    ConditionSource,
    StepType,
    WorkflowCondition,
    WorkflowStep,
)
from taskloom.client.workflows.workflow import Workflow

MONITORING_ROUNDS: Final = 1_000
MONITORING_PAUSE_S: Final = 300
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9_\-:]")


def create_ci_cd_workflow(name: str, created_by: str, repository_url: str) -> Workflow:
    """build, then test, then deploy when ``test_status`` is passed."""
    where = {"repository_url": repository_url}
    deploy = _task("deploy", "Deploy Application", TaskType.DEPLOYMENT, where | {"environment": "production"})
    build = _task("step_1", "Build Application", TaskType.CODE_GENERATION, where | {"action": "build"}, step="build")
    test = _task("step_2", "Run Tests", TaskType.TESTING, where | {"test_type": "unit"}, "build", step="test")
    check = WorkflowStep(
        id="step_3",
        name="deploy_check",
        step_type=StepType.CONDITIONAL,
        depends_on={"test"},
        condition=_equals("test_status", "passed"),
        true_steps=[deploy],
    )
    return _checked(name, created_by, [build, test, check])


def create_data_processing_workflow(name: str, created_by: str, data_sources: Sequence[str]) -> Workflow:
    """Extracts all sources side by side, then transforms, then loads into the data warehouse."""
    extracts = [
        _task(
            f"extract_{index}", f"Extract Data from {source}", TaskType.CUSTOM, _action("extract", data_source=source)
        )
        for index, source in enumerate(data_sources)
    ]
    extraction = WorkflowStep(
        id="step_1",
        name="data_extraction",
        description="Extracts data from all sources side by side",
        step_type=StepType.PARALLEL,
        sub_steps=extracts,
    )
    work = _action("transform", sources=list(data_sources))
    transform = _task("step_2", "Transform Data", TaskType.CUSTOM, work, "data_extraction", step="transform")
    into = _action("load", destination="data_warehouse")
    load = _task("step_3", "Load Data", TaskType.CUSTOM, into, "transform", step="load")
    return _checked(name, created_by, [extraction, transform, load])


def create_code_review_workflow(name: str, created_by: str, pull_request_url: str) -> Workflow:
    """Checks side by side, then a human review when ``all_checks_passed`` is true, else the issues are fixed.

    No check knows of the others. So let the variable be true before the run (``workflow.variables``), and a check that
    finds something set it to false.
    """
    url = {"pr_url": pull_request_url}
    checks = WorkflowStep(
        id="step_1",
        name="automated_checks",
        description="Runs the automated checks side by side",
        step_type=StepType.PARALLEL,
        sub_steps=[
            _task("lint_check", "Run Linting", TaskType.CODE_ANALYSIS, url | {"check_type": "lint"}),
            _task("security_check", "Security Analysis", TaskType.CODE_ANALYSIS, url | {"check_type": "security"}),
            _task("test_check", "Run Tests", TaskType.TESTING, url | {"test_type": "all"}),
        ],
    )
    human = url | {"review_type": "human"}
    gate = WorkflowStep(
        id="step_2",
        name="review_gate",
        step_type=StepType.CONDITIONAL,
        depends_on={"automated_checks"},
        condition=_equals("all_checks_passed", True),
        true_steps=[_task("human_review", "Manual Code Review", TaskType.CODE_REVIEW, human)],
        false_steps=[_task("fix_issues", "Fix Issues", TaskType.CODE_GENERATION, url | _action("fix_issues"))],
    )
    return _checked(name, created_by, [checks, gate])


def create_monitoring_workflow(name: str, created_by: str, services: Sequence[str]) -> Workflow:
    """Checks the health of all services side by side every five minutes, while the variable ``monitoring_active`` is
    true, which it is at first; at most 1,000 times."""
    checks = [
        _task(
            f"health_check_{index}_{_NOT_IN_IDS.sub('-', service)}"[:64],
            f"Check {service} Health",
            TaskType.MONITORING,
            {"service": service, "check_type": "health"},
        )
        for index, service in enumerate(services)
    ]
    loop = WorkflowStep(
        id="step_1",
        name="monitoring_loop",
        step_type=StepType.LOOP,
        loop_condition=_equals("monitoring_active", True, ConditionSource.VARIABLES),
        loop_steps=[
            WorkflowStep(id="parallel_health_checks", step_type=StepType.PARALLEL, sub_steps=checks),
            WorkflowStep(id="wait_interval", step_type=StepType.WAIT, wait_seconds=MONITORING_PAUSE_S),
        ],
        max_iterations=MONITORING_ROUNDS,
    )
    return _checked(name, created_by, [loop], variables={"monitoring_active": True})


def _task(
    step_id: str, task: str, task_type: TaskType, metadata: dict[str, Any], *depends_on: str, step: str = ""
) -> WorkflowStep:
    """A step named ``step`` that runs a task of that name."""
    template = {"name": task, "task_type": task_type.value, "metadata": metadata}
    return WorkflowStep(id=step_id, name=step or task, task_template=template, depends_on=set(depends_on))


def _action(action: str, **metadata: Any) -> dict[str, Any]:
    return {"action": action, **metadata}


def _equals(field: str, value: Any, source: ConditionSource | None = None) -> WorkflowCondition:
    return WorkflowCondition(field=field, operator=ConditionOperator.EQUALS, value=value, source=source)


def _checked(name: str, created_by: str, steps: list[WorkflowStep], **fields: Any) -> Workflow:
    workflow = Workflow(name=name, created_by=created_by, steps=steps, **fields)
    workflow.validate()
    return workflow
