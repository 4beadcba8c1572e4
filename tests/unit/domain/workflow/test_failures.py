"""Failures, what they skip and stop, and compensation."""

from typing import Any

from msgspec import structs

from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from tests.unit.domain.workflow.runs import BOOM, Run, step, task


def undoable(step_id: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    undo = task(f"undo_{step_id}", input={"of": "{{ compensated }}"})
    return task(step_id, *depends_on, compensation=[undo], **fields)


def test_a_failed_step_skips_what_depends_on_it_and_fails_the_workflow_once_the_rest_is_done() -> None:
    run = Run(task("a"), task("b", "a"), task("c", "b"), task("free"))
    run.fail("a")
    assert [(one.path, one.reason) for one in run.of(e.StepSkipped)] == [("b", "a failed"), ("c", "b skipped")]
    assert not run.of(e.WorkflowFailed)
    run.complete("free")
    assert run.end is not None
    assert (run.end.outcome, run.end.error) == ("failed", structs.replace(BOOM, message="step a: boom"))
    assert run.replayed().state.failed_at == "a"


def test_fail_fast_cancels_the_rest_at_once() -> None:
    run = Run(task("a"), task("b"), task("c", "b"), step("w", "wait", wait_seconds=60), fail_fast=True)
    run.fail("a")
    assert run.cancelled == ["b"]
    assert (run.status("c"), run.status("w")) == ("skipped", "cancelled")
    assert not run.of(e.WorkflowFailed), "b still runs"
    run.child_cancelled("b")
    assert run.end is not None
    assert run.end.error == structs.replace(BOOM, message="step a: boom")
    run.replayed()


def test_continue_treats_a_failure_as_done() -> None:
    run = Run(task("a", on_failure="continue"), task("b", "a", input={"why": "{{ steps.a.error }}"}))
    run.fail("a")
    assert run.inputs["b"] == {"why": "boom"}
    assert run.finish().state.status == "completed"


def test_a_failure_in_a_body_fails_its_step_and_a_sequence_stops_there() -> None:
    run = Run(step("s", "sequential", sub_steps=[task("x"), task("y")], on_failure="continue"), task("z", "s"))
    run.fail("s.x")
    assert run.live == ["z"]
    assert run.of(e.StepSkipped) == [e.StepSkipped("s.y", "x failed")]
    assert run.of(e.StepFailed)[-1] == e.StepFailed("s", BOOM, handled=True)
    assert run.finish().state.status == "completed"


def test_a_failing_round_ends_the_loop() -> None:
    run = Run(step("l", "loop", max_iterations=5, loop_steps=[task("x")]))
    run.complete("l.1.x")
    run.fail("l.2.x")
    assert run.replayed().state.status == "failed"
    assert run.scheduled == ["l.1.x", "l.2.x"]


def test_a_map_runs_its_other_items_before_it_fails() -> None:
    run = Run(step("m", "map", items=[1, 2, 3], max_parallel=1, task_template={"kind": "echo"}))
    run.fail("m.0")
    assert run.live == ["m.1"]
    assert run.finish().state.error == BOOM
    assert run.scheduled == ["m.0", "m.1", "m.2"]


def test_a_fail_fast_map_starts_no_further_item() -> None:
    run = Run(step("m", "map", items=list(range(9)), max_parallel=2, fail_fast=True, task_template={"kind": "echo"}))
    run.fail("m.0")
    assert run.cancelled == ["m.1"]
    run.child_cancelled("m.1")
    assert run.scheduled == ["m.0", "m.1"]
    assert run.replayed().state.status == "failed"


def test_a_map_may_allow_failures() -> None:
    run = Run(step("m", "map", items=[1, 2], task_template={"kind": "echo"}, allow_failures=True))
    run.fail("m.1")
    run.complete("m.0", "ok")
    result = run.replayed().result["results"]["m"]
    assert result == {"count": 2, "results": ["ok", None], "errors": [{"index": 1, "error": "boom"}]}


def test_an_item_whose_input_cannot_be_made_fails_alone() -> None:
    template = {"kind": "echo", "input": {"x": "{{ item.x }}"}}
    run = Run(step("m", "map", items=[{"x": 1}, {}], task_template=template, allow_failures=True))
    assert run.live == ["m.0"]
    run.complete("m.0")
    assert run.replayed().state.status == "completed"
    assert run.state.running == 0


def test_a_compensated_workflow_undoes_what_completed_last_first() -> None:
    run = Run(undoable("a"), undoable("b", "a"), undoable("c", "b"), on_failure="compensate")
    run.complete("a", "A")
    run.complete("b", "B")
    run.fail("c")
    assert e.CompensationStarted(2) in run.history
    assert run.live == ["b.undo.undo_b"]
    assert run.inputs["b.undo.undo_b"] == {"of": "B"}
    run.complete("b.undo.undo_b")
    assert run.inputs["a.undo.undo_a"] == {"of": "A"}
    run.complete("a.undo.undo_a")
    assert run.history[-1] == e.WorkflowFailed(BOOM, "c", 2)
    run.replayed()


def test_without_that_wish_nothing_is_undone() -> None:
    run = Run(undoable("a"), task("b", "a"))
    run.complete("a")
    run.fail("b")
    assert run.history[-1] == e.WorkflowFailed(BOOM, "b", 0)


def test_a_step_may_demand_compensation_which_stops_the_rest_first() -> None:
    run = Run(undoable("a"), task("b", "a", on_failure="compensate"), task("c", "a"))
    run.complete("a", 1)
    run.fail("b")
    assert run.cancelled == ["c"]
    assert not run.of(e.CompensationStarted)
    run.child_cancelled("c")
    assert run.live == ["a.undo.undo_a"]
    run.finish()
    assert run.history[-1] == e.WorkflowFailed(BOOM, "b", 1)


def test_a_failed_compensation_does_not_keep_the_others_from_being_undone() -> None:
    run = Run(undoable("a"), undoable("b", "a"), task("c", "b"), on_failure="compensate")
    run.complete("a")
    run.complete("b")
    run.fail("c", ErrorInfo("C", "c"))
    run.fail("b.undo.undo_b")
    run.complete("a.undo.undo_a")
    assert run.of(e.StepCompensated) == [e.StepCompensated("b", BOOM), e.StepCompensated("a")]
    assert run.history[-1] == e.WorkflowFailed(ErrorInfo("C", "c"), "c", 1)


def test_a_compensation_in_a_map_knows_its_item() -> None:
    body = [task("x", compensation=[task("back", input={"item": "{{ item }}", "at": "{{ index }}"})])]
    maps = step("m", "map", items=["p", "q"], map_steps=body, max_parallel=1)
    run = Run(maps, task("after", "m"), on_failure="compensate")
    run.complete("m.0.x")
    run.complete("m.1.x")
    run.fail("after")
    assert run.inputs["m.1.x.undo.back"] == {"item": "q", "at": 1}
    run.finish()
    assert run.inputs["m.0.x.undo.back"] == {"item": "p", "at": 0}


def test_failure_steps_run_before_a_failed_workflow_ends() -> None:
    run = Run(task("a"), failure_steps=[task("tell")])
    run.fail("a")
    assert run.live == ["on_failure.tell"]
    run.complete("on_failure.tell")
    assert run.replayed().history[-1] == e.WorkflowFailed(BOOM, "a", 0)
    assert not Run(task("a"), failure_steps=[task("tell")]).finish().of(e.FailureStepsStarted)


def test_a_child_that_somebody_cancelled_fails_its_step() -> None:
    run = Run(task("a"))
    run.child_cancelled("a")
    assert run.state.error is not None
    assert run.state.error.type == "Cancelled"


def test_the_end_of_a_child_counts_once() -> None:
    run = Run(task("a"), task("b"))
    run.complete("a", 1)
    assert run.when(h.ChildEnded("a", "failed", error=BOOM)) == []
    assert run.when(h.ChildEnded("nobody", "completed")) == []
    run.complete("b")
    assert run.when(h.ChildEnded("b", "completed")) == []
