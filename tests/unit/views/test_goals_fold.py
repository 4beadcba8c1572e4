"""What a goal's events make of its row, steps and traces."""

from typing import Any

import msgspec

from taskloom.domain.goals import events as g
from taskloom.domain.goals.plans import PlannedStep
from taskloom.domain.task import events as e
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as w
from taskloom.views.goals.fold import Folded, fold_all
from taskloom.views.goals.query import GoalView, context_of
from taskloom.views.goals.rows import MAX_TRACES, METADATA_BYTES, bounded
from tests.unit.views.goal_lives import PLAN, GoalLife, achieved

FAULT = g.StepFault("tool_failed", "no such file")


def folded(life: GoalLife) -> Folded:
    found = fold_all(life.recorded)
    assert found is not None
    return found


def told(life: GoalLife) -> list[tuple[str, str]]:
    return [(trace.type, trace.message) for trace in folded(life).traces]


def states(life: GoalLife) -> list[str]:
    found = folded(life)
    assert list(found.goal.states) == [step.status for step in found.steps.values() if step.plan == found.goal.plan], (
        "the row and its steps agree"
    )
    return list(found.goal.states)


def test_of_three_steps_two_are_done() -> None:
    life = GoalLife().planned().read_the_log()
    life.began(1).asked("reason", "reason").ended(1, text="five errors").began(2)
    goal = folded(life).goal
    assert (goal.progress, goal.current_step, goal.total_steps) == (66, 2, 3)
    assert states(life) == ["completed", "completed", "running"]


def test_the_traces_tell_what_happened_in_the_source_s_words_and_with_its_six_types() -> None:
    assert told(achieved()) == [
        ("llm-request", "Asking the model: plan"),
        ("llm-response", "The model answered: plan"),
        ("decision", "small-1 was asked for, taskloom-offline answered"),
        ("decision", "Task created with 3 steps"),
        ("decision", "Starting step 1: Read the log"),
        ("tool-call", "Called tool: files.read"),
        ("tool-call", "Completed step 1"),
        ("decision", "Starting step 2: Group the errors"),
        ("llm-request", "Asking the model: reason"),
        ("llm-response", "The model answered: reason"),
        ("decision", "small-1 was asked for, taskloom-offline answered"),
        ("llm-response", "Completed step 2"),
        ("decision", "Starting step 3: Keep what was found"),
        ("checkpoint", "Checkpoint saved after 2 steps"),
        ("checkpoint", "Completed step 3"),
        ("decision", "All steps completed"),
    ]
    traces = folded(achieved()).traces
    assert [trace.number for trace in traces] == sorted({trace.number for trace in traces})
    called = next(trace for trace in traces if trace.message == "Called tool: files.read")
    assert (called.plan, called.step) == (1, 0)
    assert called.metadata == {
        "toolName": "files.read",
        "args": {"path": "/log"},
        "result": {"lines": 3},
        "status": "success",
        "durationMs": 12,
    }


def test_an_achieved_goal_has_its_usage_and_all_of_its_steps() -> None:
    found = folded(achieved())
    goal = found.goal
    assert (goal.progress, goal.current_step, goal.achieved) == (100, 3, True)
    assert (goal.input_tokens, goal.output_tokens, goal.cost_usd, goal.model_calls) == (20, 8, 0.5, 2)
    assert (goal.tool_calls, goal.model_used, goal.last_error) == (1, "taskloom-offline", "")
    assert [saved.step for saved in goal.checkpoints] == [2]
    first = found.steps[1, 0]
    assert (first.status, first.text, first.usage["input_tokens"], first.estimated_ms) == (
        "completed",
        "3 lines",
        3,
        20_000,
    )
    assert first.started_at is not None
    assert first.ended_at is not None
    assert first.started_at < first.ended_at
    assert goal.asked == {"tools": {"files": {"tools": ["read"]}}, "model": {"model": "small-1"}}


def test_a_failed_step_is_a_failed_step_and_a_new_plan_takes_the_place_of_the_rest() -> None:
    life = GoalLife().planned().began(0).ended(0, status="failed", error=FAULT)
    life.planned(2, PLAN[1:], reason="no such file")
    assert states(life) == ["pending", "pending"]
    found = folded(life)
    assert [found.steps[1, number].status for number in range(3)] == ["failed", "skipped", "skipped"]
    assert (found.goal.plan, found.goal.total_steps, found.goal.progress) == (2, 2, 0)
    assert [plan.version for plan in found.goal.plans] == [1, 2]
    assert found.goal.last_error == "no such file"
    assert told(life)[-3:] == [
        ("decision", "Starting step 1: Read the log"),
        ("error", "Step 1 failed: no such file"),
        ("decision", "Plan 2 with 2 steps: no such file"),
    ]


