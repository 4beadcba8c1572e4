"""Random workflows with random ends, interruptions and orders: the promises that hold for all of them."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.advance import advance
from taskloom.domain.workflow.evolve import fold_run, open_run
from taskloom.domain.workflow.state import ENDED
from tests.unit.domain.workflow.runs import Run, step, task


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    size = draw(st.integers(1, 12))
    steps = []
    for at in range(size):
        needs = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        rule = draw(st.sampled_from(["fail", "continue", "compensate"]))
        undo = [task(f"u{at}")] if draw(st.booleans()) else []
        steps.append(task(f"s{at}", *(f"s{n}" for n in sorted(needs)), on_failure=rule, compensation=undo))
    return steps


class _Ids:
    def __init__(self) -> None:
        self.n = 0

    def new(self) -> str:
        self.n += 1
        return f"x{self.n}"


def _leaf(draw: st.DrawFn, ids: _Ids) -> dict[str, Any]:
    kind = draw(st.sampled_from(["task", "task", "wait", "checkpoint", "signal", "approval"]))
    name = ids.new()
    extra: dict[str, dict[str, Any]] = {
        "wait": {"wait_seconds": draw(st.integers(0, 3))},
        "signal": {"signal": "go", "timeout_seconds": 9, "on_timeout": "continue"},
        "approval": {"timeout_seconds": 9, "on_timeout": draw(st.sampled_from(["approve", "fail", "reject"]))},
    }
    return task(name) if kind == "task" else step(name, kind, **extra.get(kind, {}))


def _step(draw: st.DrawFn, ids: _Ids, depth: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(["leaf", "leaf", "parallel", "sequential", "conditional", "loop", "map", "map_task"]))
    if kind == "leaf" or depth == 0:
        made = _leaf(draw, ids)
    elif kind == "map_task":
        items = list(range(draw(st.integers(0, 4))))
        made = step(ids.new(), "map", items=items, task_template={"kind": "echo"}, allow_failures=draw(st.booleans()))
    else:
        body = [_step(draw, ids, depth - 1) for _ in range(draw(st.integers(1, 3)))]
        fields: dict[str, dict[str, Any]] = {
            "parallel": {"sub_steps": body, "fail_fast": draw(st.booleans())},
            "sequential": {"sub_steps": body},
            "conditional": {"condition": draw(st.booleans()), "true_steps": body},
            "loop": {"max_iterations": draw(st.integers(1, 3)), "loop_steps": body},
            "map": {"items": [1, 2], "map_steps": body, "max_parallel": 1, "fail_fast": draw(st.booleans())},
        }
        made = step(ids.new(), kind, **fields[kind])
    made["on_failure"] = draw(st.sampled_from(["fail", "fail", "continue", "compensate"]))
    if draw(st.integers(0, 3)) == 0:
        made["compensation"] = [task(ids.new())]
    return made


@st.composite
def workflows(draw: st.DrawFn) -> Run:
    ids = _Ids()
    steps = [_step(draw, ids, 2) for _ in range(draw(st.integers(1, 3)))]
    for at in range(1, len(steps)):
        if draw(st.booleans()):
            steps[at]["depends_on"] = [steps[at - 1]["id"]]
    return Run(
        *steps,
        max_parallel_tasks=draw(st.integers(1, 4)),
        fail_fast=draw(st.booleans()),
        on_failure=draw(st.sampled_from(["fail", "compensate"])),
        failure_steps=[task(ids.new())] if draw(st.booleans()) else [],
        timeout_seconds=draw(st.sampled_from([None, 2, 500])),
    )


ENDS = ("completed", "failed", "cancelled", "timed_out")
STEP_ENDS = (e.StepCompleted, e.StepFailed, e.StepSkipped, e.StepCancelled, e.StepRestored)


def _play(run: Run, data: st.DataObject, *, ends: tuple[str, ...], interrupt: bool) -> None:
    """Children end in any order; now and then something else happens; at last the clock runs out."""
    for _ in range(400):
        if run.state.status in ENDED:
            return
        assert run.state.running == len(run.live) <= run.state.plan.definition.max_parallel_tasks
        moves = [*run.live, *(["clock"] if run.due() is not None else [])]
        if interrupt:
            moves += ["signal", "variables", "pause" if not run.state.paused else "resume", "cancel"]
        if run.state.paused and not run.live:
            moves = ["resume"]
        assert moves, "nothing could ever happen again, and the run has not ended"
        move = data.draw(st.sampled_from(moves))
        if move == "clock":
            run.now = max(run.now, run.due() or run.now)
            run.when(h.TimerDue())
        elif move == "pause":
            if not run.state.stopping:
                run.when(h.Pause())
        elif move in ("signal", "variables", "resume", "cancel"):
            happenings: dict[str, h.Happening] = {
                "signal": h.Signal("go"),
                "variables": h.PatchVariables({"x": 1}),
                "resume": h.Resume(),
                "cancel": h.Cancel(),
            }
            if move != "cancel" or data.draw(st.integers(0, 9)) == 0:
                run.when(happenings[move])
        else:
            run.live.remove(move)
            run.when(h.ChildEnded(move, data.draw(st.sampled_from(ends))))
    while run.state.status not in ENDED:
        if run.state.paused:
            run.when(h.Resume())
        run.finish()


def _each_ended_once(run: Run) -> None:
    begun = {}
    for at, event in enumerate(run.history):
        if isinstance(event, (e.StepScheduled, e.StepStarted, e.BranchTaken, e.WaitStarted, e.SignalAwaited)):
            assert event.path not in begun, "a step begins once"
            begun[event.path] = at
    ended: dict[str, int] = {}
    for at, event in enumerate(run.history):
        if isinstance(event, STEP_ENDS):
            assert event.path not in ended, f"{event.path} ended twice"
            ended[event.path] = at
    assert all(path in ended and ended[path] > at for path, at in begun.items())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.data())
def test_a_graph_runs_to_its_end_in_the_order_of_its_dependencies(steps: list[dict[str, Any]], data: Any) -> None:
    run = Run(*steps, max_parallel_tasks=data.draw(st.integers(1, 3)))
    _play(run, data, ends=("completed", "completed", "completed", "failed"), interrupt=False)
    run.replayed()
    _each_ended_once(run)
    ended = {event.path: at for at, event in enumerate(run.history) if isinstance(event, STEP_ENDS)}
    begun = {event.path: at for at, event in enumerate(run.history) if isinstance(event, e.StepScheduled)}
    done = {event.path for event in run.of(e.StepCompleted)} | {one.path for one in run.of(e.StepFailed) if one.handled}
    for one in steps:
        assert one["id"] in ended, "each step ends, if only by being skipped"
        if one["id"] in begun:
            assert all(need in done and ended[need] < begun[one["id"]] for need in one["depends_on"])
    unhandled = [event for event in run.of(e.StepFailed) if not event.handled]
    assert (run.state.status == "completed") == (not unhandled)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(workflows(), st.data())
def test_any_workflow_ends_once_and_its_replay_gives_the_same_state(run: Run, data: Any) -> None:
    _play(run, data, ends=ENDS, interrupt=True)
    run.replayed()
    _each_ended_once(run)
    assert run.end is not None
    assert run.end.outcome == run.state.status
    assert run.state.running == 0
    assert not run.live
    assert run.due() is None


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(workflows(), st.data())
def test_a_decision_on_a_replayed_state_is_the_one_that_was_taken(run: Run, data: Any) -> None:
    _play(run, data, ends=ENDS, interrupt=True)
    bounds = [*(before for before, _, _ in run.decisions), len(run.history)]
    for at, (before, happening, now) in enumerate(run.decisions):
        replayed = fold_run(open_run(run.input), run.history[:before])
        assert advance(replayed, happening, now) == run.history[before : bounds[at + 1]]
