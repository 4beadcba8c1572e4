"""Snapshots of runs: what is read back is the state, and goes on as the state would."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.evolve import fold_run, open_run
from taskloom.domain.workflow.values import Ref
from tests.unit.domain.workflow.runs import Run, loaded, step, task
from tests.unit.domain.workflow.test_random_runs import ENDS, _play, workflows


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(workflows(), st.data())
def test_a_snapshot_and_the_events_after_it_give_the_same_state_as_all_events(run: Run, data: Any) -> None:
    _play(run, data, ends=ENDS, interrupt=True)
    for at in sorted(data.draw(st.sets(st.integers(1, len(run.history)), min_size=1, max_size=4))):
        before = fold_run(open_run(run.input), run.history[:at])
        again = loaded(run.input, before)
        assert again == before
        assert fold_run(again, run.history[at:]) == run.state


def test_every_kind_of_step_under_way_comes_back() -> None:
    inner = [task("t1"), task("t2")]
    run = Run(
        step("p", "parallel", sub_steps=[task("a"), task("b")]),
        step("c", "conditional", condition=False, true_steps=[task("yes")], false_steps=[task("no")]),
        step("l", "loop", max_iterations=3, loop_steps=[task("r")]),
        step("m", "map", items=[{"k": n} for n in range(4)], map_steps=inner, max_parallel=2),
        step("n", "map", items=[1, 2, 3], task_template={"kind": "echo"}, allow_failures=True),
        step("w", "wait", wait_seconds=60),
        step("x", "wait", wait_condition=False, timeout_seconds=90),
        step("s", "signal", signal="go", timeout_seconds=30),
        step("o", "approval"),
        step("u", "sequential", sub_steps=[task("v", compensation=[task("back")]), task("y")]),
        max_parallel_tasks=20,
        timeout_seconds=900,
    )
    run.when(h.Signal("early", {"x": 1}))
    run.complete("l.1.r", {"n": 1})
    run.fail("n.0")
    run.complete("m.0.t1")
    run.complete("u.v")
    state = loaded(run.input, run.replayed().state)
    assert state.nodes["m.1"].plan is state.plan.root.by_id["m"].item


def test_references_come_back_as_such_and_objects_that_look_like_their_marks_as_objects() -> None:
    run = Run(task("a"), task("b"), task("c"), task("d"))
    run.complete("b", {"$ref": ["sha256:1", 3]})
    run.complete("c", {"x": [{"$ref": {"y": 1}}]})
    run.state = fold_run(run.state, [e.StepCompleted("a", {"$claim": f"sha256:{'0' * 64}", "bytes": 70_000})])
    state = loaded(run.input, run.state)
    assert state == run.state
    assert state.nodes["a"].result == Ref(f"sha256:{'0' * 64}", 70_000)
    assert state.nodes["b"].result == {"$ref": ["sha256:1", 3]}


def test_a_compensation_under_way_comes_back() -> None:
    run = Run(task("a", compensation=[task("back")]), task("b", "a"), on_failure="compensate")
    run.complete("a", {"n": 1})
    run.fail("b")
    assert run.live == ["a.undo.back"]
    run.replayed()
    run.complete("a.undo.back")
    run.replayed()


def test_failure_steps_under_way_come_back() -> None:
    run = Run(task("a"), failure_steps=[task("z"), task("zz")])
    run.fail("a")
    run.complete("on_failure.z")
    run.replayed()