def test_what_ends_a_goal_in_the_middle_leaves_no_step_that_seems_to_run() -> None:
    for end, error in (
        (e.TaskCancelled(reason="Task cancelled by user"), "Task cancelled by user"),
        (e.TaskFailed(ErrorInfo("BudgetExceeded", "the budget is used up")), "the budget is used up"),
        (e.TaskTimedOut("total", 60), "the time limit total of 60 s was reached"),
    ):
        life = GoalLife().planned().read_the_log().began(1).add(end)
        assert states(life) == ["completed", "failed", "skipped"]
        goal = folded(life).goal
        assert (goal.last_error, goal.ended_at is None, goal.doing) == (error, False, {})
        assert (goal.progress, goal.current_step) == (33, 1)
        assert told(life)[-1] == ("error", error)


def test_a_round_of_calls_is_told_once_also_those_that_were_refused() -> None:
    made = (
        g.MadeCall("1", "files", "read", {}, result="x"),
        g.MadeCall("2", "files", "write", {}, "failed", None, "not allowed"),
    )
    life = GoalLife().planned().began(0)
    life.add(
        g.GoalCallsChecked("calls", plan_version=1, index=0, round=1, calls=(g.CheckedCall("1", "files", "read"),))
    )
    life.add(g.GoalCallsEnded("told", plan_version=1, index=0, round=1, calls=made)).ended(0, calls=made, text="ok")
    assert [message for type_, message in told(life) if type_ == "tool-call"] == [
        "Called tool: files.read",
        "Tool files.write failed: not allowed",
        "Completed step 1",
    ]
    assert folded(life).goal.tool_calls == 2
    refused = (g.CheckedCall("3", "files", "write", {}, "not allowed"),)
    life = GoalLife().planned().began(0)
    life.add(g.GoalCallsChecked("calls", plan_version=1, index=0, round=1, calls=refused))
    life.add(g.GoalCallsChecked("calls", plan_version=1, index=0, round=2, text="so be it", error=FAULT))
    life.ended(0, calls=(g.MadeCall("3", "files", "write", {}, "failed", error="refused: not allowed"),))
    assert told(life)[-3:] == [
        ("tool-call", "Tool files.write failed: refused: not allowed"),
        ("error", "no such file"),
        ("tool-call", "Completed step 1"),
    ]


def test_the_context_has_findings_since_the_last_summary_and_the_history_before_the_goal() -> None:
    life = GoalLife(input={"history": [{"role": "user", "content": "hello"}]}).planned().read_the_log()

    def context() -> dict[str, Any]:
        found = folded(life)
        return context_of(GoalView(found.goal, list(found.steps.values()), []))

    assert context() == {
        "summary": "",
        "findings": {"Read the log": "3 lines"},
        "toolResults": [{"toolName": "files.read", "result": {"lines": 3}}],
        "messageHistory": [{"role": "user", "content": "hello"}],
    }
    life.add(g.GoalSummarized("sum", text="3 lines, 5 errors", tokens_before=100, tokens_after=5))
    assert context() == {
        "summary": "3 lines, 5 errors",
        "findings": {},
        "toolResults": [],
        "messageHistory": [{"role": "user", "content": "hello"}],
    }
    assert told(life)[-1] == ("decision", "The context was summed up: about 100 tokens became 5")


def test_a_goal_that_begins_anew_has_nothing_of_its_plans_and_keeps_its_traces() -> None:
    life = GoalLife().planned().began(0).add(e.TaskFailed(ErrorInfo("x", "broken")))
    before = len(folded(life).traces)
    life.add(e.TaskRetried(), w.WorkflowRetried(1, "start"))
    found = folded(life)
    assert (found.steps, found.goal.plans, found.goal.plan, found.began_anew) == ({}, (), 0, True)
    assert (found.goal.last_error, found.goal.ended_at, len(found.traces)) == ("", None, before + 1)
    assert folded(life.planned()).steps.keys() == {(1, 0), (1, 1), (1, 2)}


