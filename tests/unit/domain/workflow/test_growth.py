"""Long runs: time and memory stay in proportion to the work, and the state does not keep the history."""

import time
import tracemalloc
from typing import Any

import pytest

from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.advance import advance, start
from taskloom.domain.workflow.evolve import fold_run, open_run
from taskloom.domain.workflow.state import KEPT_ROUNDS, RunState, next_due
from taskloom.testing.clock import START
from tests.unit.domain.workflow.runs import step, task


def play(definition: dict[str, Any], answer: Any = None) -> tuple[RunState, int]:
    """Runs to the end as cheaply as a shell would; gives the last state and the number of events."""
    state = open_run({"definition": {"name": "long", **definition}})
    events, live, count = start(state, START), list[str](), 0
    while True:
        state, count = fold_run(state, events), count + len(events)
        live += [event.path for event in events if isinstance(event, e.StepScheduled)]
        if live:
            happening: h.Happening = h.ChildEnded(live.pop(), "completed", answer)
        elif next_due(state) is not None:
            happening = h.TimerDue()
        else:
            return state, count
        decision = advance(state, happening, START)
        assert isinstance(decision, list)
        events = decision


def wide(items: int) -> dict[str, Any]:
    template = {"kind": "echo", "input": {"item": "{{ item }}"}}
    return {"steps": [step("m", "map", items=list(range(items)), task_template=template)], "max_parallel_tasks": 100}


def long(rounds: int) -> dict[str, Any]:
    again = {"field": "x", "operator": "not_equals", "value": 1}
    return {"steps": [step("l", "loop", loop_condition=again, max_iterations=rounds, loop_steps=[task("a")])]}


def bodies(items: int) -> dict[str, Any]:
    body = [step("w", "wait", wait_seconds=0), step("c", "checkpoint")]
    return {"steps": [step("m", "map", items=list(range(items)), map_steps=body)]}


def deep(items: int) -> dict[str, Any]:
    """One step that waits for many."""
    steps = [task(f"s{n}") for n in range(items)]
    return {"steps": [*steps, task("last", *(f"s{n}" for n in range(items)))]}


CASES = {"map": (wide, 10_000), "loop": (long, 5_000), "bodies": (bodies, 4_000), "join": (deep, 1_900)}


@pytest.mark.parametrize("name", CASES)
def test_time_is_linear(name: str) -> None:
    make, size = CASES[name]

    def seconds(n: int) -> float:
        definition = make(n)
        before = time.process_time()
        state, count = play(definition)
        assert state.status == "completed"
        assert count >= n
        return time.process_time() - before

    small, large = (min(seconds(each) for _ in range(3)) for each in (size // 4, size))
    # Four times the work takes four times as long, were it quadratic sixteen times. The margin: a busy machine.
    assert large < 10 * small + 0.2, f"{size // 4}: {small:.3f} s, {size}: {large:.3f} s"


def test_a_map_of_10_000_items_keeps_their_results_and_nothing_else() -> None:
    state, _ = play(wide(10_000), answer={"ok": True})
    assert (len(state.nodes), len(state.frames), state.running) == (1, 1, 0)
    assert state.nodes["m"].result["count"] == 10_000
    assert state.nodes["m"].data is None


def test_a_loop_of_5_000_rounds_keeps_the_last_hundred() -> None:
    state, _ = play(long(5_000))
    result = state.nodes["l"].result
    assert (result["iterations"], len(result["loop_results"])) == (5_000, KEPT_ROUNDS)
    assert result["loop_results"][-1]["iteration"] == 5_000
    assert (len(state.nodes), len(state.frames)) == (1, 1)


def test_a_longer_loop_takes_no_more_memory() -> None:
    def peak(rounds: int) -> int:
        definition = long(rounds)
        play(definition)
        tracemalloc.start()
        play(definition)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(1_600) < 1.5 * peak(400)


def test_the_items_of_a_long_map_come_in_events_of_a_fair_size() -> None:
    state = open_run({"definition": {"name": "long", **wide(2_000)}})
    chunks = [event for event in start(state, START) if isinstance(event, e.MapExpanded)]
    assert [(one.offset, one.total, len(one.items)) for one in chunks] == [
        (at, 2_000, 500) for at in range(0, 2_000, 500)
    ]
    big = {"steps": [step("m", "map", items=["x" * 30_000] * 5, task_template={"kind": "echo"})]}
    chunks = [
        event
        for event in start(open_run({"definition": {"name": "b", **big}}), START)
        if isinstance(event, e.MapExpanded)
    ]
    assert [len(one.items) for one in chunks] == [1] * 5
