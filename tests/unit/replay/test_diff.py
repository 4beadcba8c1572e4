from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.task import commands as c
from taskloom.domain.task.forking import merge_patch
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as w
from taskloom.domain.workflow.events import AnyWorkflowEvent
from taskloom.replay.diff import MAX_SHOWN_CHARS, MAX_STEPS, compare
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask
from taskloom.wire.recorded import GENESIS, seal

JSON = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def task(*commands: c.TaskCommand, **fields: Any) -> list[Recorded]:
    made = GivenTask()
    made.when(c.SubmitTask(**{"kind": "echo", **fields}))
    for command in commands:
        made.when(command, after_s=1.0)
    return made.history


def run(*events: AnyWorkflowEvent) -> list[Recorded]:
    definition = {"name": "p", "steps": [{"step_type": "checkpoint", "id": "c"}]}
    history = task(kind="workflow", input={"definition": definition})[:2]
    for event in events:
        meta = EventMeta("task-1", len(history) + 1, START, "default", "", "")
        history.append(seal(event, meta, GENESIS))
    return history


def test_fields_are_named_by_their_path_and_large_values_are_cut() -> None:
    found = compare(
        task(input={"a": {"b": 1}, "list": [{"x": 1}]}, tags=["x"]),
        task(input={"a": {"b": 2}, "list": [{"x": 1}, {"x": 2}], "long": "x" * 1000}, name="n"),
    )
    fields = {field.path: (field.a, field.b) for field in found.fields}
    long = fields.pop("input.long")[1]
    assert fields == {"input.a.b": (1, 2), "input.list[1].x": (None, 2), "name": (None, "n"), "tags": (("x",), None)}
    assert len(long) < MAX_SHOWN_CHARS + 30
    assert found.fields_total == 5
    assert found.same is False


def test_steps_are_laid_side_by_side_by_their_paths() -> None:
    error = ErrorInfo("ValueError", "boom")
    found = compare(
        run(
            w.StepScheduled("a", {}), w.StepCompleted("a", {"n": 1}), w.StepScheduled("b", {}), w.StepFailed("b", error)
        ),
        run(w.StepRestored("a", {"n": 1}), w.StepScheduled("b", {}), w.StepCompleted("b", 2), w.StepScheduled("c", {})),
    )
    pairs = {pair.path: pair for pair in found.steps}
    assert [pair.same for pair in found.steps] == [True, False, False]
    assert pairs["a"].b is not None
    assert pairs["a"].b.restored
    assert pairs["b"].a is not None
    assert (pairs["b"].a.status, pairs["b"].a.error) == ("failed", "ValueError: boom")
    assert (found.steps_total, found.steps_different) == (3, 2)


def test_of_many_steps_the_first_are_listed_and_all_are_counted() -> None:
    many = [
        event for n in range(MAX_STEPS + 20) for event in (w.StepScheduled(f"m.{n}", {}), w.StepCompleted(f"m.{n}", n))
    ]
    found = compare(run(*many), run())
    assert (len(found.steps), found.steps_total, found.steps_different) == (
        MAX_STEPS,
        len(many) // 2,
        len(many) // 2,
    )
    assert len(compare(run(*many), run(*many), only_different=True).steps) == 0


def test_a_task_is_no_different_from_itself() -> None:
    history = task(c.AssignAttempt("ex", "i"), c.ReportCompleted(1, "ex", response={"a": 1}))
    assert compare(history, history).same


@given(JSON, JSON)
def test_a_merge_patch_of_a_document_with_itself_is_itself_and_the_patch_wins(target: Any, patch: Any) -> None:
    assert merge_patch(target, target) == target
    merged = merge_patch(target, patch)
    assert merge_patch(merged, patch) == merged


def test_merge_patches_are_those_of_rfc_7396() -> None:
    cases: list[tuple[Any, Any, Any]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]
    for target, patch, merged in cases:
        assert merge_patch(target, patch) == merged, (target, patch)