def test_a_goal_that_goes_on_has_its_failed_step_and_those_behind_it_before_it() -> None:
    life = GoalLife().planned().read_the_log().began(1).ended(1, status="failed", error=FAULT)
    life.add(
        g.GoalSettled("settle", achieved=False, reason="no such file"), e.TaskFailed(ErrorInfo("x", "no such file"))
    )
    assert (states(life), folded(life).goal.progress) == (["completed", "failed", "skipped"], 33)
    life.add(e.TaskRetried(), w.WorkflowRetried(1))
    assert (states(life), folded(life).goal.progress) == (["completed", "pending", "pending"], 33)
    assert states(life.began(1)) == ["completed", "running", "pending"]


def test_models_and_sub_goals_that_fail_or_say_nonsense_are_told_and_count_nothing() -> None:
    life = GoalLife()
    life.add(w.StepScheduled("a", {"kind": "llm", "input": {"op": "plan"}}))
    life.add(w.StepFailed("a", ErrorInfo("model_unavailable", "no answer")))
    usage = {"input_tokens": "many", "output_tokens": True, "cost_usd": -1}
    life.asked("b", "plan", {"text": 3, "usage": usage, "model_used": None})
    life.asked("c", "plan", {"$claim": "sha256:00", "bytes": 9})
    life.add(w.StepScheduled("d", {"kind": "goal", "input": {"goal": "less"}}), w.StepCancelled("d", "enough"))
    life.add(w.StepScheduled("e", {"kind": "shell", "input": {"cmd": "ls"}}), w.StepCompleted("e", {"usage": usage}))
    goal = folded(life).goal
    assert (goal.input_tokens, goal.output_tokens, goal.cost_usd, goal.doing, goal.model_calls) == (0, 0, 0.0, {}, 3)
    assert ("error", "The model's plan failed: no answer") in told(life)
    assert ("decision", "Sub-goal: less") in told(life)


def test_what_comes_from_outside_is_cut_to_a_size_and_can_be_stored() -> None:
    call = g.MadeCall("1", "files", "read", {"path": "a\x00b"}, result={"text": "é\x00" * 50_000})
    life = GoalLife(input={"goal": "nul \x00"}).planned(steps=[PlannedStep("step-1", "nul \x00", "tool-call")])
    life.began(0).ended(0, text="\x00", calls=(call,))
    found = folded(life)
    for trace in found.traces:
        assert len(msgspec.json.encode(trace.metadata)) <= METADATA_BYTES
        assert len(trace.message) <= 500
    whole = msgspec.json.encode((found.goal, list(found.steps.values()), found.traces))
    assert "\\x00" not in repr(msgspec.json.decode(whole))
    assert found.goal.goal == "nul \ufffd"


def test_metadata_are_cut_where_they_are_largest() -> None:
    large = "x" * 10_000
    kept = bounded({"a": large, "b": {"deep": [large]}, "c": 1})
    assert kept["c"] == 1
    assert kept["a"]["bytes"] == 10_002
    assert kept["a"]["cut"].startswith("xxx")
    assert kept["b"]["cut"].startswith('{"deep":["xxx')
    assert len(msgspec.json.encode(kept)) <= METADATA_BYTES
    assert bounded({"a": "small"}) == {"a": "small"}


def test_a_goal_has_no_more_traces_than_there_is_room_for() -> None:
    life = GoalLife().planned()
    calls = tuple(g.MadeCall(str(number), "s", "t") for number in range(900))
    for number in range(6):
        life.add(g.GoalCallsEnded("told", plan_version=1, index=0, round=number + 1, calls=calls))
    found = folded(life)
    assert len(found.traces) == found.goal.traces == MAX_TRACES
    assert found.traces[-1].message == "There are too many traces; the task's events tell the rest"


def test_other_tasks_are_no_goals() -> None:
    life = GoalLife()
    spec = msgspec.structs.replace(life.recorded[0].event.spec, kind="echo")  # type: ignore[union-attr]
    life.recorded[0] = msgspec.structs.replace(life.recorded[0], event=e.TaskSubmitted(spec, "hash"))
    assert fold_all(life.recorded) is None


def test_folding_in_parts_is_the_same_as_folding_it_whole() -> None:
    life = achieved()
    whole = folded(life)
    for middle in range(1, len(life.recorded)):
        first = fold_all(life.recorded[:middle])
        assert first is not None
        second = Folded(msgspec.json.decode(msgspec.json.encode(first.goal), type=type(first.goal)))
        for recorded in life.recorded[middle:]:
            if type(recorded.event) is not w.WorkflowStarted and type(recorded.event) is not w.WorkflowCompleted:
                second.fold(recorded)
        assert second.goal == whole.goal
        assert {**first.steps, **second.steps} == whole.steps
        assert [*first.traces, *second.traces] == whole.traces
