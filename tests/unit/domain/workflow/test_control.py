"""Pause, resume, cancel, time limits, variables, checkpoints."""

from datetime import timedelta

from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.means import ROOM
from taskloom.domain.workflow.results import Held, checkpoint, held_by
from taskloom.domain.workflow.state import AT_ONCE, MAX_KEPT_SIGNALS
from taskloom.testing.clock import START
from tests.unit.domain.workflow.runs import Run, step, task


def test_a_paused_run_starts_nothing_until_it_is_resumed() -> None:
    run = Run(task("a"), task("b", "a"))
    run.when(h.Pause("lunch"))
    assert run.refused(h.Pause()).state == "paused"
    assert run.complete("a") == [e.StepCompleted("a")]
    assert run.due() is None
    assert held_by(run.state) == [Held("", "paused")]
    run.when(h.Resume())
    assert run.live == ["b"]
    assert "not paused" in run.refused(h.Resume()).message
    run.finish()


def test_a_timer_that_passed_in_a_pause_fires_when_it_is_over() -> None:
    run = Run(step("w", "wait", wait_seconds=10), task("a", "w"))
    run.when(h.Pause())
    assert run.pass_time(20) == []
    run.when(h.Resume())
    assert run.live == ["a"]


def test_a_cancel_stops_children_and_ends_when_all_of_them_have() -> None:
    nested = step("p", "parallel", sub_steps=[task("x"), step("l", "loop", max_iterations=9, loop_steps=[task("y")])])
    maps = step("m", "map", items=[1, 2, 3], max_parallel=2, task_template={"kind": "echo"})
    run = Run(nested, maps, step("s", "signal", signal="go"), task("later", "p"))
    run.when(h.Cancel("enough"))
    assert sorted(run.cancelled) == ["m.0", "m.1", "p.l.1.y", "p.x"]
    assert run.when(h.Cancel("again")) == []
    assert (run.status("s"), run.status("later")) == ("cancelled", "skipped")
    run.complete("p.x")
    for path in list(run.live):
        assert run.end is None
        run.child_cancelled(path)
    assert run.history[-1] == e.WorkflowCancelled("enough")
    assert run.replayed().state.running == 0
    assert run.refused(h.Cancel()).state == "cancelled"


def test_a_paused_run_can_be_cancelled() -> None:
    run = Run(task("a"), task("b", "a"))
    run.when(h.Pause())
    run.when(h.Cancel())
    assert held_by(run.state) == [Held("a", "task", restart=0)]
    run.child_cancelled("a")
    assert run.replayed().state.status == "cancelled"


def test_a_cancel_without_children_ends_at_once() -> None:
    run = Run(step("w", "wait", wait_seconds=60))
    run.when(h.Cancel())
    assert run.replayed().state.status == "cancelled"
    assert run.due() is None


def test_a_cancel_ends_a_compensation_too() -> None:
    run = Run(task("a", compensation=[task("back")]), task("b", "a"), on_failure="compensate")
    run.complete("a")
    run.fail("b")
    run.when(h.Cancel())
    assert run.cancelled == ["a.undo.back"]
    run.child_cancelled("a.undo.back")
    assert run.replayed().state.status == "cancelled"


def test_a_workflow_past_its_limit_is_stopped_and_timed_out() -> None:
    run = Run(task("a"), timeout_seconds=60)
    assert run.due() == START + timedelta(seconds=60)
    run.pass_time(60)
    assert run.cancelled == ["a"]
    run.child_cancelled("a")
    assert run.history[-1] == e.WorkflowTimedOut(60.0)
    assert run.replayed().end is not None


def test_a_run_keeps_a_bounded_number_of_signals() -> None:
    run = Run(task("a"))
    for n in range(MAX_KEPT_SIGNALS):
        run.when(h.Signal(f"s{n % 7}"))
    assert run.refused(h.Signal("one more")).field == "name"


def test_long_work_goes_on_in_parts() -> None:
    run = Run(step("l", "loop", max_iterations=ROOM, loop_steps=[step("c", "checkpoint")]))
    assert ROOM <= len(run.history) <= ROOM + 5
    assert run.due() == AT_ONCE
    run.finish()
    assert run.result["results"]["l"]["iterations"] == ROOM


def test_a_new_run_can_start_from_a_checkpoint() -> None:
    steps = [task("a"), step("c", "checkpoint", depends_on=["a"]), task("b", "c", input={"n": "{{ n }}"})]
    first = Run(*steps)
    first.complete("a", {"variables": {"n": 5}})
    assert first.of(e.CheckpointSaved) == [e.CheckpointSaved("c")]
    saved = checkpoint(first.state)
    assert saved["steps"]["b"]["status"] == "running"
    second = Run(*steps, checkpoint=saved)
    assert second.scheduled == ["b"]
    assert second.inputs["b"] == {"n": 5}
    assert second.finish().result["results"]["a"] == {"variables": {"n": 5}}
