"""The shapes of the four prebuilt workflows, with dependencies by name and conditions without a source."""

from typing import Any

from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from tests.unit.domain.workflow.runs import Run, step, task


def ci_cd() -> Run:
    passed = {"field": "test_status", "operator": "equals", "value": "passed"}
    check = step("step_3", "conditional", name="deploy_check", condition=passed, depends_on=["test"])
    return Run(
        task("step_1", name="build"),
        task("step_2", "build", name="test"),
        {**check, "true_steps": [task("step_4", name="deploy")]},
    )


def test_ci_cd_deploys_what_passed_its_tests() -> None:
    run = ci_cd()
    run.complete("step_1")
    run.complete("step_2", {"test_status": "passed"})
    assert run.live == ["step_3.step_4"]
    assert run.finish().state.status == "completed"


def test_ci_cd_does_not_deploy_what_failed_them() -> None:
    run = ci_cd()
    run.complete("step_1")
    run.complete("step_2", {"test_status": "failed"})
    assert run.replayed().state.status == "completed"
    assert run.scheduled == ["step_1", "step_2"]


def test_data_processing_transforms_when_all_sources_are_extracted() -> None:
    extracts = [task(f"extract_{n}") for n in range(3)]
    run = Run(
        step("step_1", "parallel", name="data_extraction", sub_steps=extracts),
        task("step_2", "data_extraction", name="transform", input={"from": "{{ result.sub_step_results }}"}),
        task("step_3", "transform", name="load"),
    )
    for n in (2, 0, 1):
        assert "step_2" not in run.scheduled
        run.complete(f"step_1.extract_{n}", f"rows {n}")
    assert run.inputs["step_2"] == {"from": {"extract_0": "rows 0", "extract_1": "rows 1", "extract_2": "rows 2"}}
    assert run.finish().scheduled[-1] == "step_3"


def test_a_review_goes_to_a_human_when_all_checks_passed() -> None:
    gate = {"field": "all_checks_passed", "operator": "equals", "value": True}
    branches: dict[str, Any] = {"true_steps": [task("human_review")], "false_steps": [task("fix_issues")]}
    for flag, wanted in ((True, "step_2.human_review"), (False, "step_2.fix_issues")):
        checks = [task("lint_check"), task("security_check"), task("test_check")]
        run = Run(
            step("step_1", "parallel", name="automated_checks", sub_steps=checks),
            step("step_2", "conditional", condition=gate, depends_on=["automated_checks"], **branches),
        )
        run.complete("step_1.lint_check")
        run.complete("step_1.test_check", {"variables": {"all_checks_passed": flag}})
        run.complete("step_1.security_check")
        assert run.live == [wanted]


def test_monitoring_goes_round_until_it_is_switched_off() -> None:
    active = {"field": "monitoring_active", "operator": "equals", "value": True, "source": "variables"}
    body = [
        step("checks", "parallel", sub_steps=[task("db"), task("web")]),
        step("pause", "wait", wait_seconds=300),
    ]
    run = Run(
        step("watch", "loop", loop_condition=active, loop_steps=body, max_iterations=1000),
        variables={"monitoring_active": True},
    )
    for n in (1, 2, 3):
        run.complete(f"watch.{n}.checks.db")
        run.complete(f"watch.{n}.checks.web")
        assert run.live == []
        if n == 3:
            run.when(h.PatchVariables({"monitoring_active": False}))
        run.pass_time(300)
    assert run.replayed().state.status == "completed"
    assert run.of(e.LoopRound)[-1] == e.LoopRound("watch", 4, False, run.of(e.LoopRound)[0].limit)
