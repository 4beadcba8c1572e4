import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskloom.domain.goals.checking import check_plan, edit_fault
from taskloom.domain.goals.inputs import GoalInput, ServerTools
from taskloom.domain.goals.references import names_in
from taskloom.domain.goals.state import open_goal
from taskloom.domain.goals.tools import allows, refusal
from tests.unit.domain.goals.play import FILES, GoalRun, call, said

GOAL = GoalInput("find it", tools={"files": ServerTools(("read",)), "taskloom": ServerTools(("submit", "http"))})

_LEAF = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
_WORDS = st.sampled_from(
    ["files", "taskloom", "read", "submit", "shell", "step-1", "step-2", "tool-call", "sub-goal", ""]
)
_TEXT = _WORDS | st.text(max_size=8)
_JSON = st.recursive(
    _LEAF | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_TEXT | st.sampled_from(["$from", "path", "secret", "kind"]), inner, max_size=4)
    ),
    max_leaves=12,
)
_STEP = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("id", "description", "type", "server", "tool", "args", "goal", "model", "estimated_ms"), _TEXT | _JSON
    ),
)
_PLAN = _JSON | st.lists(_STEP | _JSON, max_size=6)


@given(_PLAN)
@settings(max_examples=300, deadline=None)
@example([{"type": "tool-call", "server": "taskloom", "tool": "submit", "args": {"kind": "shell"}}])
@example([{"type": "tool-call", "server": "files", "tool": "read", "args": {"x": {"$from": "step-1"}}}])
def test_whatever_a_model_proposes_no_tool_comes_out_that_is_not_allowed(proposed: Any) -> None:
    checked = check_plan(GOAL, proposed, 5)
    assert len(checked.steps) <= 5
    for at, step in enumerate(checked.steps, 1):
        assert step.id == f"step-{at}"
        if step.tool:
            assert allows(GOAL.tools, step.server, step.tool)
            earlier = {f"step-{before}" for before in range(1, at)}
            assert names_in(step.args) <= earlier
            assert names_in(step.args) or not refusal(GOAL, step.server, step.tool, step.args)
    assert check_plan(GOAL, json.loads(json.dumps(proposed)), 5) == checked


@given(_PLAN, _JSON, _JSON)
@settings(max_examples=40, deadline=None)
def test_whatever_a_model_says_the_goal_ends_and_replays(proposed: Any, turn: Any, result: Any) -> None:
    def model(about: dict[str, Any]) -> Any:
        if about["op"] == "plan":
            return said(steps=proposed)
        return said("x", calls=[turn, {"server": "files", "tool": "read", "args": turn}]) if turn else result

    run = GoalRun(model=model, tool=lambda _: result, tools=FILES, max_plans=2, max_tool_rounds=2, max_steps=6).play()
    assert run.status_word in ("completed", "failed")
    for made in run.made:
        if made["kind"] == "tool":
            assert made["input"]["tool"] in FILES[made["input"]["server"]]["tools"]
    run.each_prefix()


def test_what_is_mended_is_said() -> None:
    checked = check_plan(
        GOAL,
        [
            {"id": "a", "type": "think", "description": "x"},
            "junk",
            {"id": "b", "type": "tool-call", "server": "files", "tool": "delete"},
            {"id": "c", "type": "tool-call", "server": "files", "tool": "read", "args": {"p": {"$from": "a"}}},
        ],
        10,
    )
    assert [step.type for step in checked.steps] == ["llm-reasoning", "llm-reasoning", "tool-call"]
    assert checked.steps[2].args == {"p": {"$from": "step-1"}}, "references follow the steps that they name"
    assert "steps[0].type: is none of" in checked.reason
    assert "steps[1]: no object" in checked.reason
    assert "files/delete is not allowed" in checked.reason


def test_a_plan_is_cut_to_the_steps_that_may_be_made() -> None:
    checked = check_plan(GOAL, [{"description": str(n)} for n in range(60)], 50)
    assert len(checked.steps) == 50
    assert "60 steps, 50 may be made" in checked.reason


def test_arguments_that_cannot_be_used_leave_the_step_open() -> None:
    for args in ("text", {"k": {"secret": "s"}}, {"x": "y" * 40_000}, {"p": {"$from": "step-9"}}):
        step = check_plan(GOAL, [{"type": "tool-call", "server": "files", "tool": "read", "args": args}], 5).steps[0]
        assert (step.type, step.server, step.tool, step.args) == ("tool-call", "files", "", {})


def test_submitting_leads_to_no_kind_that_another_tool_is_needed_for() -> None:
    for kind in ("shell", "sql", "python", "tool", "llm", "goal", "workflow", "webhook", "docker", 3):
        assert refusal(GOAL, "taskloom", "submit", {"kind": kind}), kind
    assert refusal(GOAL, "taskloom", "submit", {"kind": "http"}) == ""
    assert refusal(GOAL, "taskloom", "submit", {"kind": "echo", "input": {}}) == ""
    assert refusal(GOAL, "taskloom", "submit", {"kind": "echo", "executor_id": "x"})


def test_a_stored_workflow_is_named_and_never_written_out() -> None:
    given = GoalInput("x", tools={"taskloom": ServerTools()})
    assert refusal(given, "taskloom", "workflow", {"workflow": "etl", "variables": {"n": 1}}) == ""
    assert refusal(given, "taskloom", "workflow", {"definition": {"name": "w", "steps": []}})
    assert refusal(given, "taskloom", "workflow", {"workflow": {"id": "etl"}})


def test_arguments_of_any_depth_are_refused_and_not_walked() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert "deeper" in refusal(GOAL, "files", "read", deep)


def test_an_edit_of_a_plan_says_what_is_wrong_with_it() -> None:
    state = open_goal({"goal": "x", "tools": FILES})
    assert edit_fault(state, None) is None
    assert edit_fault(state, {"steps": [{"description": "think"}]}) is None
    edits: list[Any] = [{"steps": []}, {"other": 1}, [1], {"steps": [call("y", "x")]}]
    for edit in edits:
        assert edit_fault(state, edit) is not None
