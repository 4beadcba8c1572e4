"""What a run may hold, and what it says when that is too much; how much one decision may do."""

from typing import Any

import pytest

from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.advance import advance
from taskloom.domain.workflow.check import validate_input
from taskloom.domain.workflow.means import ROOM, Means
from taskloom.domain.workflow.sizes import MAX_TASK_BYTES, MAX_TEXT_BYTES, MAX_VALUE_BYTES, MAX_VARIABLES_BYTES
from taskloom.domain.workflow.state import AT_ONCE, MAX_KEPT_SIGNAL_BYTES
from tests.unit.domain.workflow.runs import Run, step, task

HALF = "x" * (MAX_VARIABLES_BYTES // 2 + 1)


def error_of(run: Run) -> ErrorInfo:
    assert run.end is not None
    assert run.end.error is not None
    return run.end.error


def test_variables_that_do_not_fit_fail_the_step_and_name_the_largest() -> None:
    run = Run(task("a"), task("b", "a"))
    run.complete("a", {"variables": {"first": HALF}})
    run.complete("b", {"variables": {"small": 1, "second": HALF}})
    assert (error_of(run).type, "'second' has" in error_of(run).message) == ("TooLarge", True)
    assert dict(run.replayed().state.variables) == {"first": HALF}


def test_a_variable_that_replaces_itself_counts_once() -> None:
    run = Run(task("a"), task("b", "a"))
    run.complete("a", {"variables": {"v": HALF}})
    run.complete("b", {"variables": {"v": HALF}})
    assert run.replayed().state.status == "completed"


def test_a_client_cannot_set_more_variables_than_fit() -> None:
    run = Run(task("a"))
    run.when(h.PatchVariables({"a": HALF}))
    refused = run.refused(h.PatchVariables({"b": HALF}))
    assert (refused.code, refused.field) == ("conflict", "values")


def test_a_definition_with_too_many_variables_is_refused() -> None:
    definition = {"name": "w", "steps": [task("a")], "variables": {"a": HALF}}
    faults = validate_input({"definition": definition, "variables": {"b": HALF}})
    assert [fault.path for fault in faults] == ["input.variables"]
    assert validate_input({"definition": definition}) == []


def test_signals_are_kept_up_to_their_bytes() -> None:
    run = Run(task("a"), step("s", "signal", signal="go", depends_on=["a"]))
    run.when(h.Signal("go", "x" * (MAX_KEPT_SIGNAL_BYTES - 100)))
    assert run.refused(h.Signal("go", "y" * 100)).field == "payload"
    run.complete("a")
    assert run.replayed().state.kept_signal_bytes == 0


def many_times(count: int) -> Any:
    """A value that is small in the definition and large once it is filled in."""
    return ["{{ big }}"] * count


@pytest.mark.parametrize(
    "made",
    [
        task("a", input={"all": many_times(70)}),
        step("a", "map", items=[1], task_template={"kind": "echo", "input": {"all": many_times(70)}}),
        step("a", "map", items="[[big, big, big, big, big]]", task_template={"kind": "echo"}),
        step("a", "child", definition={"name": "i", "steps": [task("x")]}, variables={"all": many_times(5)}),
        step("a", "approval", message="{{ big }}"),
    ],
    ids=["task", "item", "items", "child", "approval"],
)
def test_a_step_whose_filled_in_fields_are_too_large_fails_and_says_what_to_do(made: dict[str, Any]) -> None:
    run = Run(made, variables={"big": "x" * (MAX_TASK_BYTES // 4)})
    assert (run.replayed().state.status, error_of(run).type) == ("failed", "TooLarge")
    limits = {"approval": MAX_TEXT_BYTES, "task": MAX_VALUE_BYTES}
    limit = (
        MAX_VALUE_BYTES if "input" in made.get("task_template", {}) else limits.get(made["step_type"], MAX_TASK_BYTES)
    )
    assert f"{limit} are allowed" in error_of(run).message


def test_an_output_that_is_too_large_fails_the_run() -> None:
    run = Run(step("c", "checkpoint"), output=many_times(70), variables={"big": "x" * (MAX_TASK_BYTES // 4)})
    assert (run.replayed().state.status, error_of(run).type) == ("failed", "TooLarge")


def test_a_decision_without_room_takes_down_what_happened_and_is_due_at_once() -> None:
    run = Run(task("a"), task("b", "a"))
    run.live.remove("a")
    decision = advance(run.state, h.ChildEnded("a", "completed"), run.now, Means(room=0))
    assert decision == [e.StepCompleted("a", None)]
    run._take(decision)
    assert run.due() == AT_ONCE
    run.when(h.TimerDue())
    assert run.scheduled == ["a", "b"]


def test_a_condition_is_looked_at_although_there_is_no_room() -> None:
    """Nothing in the state would say that it has still to be looked at."""
    run = Run(step("w", "wait", wait_condition={"field": "x", "operator": "equals", "value": 1}), task("a"))
    decision = advance(run.state, h.PatchVariables({"x": 1}), run.now, Means(room=0))
    assert isinstance(decision, list)
    assert [type(event) for event in decision] == [e.VariablesMerged, e.StepCompleted]


def test_a_wide_map_is_stopped_in_parts_and_each_item_is_asked_once() -> None:
    items = list(range(3 * ROOM))
    run = Run(step("m", "map", items=items, task_template={"kind": "echo"}), max_parallel_tasks=len(items))
    while len(run.live) < len(items):
        run.when(h.TimerDue())
    assert len(run.when(h.Cancel("enough"))) <= ROOM + 3
    assert run.due() == AT_ONCE
    run.child_cancelled("m.149")
    while len(run.cancelled) < len(items) - 1:
        assert run.due() == AT_ONCE
        assert len(run.when(h.TimerDue())) <= ROOM
    assert run.due() is None
    for path in list(run.live):
        run.child_cancelled(path)
    assert run.replayed().state.status == "cancelled"
    assert len(set(run.cancelled)) == len(run.cancelled)


def test_a_run_that_cannot_go_on_fails_as_it_stands() -> None:
    run = Run(task("a"), task("b"), task("c", "a", "b"), failure_steps=[task("z")])
    run.complete("b")
    run.when(h.Break(ErrorInfo("Broken", "no way", retryable=False)))
    assert (run.cancelled, run.scheduled, error_of(run).message) == (["a"], ["a", "b"], "no way")
    assert advance(run.state, h.ChildEnded("a", "cancelled"), run.now) == []
    assert run.replayed().due() is None
