"""The steps of the prebuilt workflows. Their tasks are of task types, so they run on agents that have these
capabilities, or as commands where the caller gives some.

Conditions name no source: a task sets what they look at by its result, as ``{"test_status": "passed"}`` for the step
after it, or for all later ones as ``{"variables": {"test_status": "passed"}}``.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

Step = dict[str, Any]

MONITORING_ROUNDS: Final = 1_000
MONITORING_PAUSE_S: Final = 300
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9_\-:]")


class Plan(Struct, frozen=True):
    """``steps`` are those of a definition, but that a ``task_template`` holds the fields of a task of the task API.

    ``checked_by``: variables that hold once the steps of these ids have run as commands, which fail the run else.
    """

    steps: list[Step]
    variables: dict[str, Any] = {}
    checked_by: tuple[tuple[frozenset[str], dict[str, Any]], ...] = ()


def ci_cd(repository_url: str) -> Plan:
    """build, then test, then deploy when ``test_status`` is passed."""
    where = {"repository_url": repository_url}
    deploy = _task("deploy", "Deploy Application", "deployment", where | {"environment": "production"})
    build = _task("step_1", "Build Application", "code_generation", where | {"action": "build"}, step="build")
    test = _task("step_2", "Run Tests", "testing", where | {"test_type": "unit"}, "build", step="test")
    check = {
        **_step("step_3", "conditional", "deploy_check", "test"),
        "condition": _equals("test_status", "passed"),
        "true_steps": [deploy],
    }
    return Plan([build, test, check], checked_by=((frozenset({"step_2"}), {"test_status": "passed"}),))


def data_processing(data_sources: Sequence[str]) -> Plan:
    """Extracts all sources side by side, then transforms, then loads into the data warehouse."""
    extracts = [
        _task(f"extract_{index}", f"Extract Data from {source}", "custom", {"action": "extract", "data_source": source})
        for index, source in enumerate(data_sources)
    ]
    extraction = {
        **_step("step_1", "parallel", "data_extraction"),
        "description": "Extracts data from all sources side by side",
        "sub_steps": extracts,
    }
    work = {"action": "transform", "sources": list(data_sources)}
    transform = _task("step_2", "Transform Data", "custom", work, "data_extraction", step="transform")
    into = {"action": "load", "destination": "data_warehouse"}
    load = _task("step_3", "Load Data", "custom", into, "transform", step="load")
    return Plan([extraction, transform, load])


def code_review(pull_request_url: str) -> Plan:
    """Checks side by side, then a human review when ``all_checks_passed`` is true, else the issues are fixed.

    No check knows of the others. So let the variable be true before the run, and a check that finds something set it to
    false.
    """
    url = {"pr_url": pull_request_url}
    checks = {
        **_step("step_1", "parallel", "automated_checks"),
        "description": "Runs the automated checks side by side",
        "sub_steps": [
            _task("lint_check", "Run Linting", "code_analysis", url | {"check_type": "lint"}),
            _task("security_check", "Security Analysis", "code_analysis", url | {"check_type": "security"}),
            _task("test_check", "Run Tests", "testing", url | {"test_type": "all"}),
        ],
    }
    human = url | {"review_type": "human"}
    gate = {
        **_step("step_2", "conditional", "review_gate", "automated_checks"),
        "condition": _equals("all_checks_passed", True),
        "true_steps": [_task("human_review", "Manual Code Review", "code_review", human)],
        "false_steps": [_task("fix_issues", "Fix Issues", "code_generation", url | {"action": "fix_issues"})],
    }
    all_checks = frozenset({"lint_check", "security_check", "test_check"})
    return Plan([checks, gate], checked_by=((all_checks, {"all_checks_passed": True}),))


def monitoring(
    services: Sequence[str], interval_s: float = MONITORING_PAUSE_S, max_rounds: int = MONITORING_ROUNDS
) -> Plan:
    """Checks the health of all services side by side every ``interval_s``, while the variable ``monitoring_active`` is
    true, which it is at first; at most ``max_rounds`` times."""
    checks = [
        _task(
            f"health_check_{index}_{_NOT_IN_IDS.sub('-', service)}"[:64],
            f"Check {service} Health",
            "monitoring",
            {"service": service, "check_type": "health"},
        )
        for index, service in enumerate(services)
    ]
    loop = {
        **_step("step_1", "loop", "monitoring_loop"),
        "loop_condition": {**_equals("monitoring_active", True), "source": "variables"},
        "loop_steps": [
            {**_step("parallel_health_checks", "parallel"), "sub_steps": checks},
            {**_step("wait_interval", "wait"), "wait_seconds": interval_s},
        ],
        "max_iterations": max_rounds,
    }
    return Plan([loop], {"monitoring_active": True})


def _step(step_id: str, step_type: str, name: str = "", *depends_on: str) -> Step:
    told = {"id": step_id, "step_type": step_type, "name": name, "depends_on": list(depends_on)}
    return {field: value for field, value in told.items() if value}


def _task(step_id: str, task: str, task_type: str, metadata: dict[str, Any], *depends_on: str, step: str = "") -> Step:
    """A step named ``step`` that runs a task of that name."""
    template = {"name": task, "task_type": task_type, "metadata": metadata}
    return {**_step(step_id, "task", step or task, *depends_on), "task_template": template}


def _equals(field: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": "equals", "value": value}
