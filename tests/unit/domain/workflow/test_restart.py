"""A run that ended badly goes on where it failed: what was done is not done again, and it ends as if undisturbed."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskloom.domain.refusals import Refusal
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.advance import restart
from taskloom.domain.workflow.evolve import evolve_run, fold_run, open_run
from taskloom.domain.workflow.state import ENDED, MAX_RESTARTS
from tests.unit.domain.workflow.runs import BOOM, Run, loaded, step, task


def test_what_completed_stays_and_what_failed_runs_again() -> None:
    run = Run(task("a"), task("b", "a"), task("c", "b", input={"n": "{{ steps.b.result.n }}"}))
    run.complete("a", {"variables": {"x": 1}})
    run.fail("b")
    assert run.status_word == "failed"
    run.retry()
    assert run.history[-2:] == [e.WorkflowRetried(1, "failed", ("b", "c")), run.history[-1]]
    assert (run.live, run.lives["b"], run.status("a")) == (["b"], 1, "completed")
    assert dict(run.state.variables) == {"x": 1}
    run.complete("b", {"n": 7})
    assert run.inputs["c"] == {"n": 7}
    run.finish()
    assert run.status_word == "completed"
    assert run.scheduled == ["a", "b", "b", "c"]


def test_the_end_of_a_task_that_was_given_up_changes_nothing() -> None:
    run = Run(task("a"))
    run.when(h.Break(BOOM))
    run.retry()
    assert run.lives["a"] == 1
    assert run.when(h.ChildEnded("a", "completed", "late")) == []
    run.complete("a", "new")
    assert run.result["results"] == {"a": "new"}
    run.replayed()


def test_a_map_runs_only_the_items_again_that_failed() -> None:
    run = Run(step("m", "map", items=[1, 2, 3, 4], task_template={"kind": "echo", "input": {"n": "{{ item }}"}}))
    run.complete("m.0", "zero")
    run.fail("m.1")
    run.complete("m.2", "two")
    run.fail("m.3")
    assert run.status_word == "failed"
    run.retry()
    assert run.live == ["m.1", "m.3"]
    assert run.inputs["m.3"] == {"n": 4}
    run.finish(lambda path, _: path)
    assert run.result["results"]["m"] == {"count": 4, "results": ["zero", "m.1", "two", "m.3"], "errors": []}


def test_a_map_keeps_its_limit_and_goes_on_behind_what_it_had_started() -> None:
    body = [task("x"), task("y")]
    run = Run(step("m", "map", items=[1, 2, 3], map_steps=body, max_parallel=1, fail_fast=True))
    run.complete("m.0.x")
    run.complete("m.0.y", "first")
    run.complete("m.1.x")
    run.fail("m.1.y")
    assert run.status_word == "failed"
    run.retry()
    assert run.live == ["m.1.y"]
    run.finish()
    assert run.scheduled == ["m.0.x", "m.0.y", "m.1.x", "m.1.y", "m.1.y", "m.2.x", "m.2.y"]
    assert run.status_word == "completed"


def test_items_that_were_set_back_and_never_began_are_not_forgotten_by_the_next_retry() -> None:
    first = step("s", "sequential", sub_steps=[step("c", "checkpoint"), task("x")])
    wide = step("m", "map", items=[1], task_template={"kind": "echo"})
    run = Run(first, wide, max_parallel_tasks=1)
    assert run.live == ["m.0"]
    run.when(h.Cancel())
    run.child_cancelled("m.0")
    run.retry()
    assert run.live == ["s.x"], "it has the only place, and the item waits for it"
    run.when(h.Cancel())
    run.child_cancelled("s.x")
    run.retry()
    run.finish(lambda path, _: path)
    assert run.result["results"]["m"]["results"] == ["m.0"]


def test_a_loop_goes_on_in_its_round() -> None:
    run = Run(step("l", "loop", max_iterations=3, loop_steps=[task("x"), task("y", input={"n": "{{ iteration }}"})]))
    run.complete("l.1.x")
    run.complete("l.1.y", 1)
    run.complete("l.2.x")
    run.fail("l.2.y")
    run.retry()
    assert run.live == ["l.2.y"]
    run.finish(lambda path, _: path)
    assert [one["iteration"] for one in run.result["results"]["l"]["loop_results"]] == [1, 2, 3]
    assert run.scheduled.count("l.1.x") == run.scheduled.count("l.2.x") == 1


def test_a_conditional_stays_in_its_branch_and_a_parallel_step_keeps_what_completed() -> None:
    inner = step("p", "parallel", sub_steps=[task("x"), task("y")])
    run = Run(step("c", "conditional", condition="variables.go", true_steps=[inner]), variables={"go": True})
    run.complete("c.p.x", "kept")
    run.fail("c.p.y")
    run.retry()
    assert run.live == ["c.p.y"]
    run.finish()
    assert len(run.of(e.BranchTaken)) == 1
    assert run.result["results"]["c"]["results"]["p"]["sub_step_results"] == {"x": "kept", "y": None}


def test_waits_signals_and_approvals_begin_again() -> None:
    run = Run(
        step("ask", "approval"),
        step("sig", "signal", signal="go"),
        step("wait", "wait", wait_seconds=9),
    )
    run.when(h.Decide("ask", False, "ann"))
    run.when(h.Cancel())
    assert run.status_word == "cancelled"
    run.retry()
    assert [event.path for event in run.of(e.ApprovalRequested)] == ["ask", "ask"]
    run.when(h.Decide("ask", True, "ann"))
    run.when(h.Signal("go", 1))
    run.finish()
    assert run.status_word == "completed"


def test_a_child_workflow_goes_on_in_its_own_run() -> None:
    child = {"name": "inner", "steps": [task("x")]}
    run = Run(step("c", "child", definition=child), task("b", "c"))
    run.fail("c")
    run.retry()
    assert run.of(e.StepRetried) == [e.StepRetried("c", 0)]
    assert run.live == ["c"]
    run.finish()
    assert run.scheduled == ["c", "b"]


def test_a_child_that_could_not_go_on_is_submitted_anew_at_the_next_retry() -> None:
    run = Run(step("c", "child", definition={"name": "inner", "steps": [task("x")]}))
    run.fail("c")
    run.retry()
    run.live.remove("c")
    run.when(run.ended("c", "refused", error=BOOM))
    assert run.status_word == "failed"
    run.retry()
    assert (run.live, run.lives["c"]) == (["c"], 2)
    run.finish()


def test_a_failure_that_the_workflow_went_on_with_stays() -> None:
    run = Run(task("a", on_failure="continue"), task("b", "a"))
    run.fail("a")
    run.fail("b")
    run.retry()
    assert run.live == ["b"]
    run.finish()
    assert (run.state.status, run.status("a")) == ("completed", "failed")


def test_failure_steps_run_again_when_it_fails_again() -> None:
    run = Run(task("a"), failure_steps=[task("tell")])
    run.fail("a")
    run.complete("on_failure.tell")
    run.retry()
    run.fail("a")
    run.complete("on_failure.tell")
    assert run.status_word == "failed"
    run.replayed()


def test_what_was_undone_is_begun_from_the_start_alone() -> None:
    run = Run(task("a", compensation=[task("u")]), task("b", "a"), on_failure="compensate", variables={"x": 0})
    run.complete("a", {"variables": {"x": 1}})
    run.fail("b")
    run.complete("a.undo.u")
    refusal = restart(run.state, "failed", run.now)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.field) == ("conflict", "from")
    assert "1 of the workflow's steps was undone" in refusal.message
    run.retry("start")
    assert (run.live, dict(run.state.variables)) == (["a"], {"x": 0})
    run.finish()
    assert run.status_word == "completed"
    assert run.state.undo_count == 1, "the step of this life alone would be undone"


def test_a_run_is_retried_only_so_often() -> None:
    run = Run(task("a"))
    for _ in range(MAX_RESTARTS):
        run.fail("a")
        run.retry()
    run.fail("a")
    refusal = restart(run.state, "start", run.now)
    assert isinstance(refusal, Refusal)
    assert f"retried {MAX_RESTARTS} times" in refusal.message


def test_the_time_limit_counts_from_the_retry() -> None:
    run = Run(step("w", "wait", wait_seconds=100), timeout_seconds=50)
    run.pass_time(50)
    assert run.status_word == "timed_out"
    run.retry()
    [event] = run.of(e.WorkflowRetried)
    assert (event.due_at - run.now).total_seconds() == 50
    run.pass_time(50)
    assert run.status_word == "timed_out"
    run.replayed()


def test_expressions_do_not_see_the_life_before() -> None:
    run = Run(task("a"), task("b", "a", input={"seen": "{{ exists(steps.c.status) }}"}), task("c"))
    run.fail("c")
    run.fail("a")
    run.retry()
    run.complete("a")
    assert run.inputs["b"] == {"seen": False}


class _Ids:
    def __init__(self) -> None:
        self.n = 0

    def new(self) -> str:
        self.n += 1
        return f"x{self.n}"


def _step(draw: st.DrawFn, ids: _Ids, depth: int) -> dict[str, Any]:
    kinds = ["task", "task", "wait", "checkpoint", "approval", "signal", "child", "map_task"]
    inner = ["parallel", "sequential", "conditional", "loop", "map"] if depth else []
    kind, name = draw(st.sampled_from([*kinds, *inner])), ids.new()
    if kind == "task":
        return task(
            name, input={"v": "{{ variables.v }}"}, compensation=[task(ids.new())] if draw(st.booleans()) else []
        )
    if kind == "map_task":
        items = list(range(draw(st.integers(0, 3))))
        template = {"kind": "echo", "input": {"i": "{{ item }}"}}
        return step(name, "map", items=items, task_template=template, max_parallel=draw(st.integers(1, 3)))
    fields: dict[str, Any] = {
        "wait": {"wait_seconds": 1},
        "signal": {"signal": "go"},
        "child": {"definition": {"name": "inner", "steps": [task("only")]}},
    }
    if kind in inner:
        body = [_step(draw, ids, depth - 1) for _ in range(draw(st.integers(1, 3)))]
        fields = {
            "parallel": {"sub_steps": body, "fail_fast": draw(st.booleans())},
            "sequential": {"sub_steps": body},
            "conditional": {"condition": True, "true_steps": body},
            "loop": {"max_iterations": draw(st.integers(1, 3)), "loop_steps": body},
            "map": {"items": [1, 2], "map_steps": body, "max_parallel": 1, "fail_fast": draw(st.booleans())},
        }
    return step(name, kind, **fields.get(kind, {}))


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    ids = _Ids()
    steps = [_step(draw, ids, 2) for _ in range(draw(st.integers(1, 3)))]
    for at in range(1, len(steps)):
        if draw(st.booleans()):
            steps[at]["depends_on"] = [steps[at - 1]["id"]]
    definition = {
        "max_parallel_tasks": draw(st.integers(1, 4)),
        "fail_fast": draw(st.booleans()),
        "variables": {"v": 1},
    }
    return {"steps": steps, **definition}


def made(definition: dict[str, Any]) -> Run:
    return Run(*definition["steps"], **{name: value for name, value in definition.items() if name != "steps"})


def go(run: Run, data: st.DataObject | None, failures: int) -> None:
    """Children complete, approvals are given and signals sent, until the run ends; some of it goes wrong instead."""
    for _ in range(600):
        if run.state.status in ENDED:
            return
        moves = [*run.live, *(f"!{path}" for path in sorted(run.state.approvals.place_of))]
        if run.state.listeners:
            moves.append("?go")
        if run.due() is not None:
            moves.append("?clock")
        assert moves, "nothing could ever happen again, and the run has not ended"
        move = moves[0] if data is None else data.draw(st.sampled_from(moves))
        if data is not None and failures and not run.state.stopping:
            wrong = data.draw(st.sampled_from(["", "", "", "fail", "cancel", "break"]))
            if wrong == "cancel":
                run.when(h.Cancel())
                failures = 0
                continue
            if wrong == "break":
                run.when(h.Break(BOOM))
                return
            if wrong == "fail" and move in run.live:
                run.fail(move)
                failures -= 1
                continue
            if wrong == "fail" and move.startswith("!"):
                run.when(h.Decide(move[1:], False))
                failures -= 1
                continue
        if move == "?clock":
            run.now = max(run.now, run.due() or run.now)
            run.when(h.TimerDue())
        elif move == "?go":
            run.when(h.Signal("go", {"from": "outside"}))
        elif move.startswith("!"):
            run.when(h.Decide(move[1:], True))
        elif run.state.nodes[move].stopping:
            run.child_cancelled(move)
        else:
            run.complete(move, {"path": move})
    raise AssertionError("the run does not end")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(definitions(), st.data())
def test_wherever_it_failed_a_retry_leads_to_the_end_of_an_undisturbed_run(definition: Any, data: Any) -> None:
    undisturbed = made(definition)
    go(undisturbed, None, 0)
    assert undisturbed.state.status == "completed"
    run = made(definition)
    for _ in range(data.draw(st.integers(1, 4))):
        go(run, data, data.draw(st.integers(1, 3)))
        if run.status_word == "completed":
            break
        assert fold_run(open_run(run.input), run.history) == run.state
        run.state = loaded(run.input, run.state)
        run.retry()
        assert run.status_word == "running" or run.state.status in ENDED
    go(run, None, 0)
    run.replayed()
    assert run.status_word == "completed"
    assert run.result == undisturbed.result
    assert run.state.undo_count == undisturbed.state.undo_count
    assert run.due() is None
    done: set[str] = set()
    for event in run.history:
        if isinstance(event, e.StepScheduled | e.StepRetried):
            assert event.path not in done, "what completed is not executed again"
        elif isinstance(event, e.StepCompleted):
            done.add(event.path)
    each = open_run(run.input)
    for event in run.history:
        each = evolve_run(each, event)
    assert each == run.state


@pytest.mark.parametrize("kind", ["parallel", "sequential"])
def test_a_long_life_leaves_no_trace_of_what_failed(kind: str) -> None:
    """A body that fails in a tolerated way is forgotten, so that a run's state does not grow with its failures."""
    inner = step("p", kind, sub_steps=[task("x")], on_failure="continue")
    run = Run(step("l", "loop", max_iterations=50, loop_steps=[inner]))
    sizes = []
    while run.state.status not in ENDED:
        run.fail(run.live[0])
        sizes.append(len(run.state.nodes) + len(run.state.frames))
    assert max(sizes) <= 8
