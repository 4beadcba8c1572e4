"""What is shown of a workflow's run."""

from services.gateway.workflows import _forgotten
from taskloom.domain.workflow.state import ROOT
from tests.unit.domain.workflow.runs import Run, step, task


def forgotten(run: Run) -> dict[str, str]:
    """Steps by path that ended within others, and are no longer among the nodes of the state."""
    body = run.state.plan.root
    seen = _forgotten("r", run.state, body, ROOT, over=False)
    return {each.path: each.status for each in seen if each.path not in run.state.nodes}


def test_steps_within_a_finished_step_are_still_shown_with_their_tasks() -> None:
    run = Run(step("both", "parallel", sub_steps=[task("a"), task("b")]), task("after", "both"))
    run.complete("both.a")
    assert forgotten(run) == {}
    run.complete("both.b")

    assert forgotten(run) == {"both.a": "completed", "both.b": "completed"}
    seen = {each.path: each.task_id for each in _forgotten("r", run.state, run.state.plan.root, ROOT, over=False)}
    assert seen["both.a"] == "r~both.a"


def test_only_the_branch_that_was_taken_is_shown() -> None:
    gate = step("gate", "conditional", condition=False, true_steps=[task("yes")], false_steps=[task("no")])
    run = Run(gate, task("after", "gate"))
    run.complete("gate.no")

    assert forgotten(run) == {"gate.no": "completed"}


def test_a_round_of_a_loop_does_not_show_what_the_round_before_did() -> None:
    checks = step("checks", "parallel", sub_steps=[task("a"), task("b")])
    run = Run(step("watch", "loop", loop_steps=[checks, task("note")], max_iterations=2))
    run.complete("watch.1.checks.a")
    run.complete("watch.1.checks.b")
    assert forgotten(run) == {"watch.1.checks.a": "completed", "watch.1.checks.b": "completed"}

    run.complete("watch.1.note")
    run.complete("watch.2.checks.a")

    assert forgotten(run) == {}
