"""Each kind of step: what starts, what it gives, and which decision is on record."""

from datetime import timedelta
from typing import Any

from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.testing.clock import START
from tests.unit.domain.workflow.runs import Run, step, task


def test_a_step_starts_when_what_it_depends_on_is_done() -> None:
    run = Run(task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c"))
    assert run.live == ["a"]
    run.complete("a")
    assert run.live == ["b", "c"]
    run.complete("c")
    assert run.live == ["b"]
    run.complete("b")
    assert run.live == ["d"]
    run.complete("d")
    assert run.state.status == "completed"
    run.replayed()


def test_a_step_may_be_named_by_its_name() -> None:
    assert Run(task("step_1", name="build"), task("step_2", "build")).live == ["step_1"]


def test_no_more_tasks_run_than_max_parallel_tasks() -> None:
    run = Run(*(task(f"s{n}") for n in range(5)), max_parallel_tasks=2)
    assert run.live == ["s0", "s1"]
    run.complete("s1")
    assert run.live == ["s0", "s2"]
    assert run.finish().state.status == "completed"


def test_a_task_gets_its_input_from_templates_and_its_variables_flow_back() -> None:
    wish = {"whole": "{{ variables.n }}", "text": "n is {{ n }}", "from": "{{ steps.a.result.path }}"}
    run = Run(task("a"), task("b", "a", input=wish), variables={"n": 1})
    events = run.complete("a", {"path": "/tmp", "variables": {"n": 2}})
    assert events[0] == e.VariablesMerged({"n": 2}, "a")
    assert run.inputs["b"] == {"whole": 2, "text": "n is 2", "from": "/tmp"}
    run.complete("b", "done")
    assert run.result == {
        "variables": {"n": 2},
        "results": {"a": {"path": "/tmp", "variables": {"n": 2}}, "b": "done"},
    }


def test_a_template_that_names_nothing_fails_its_step_with_the_reason() -> None:
    run = Run(task("a", input={"x": [{"y": "{{ variables.nothing }}"}]})).replayed()
    assert run.state.status == "failed"
    assert run.end is not None
    assert run.end.error is not None
    assert run.end.error.message == "step a: task_template.input.x[0].y: variables.nothing is not there"


def test_a_filled_in_template_that_is_no_submission_fails_its_step() -> None:
    template = {"kind": "echo", "priority": {"from": "{{ variables.x }}"}}
    run = Run(step("a", "task", task_template=template), variables={"x": 1})
    assert run.state.status == "failed"
    assert run.state.error is not None
    assert "$.priority" in run.state.error.message


def test_parallel_sub_steps_run_at_once_and_give_their_results_together() -> None:
    run = Run(step("p", "parallel", sub_steps=[task("x"), task("y")]), task("z", "p"))
    assert run.live == ["p.x", "p.y"]
    run.complete("p.y", 2)
    run.complete("p.x", 1)
    assert run.live == ["z"]
    assert run.finish().result["results"]["p"] == {"sub_step_results": {"x": 1, "y": 2}}


def test_sequential_sub_steps_run_one_after_the_other() -> None:
    run = Run(step("s", "sequential", sub_steps=[task("x"), task("y", input={"before": "{{ result }}"})]))
    assert run.live == ["s.x"]
    run.complete("s.x", 5)
    assert run.live == ["s.y"]
    assert run.inputs["s.y"] == {"before": 5}
    assert run.finish().result["results"]["s"] == {"sub_step_results": {"x": 5, "y": None}}


def branches(**fields: Any) -> dict[str, Any]:
    return step("c", "conditional", depends_on=["test"], true_steps=[task("yes")], **fields)


DEPLOY = {"field": "test_status", "operator": "equals", "value": "passed"}


def test_a_condition_without_a_source_looks_at_variables_then_at_the_last_result() -> None:
    for result in ({"test_status": "passed"}, {"variables": {"test_status": "passed"}}):
        run = Run(task("test"), branches(condition=DEPLOY, false_steps=[task("no")]))
        events = run.complete("test", result)
        assert e.BranchTaken("c", True, 1) in events
        assert run.live == ["c.yes"]
        assert run.finish().result["results"]["c"] == {"condition_result": True, "results": {"yes": None}}


def test_the_other_branch_may_be_empty() -> None:
    run = Run(task("test"), branches(condition=DEPLOY), task("after", "c"))
    run.complete("test", {"test_status": "failed"})
    assert run.live == ["after"]
    assert run.finish().result["results"]["c"] == {"condition_result": False, "results": {}}


def test_a_loop_runs_while_its_condition_holds() -> None:
    more = {"field": "left", "operator": "greater_than", "value": 0}
    body = [task("x", input={"round": "{{ iteration }}"})]
    run = Run(step("l", "loop", loop_condition=more, loop_steps=body), variables={"left": 3})
    assert run.live == ["l.1.x"]
    run.finish(lambda _path, wish: {"variables": {"left": 3 - wish["round"]}})
    assert run.scheduled == ["l.1.x", "l.2.x", "l.3.x"]
    assert run.of(e.LoopRound)[-1] == e.LoopRound("l", 4, False, 100)
    result = run.result["results"]["l"]
    assert (result["iterations"], result["condition_ended"]) == (3, True)
    assert [one["iteration"] for one in result["loop_results"]] == [1, 2, 3]


def test_a_loop_ends_at_its_limit() -> None:
    run = Run(step("l", "loop", max_iterations=3, loop_steps=[task("x")])).finish()
    assert run.scheduled == ["l.1.x", "l.2.x", "l.3.x"]
    assert run.result["results"]["l"]["condition_ended"] is False


def test_a_loop_without_a_limit_ends_after_a_hundred_rounds() -> None:
    endless = {"field": "never", "operator": "not_equals", "value": 1}
    run = Run(step("l", "loop", loop_condition=endless, loop_steps=[step("c", "checkpoint")])).finish()
    assert run.result["results"]["l"]["iterations"] == 100


def test_a_loop_condition_sees_the_result_of_the_round_before() -> None:
    again = {"not": {"field": "done", "operator": "equals", "value": True, "source": "result"}}
    run = Run(step("l", "loop", loop_condition=again, loop_steps=[task("x")]))
    run.complete("l.1.x", {"done": False})
    run.complete("l.2.x", {"done": True})
    assert run.state.status == "completed"


def test_a_wait_ends_at_its_time_and_not_before() -> None:
    run = Run(step("w", "wait", wait_seconds="variables.pause * 2"), task("a", "w"), variables={"pause": 30})
    assert run.due() == START + timedelta(seconds=60)
    assert run.pass_time(59) == []
    run.pass_time(1)
    assert run.live == ["a"]
    assert run.finish().result["results"]["w"] == {"wait_completed": True}


def test_a_wait_for_a_condition_ends_when_a_variable_makes_it_true() -> None:
    run = Run(step("w", "wait", wait_condition={"field": "approved", "operator": "equals", "value": True}))
    assert run.due() is None
    run.when(h.PatchVariables({"approved": False}))
    assert run.status("w") == "waiting"
    run.when(h.PatchVariables({"approved": True}))
    assert run.replayed().state.status == "completed"


def test_a_wait_whose_condition_holds_already_ends_at_once() -> None:
    assert Run(step("w", "wait", wait_condition="1 < 2")).state.status == "completed"


def test_a_map_runs_a_task_for_each_item_and_keeps_the_order_of_the_results() -> None:
    items = step(
        "m",
        "map",
        items="variables.files",
        max_parallel=2,
        task_template={"kind": "echo", "input": {"file": "{{ item }}", "at": "{{ index }}"}},
    )
    run = Run(items, variables={"files": ["a", "b", "c"]})
    assert run.live == ["m.0", "m.1"]
    run.complete("m.1", "B")
    assert run.live == ["m.0", "m.2"]
    assert run.inputs["m.2"] == {"file": "c", "at": 2}
    run.finish(lambda _path, wish: wish["file"].upper())
    assert run.result["results"]["m"] == {"count": 3, "results": ["A", "B", "C"], "errors": []}


def test_a_map_over_nothing_completes_at_once() -> None:
    run = Run(step("m", "map", items=[], task_template={"kind": "echo"}))
    assert run.state.status == "completed"


def test_a_map_may_run_a_body_for_each_item() -> None:
    body = [task("x", input={"i": "{{ item.n }}"}), task("y", input={"x": "{{ steps.x.result }}"})]
    run = Run(step("m", "map", items=[{"n": 1}, {"n": 2}], map_steps=body))
    assert run.live == ["m.0.x", "m.1.x"]
    run.complete("m.1.x", "second")
    assert run.inputs["m.1.y"] == {"x": "second"}
    run.finish(lambda path, _wish: path)
    results = [one["sub_step_results"] for one in run.result["results"]["m"]["results"]]
    assert results == [{"x": "m.0.x", "y": "m.0.y"}, {"x": "second", "y": "m.1.y"}]


def test_a_child_workflow_is_a_task_with_its_definition_pinned() -> None:
    inner = {"name": "inner", "steps": [task("i")]}
    run = Run(step("c", "child", definition=inner, variables={"n": "{{ variables.n }}"}), variables={"n": 7})
    assert run.inputs["c"] == {"definition": inner, "variables": {"n": 7}, "context": {}}
    run.complete("c", {"variables": {"n": 8}, "results": {}})
    assert run.result["variables"] == {"n": 7}
    assert run.result["results"]["c"]["variables"] == {"n": 8}


def test_a_signal_that_came_early_is_kept_for_its_step() -> None:
    run = Run(task("a"), step("s", "signal", signal="go", depends_on=["a"]))
    run.when(h.Signal("go", {"by": "ann", "variables": {"go": 1}}))
    assert run.state.kept_signals == 1
    run.complete("a")
    assert run.replayed().state.status == "completed"
    assert run.result["results"]["s"]["by"] == "ann"
    assert run.result["variables"] == {"go": 1}
    assert run.state.kept_signals == 0


def test_signals_go_to_the_steps_in_the_order_in_which_they_wait() -> None:
    run = Run(step("s", "signal", signal="go"), step("t", "signal", signal="go"))
    run.when(h.Signal("other"))
    run.when(h.Signal("go", 1))
    assert (run.status("s"), run.status("t")) == ("completed", "waiting")
    run.when(h.Signal("go", 2))
    assert run.replayed().result["results"] == {"s": 1, "t": 2}


def test_a_signal_step_gives_up_at_its_limit() -> None:
    run = Run(step("s", "signal", signal="go", timeout_seconds=5))
    run.pass_time(5)
    assert run.state.status == "failed"
    assert run.state.error is not None
    assert run.state.error.type == "Timeout"


def test_an_approval_holds_until_one_of_the_approvers_decides() -> None:
    run = Run(step("ok", "approval", message="deploy {{ v }}?", approvers=["ann"]), task("a", "ok"), variables={"v": 2})
    assert run.of(e.ApprovalRequested) == [e.ApprovalRequested("ok", "deploy 2?", ("ann",))]
    assert "not among the approvers" in run.refused(h.Decide("ok", True, by="bob")).message
    run.when(h.Decide("ok", True, by="ann", comment="fine"))
    assert run.live == ["a"]
    assert "no approval" in run.refused(h.Decide("ok", True, by="ann")).message
    assert run.finish().result["results"]["ok"] == {"approved": True, "by": "ann", "comment": "fine"}


def test_a_rejection_fails_the_workflow_unless_it_may_go_on() -> None:
    run = Run(step("ok", "approval"))
    run.when(h.Decide("ok", False, by="ann", comment="no"))
    assert run.state.status == "failed"
    assert run.state.error is not None
    assert run.state.error.message == "rejected by ann: no"
    run = Run(step("ok", "approval", on_reject="continue"), task("a", "ok"))
    run.when(h.Decide("ok", False))
    assert run.live == ["a"]


def test_an_approval_nobody_decides_on_ends_as_its_definition_says() -> None:
    for outcome, status in (("fail", "failed"), ("reject", "failed"), ("approve", "completed")):
        run = Run(step("ok", "approval", timeout_seconds=60, on_timeout=outcome))
        run.pass_time(60)
        assert run.replayed().state.status == status
        assert [event.outcome for event in run.of(e.ApprovalExpired)] == [outcome]


def test_the_output_template_is_the_result() -> None:
    run = Run(task("a"), output={"n": "{{ steps.a.result.n + 1 }}"})
    run.complete("a", {"n": 1})
    assert run.replayed().result == {"n": 2}
