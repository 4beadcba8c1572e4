from typing import Any

import msgspec

from taskloom.domain.goals import events as g
from taskloom.domain.values import Budget, ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.results import checkpoint
from tests.unit.domain.goals.play import FILES, GoalRun, call, open_step, reason, said, steps

LOST = ErrorInfo("quarantined", "1 executors in a row were lost while they ran it", retryable=False)


def test_a_goal_is_planned_done_and_told_of() -> None:
    run = GoalRun(model=steps(reason("look"), call("list", path="."), reason("write")), tools=FILES).play()
    assert run.status_word == "completed"
    assert run.ops == ["plan", "reason", "reason", "report"]
    assert [one["kind"] for one in run.made] == ["tool"]
    assert run.made[0]["input"] == {"server": "files", "tool": "list", "args": {"path": "."}, "allowed": FILES}
    assert run.result["text"] == "report"
    assert [(one["id"], one["status"]) for one in run.result["steps"]] == [
        ("step-1", "completed"),
        ("step-2", "completed"),
        ("step-3", "completed"),
    ]
    assert run.result["usage"]["input_tokens"] == 40
    assert run.result["plans"] == 1
    run.each_prefix()


def test_a_step_knows_what_the_steps_before_it_found() -> None:
    found = {"result": {"files": ["a"]}}
    run = GoalRun(model=steps(call("list"), reason("think of it")), tools=FILES, tool=lambda _: found).play()
    context = run.asked[1]["context"]
    assert context["findings"] == {"call list": '{"files":["a"]}'}
    assert context["toolResults"] == [{"toolName": "files/list", "result": {"files": ["a"]}}]


def test_all_that_a_goal_does_waits_in_its_queue_but_for_what_an_agent_does() -> None:
    allowed = {**FILES, "taskloom": {"tools": ["shell"]}}
    asked = steps(reason("look"), call("list"), call("shell", "taskloom", cmd="date"))
    run = GoalRun(model=asked, tools=allowed, agent_id="agent1", queue="analysis").play()
    queues = [(one.submission["kind"], one.submission["queue"]) for one in run.of(e.StepScheduled)]
    assert queues == [
        ("llm", "analysis"),
        ("llm", "analysis"),
        ("tool", "analysis"),
        ("shell", "default"),
        ("llm", "analysis"),
    ]
    assert {one.submission["queue"] for one in GoalRun().play().of(e.StepScheduled)} == {"default"}


def test_bad_model_output_becomes_one_step_of_reasoning() -> None:
    for proposed in ("no list", None, [], [1, 2], {"steps": 3}):
        run = GoalRun(model=lambda about, it=proposed: said("x", steps=it)).play()  # type: ignore[misc]
        assert run.status_word == "completed"
        assert [(plan.by, len(plan.steps), plan.steps[0].type) for plan in run.plans] == [
            ("fallback", 1, "llm-reasoning")
        ]
        assert run.plans[0].steps[0].description == "find it"


def test_a_planner_that_fails_is_a_reason_for_the_fallback() -> None:
    run = GoalRun(model=lambda about: ErrorInfo("down", "no model") if about["op"] == "plan" else said("x")).play()
    assert (run.plans[0].by, run.plans[0].reason) == ("fallback", "no model")
    assert run.result["text"] == "x"


def test_a_failed_step_is_a_failed_step_and_another_plan_is_made_with_what_was_found() -> None:
    def model(about: dict[str, Any]) -> Any:
        if about["op"] == "plan":
            return said(steps=[reason("first"), call("read")] if about["failure"] is None else [reason("second")])
        return said(f"{about['op']}ed")

    run = GoalRun(model=model, tools=FILES, tool=lambda _: ErrorInfo("tool_failed", "no such file")).play()
    assert run.status_word == "completed"
    assert [plan.plan_version for plan in run.plans] == [1, 2]
    assert run.asked[2]["failure"] == {"step": "call read", "error": "no such file"}
    assert run.asked[2]["context"]["findings"] == {"first": "reasoned"}
    ends = [(end.plan_version, end.index, end.status) for end in run.of(g.GoalStepEnded)]
    assert ends == [(1, 0, "completed"), (1, 1, "failed"), (2, 0, "completed")]
    assert "step-2 failed: no such file" in run.plans[1].reason
    run.each_prefix()


def test_after_the_last_plan_the_goal_fails_with_its_steps_error() -> None:
    run = GoalRun(model=steps(call("read")), tools=FILES, tool=lambda _: ErrorInfo("tool_failed", "no"), max_plans=2)
    run.play()
    assert run.status_word == "failed"
    assert run.end is not None
    assert run.end.error is not None
    assert run.end.error.type == "tool_failed"
    assert "step-1 of plan 2: no" in run.end.error.message
    assert len(run.plans) == 2
    assert [settled.achieved for settled in run.of(g.GoalSettled)] == [False]


def test_a_call_of_which_nobody_knows_whether_it_was_made_is_never_made_again_by_itself() -> None:
    run = GoalRun(model=steps(call("read")), tools=FILES, tool=lambda _: LOST).play()
    assert run.status_word == "failed"
    assert len(run.made) == 1
    assert len(run.plans) == 1, "no other plan either: it could make the call again"
    assert run.made[0]["retry"]["max_lost"] == 1
    assert {"timeout", "tool_timeout"} <= set(run.made[0]["retry"]["non_retryable"])
    assert run.of(g.GoalStepEnded)[0].error.uncertain


def test_a_call_that_may_be_repeated_is_tried_again_and_then_planned_around() -> None:
    run = GoalRun(model=steps(call("list")), tools=FILES, tool=lambda _: LOST, max_plans=2).play()
    assert len(run.plans) == 2
    assert "max_lost" not in run.made[0]["retry"]
    assert run.made[0]["retry"] == {
        "max_attempts": 3,
        "initial_s": 2.0,
        "factor": 2.0,
        "non_retryable": ["tool_denied", "invalid_arguments"],
    }


def test_a_failed_goal_that_is_retried_goes_on_with_the_step_that_failed() -> None:
    run = GoalRun(model=steps(reason("first"), call("read"), reason("last")), tools=FILES, tool=lambda _: LOST).play()
    assert run.status_word == "failed"
    run.tool = lambda _: "now it works"
    run.retry()
    run.play()
    assert run.status_word == "completed"
    assert len(run.plans) == 1
    assert run.ops == ["plan", "reason", "reason", "report"], "what was done is not done again"
    assert len(run.made) == 2
    assert run.live == []
    run.each_prefix()


def test_a_goal_can_begin_again_from_its_start() -> None:
    run = GoalRun(model=steps(call("read")), tools=FILES, tool=lambda _: LOST).play()
    run.tool = lambda _: "fine"
    run.retry("start")
    run.play()
    assert run.status_word == "completed"
    assert [plan.plan_version for plan in run.plans] == [1, 2], "versions are never used twice"


def test_a_model_makes_calls_in_turns_and_each_is_checked_before_it_is_made() -> None:
    wanted = [
        {"id": "a", "server": "files", "tool": "read", "args": {"path": "x"}},
        {"id": "b", "server": "files", "tool": "delete", "args": {}},
        {"id": "c", "server": "files", "tool": "list", "args": {"token": {"secret": "password"}}},
    ]

    def model(about: dict[str, Any]) -> Any:
        if about["op"] == "plan":
            return said(steps=[open_step()])
        if about["op"] == "turn":
            return said("answer") if about["exchange"] else said("", calls=wanted)
        return said(about["op"])

    run = GoalRun(model=model, tools=FILES, tool=lambda _: {"result": "text of x", "status": "success"}).play()
    assert run.status_word == "completed"
    assert [one["input"]["tool"] for one in run.made] == ["read"]
    checked = run.of(g.GoalCallsChecked)[0]
    assert [bool(one.refused) for one in checked.calls] == [False, True, True]
    results = run.asked[2]["exchange"][0]["results"]
    assert results[0] == {"id": "a", "status": "success", "result": "text of x", "error": ""}
    assert "not allowed" in results[1]["error"]
    assert "secret" in results[2]["error"]
    assert run.of(g.GoalStepEnded)[0].text == "answer"
    assert run.result["text"] == "answer"
    run.each_prefix()


def test_a_model_that_never_stops_calling_is_stopped_after_its_rounds() -> None:
    asks = {"id": "a", "server": "files", "tool": "list", "args": {}}

    def model(about: dict[str, Any]) -> Any:
        if about["op"] == "plan":
            return said(steps=[open_step()])
        return said("more", calls=[asks])

    run = GoalRun(model=model, tools=FILES, max_tool_rounds=3).play()
    turns = [about for about in run.asked if about["op"] == "turn"]
    assert [about["last"] for about in turns] == [False, False, False, True]
    assert turns[-1]["tools"] == {}
    assert len(run.made) == 3
    assert run.status_word == "completed"


def test_an_uncertain_call_ends_the_conversation_and_the_goal() -> None:
    asks = [{"server": "files", "tool": "read", "args": {}}, {"server": "files", "tool": "list", "args": {}}]
    model = lambda about: said(steps=[open_step()]) if about["op"] == "plan" else said("", calls=asks)  # noqa: E731
    tool = lambda it: LOST if it["input"]["tool"] == "read" else "ok"  # noqa: E731
    run = GoalRun(model=model, tools=FILES, tool=tool).play()
    assert run.status_word == "failed"
    assert len(run.made) == 2
    assert run.ops == ["plan", "turn"]
    ended = run.of(g.GoalStepEnded)[0]
    assert [(one.tool, one.status) for one in ended.calls] == [("read", "failed"), ("list", "success")]
    run.each_prefix()


def test_a_server_that_broke_off_in_a_call_may_have_made_it() -> None:
    broken = ErrorInfo("tool_server_unavailable", "files/read: the server went away", retryable=False)
    assert GoalRun(model=steps(call("read")), tools=FILES, tool=lambda _: broken).play().of(g.GoalSettled)
    asks = [{"server": "files", "tool": "read", "args": {}}]
    model = lambda about: said(steps=[open_step()]) if about["op"] == "plan" else said("", calls=asks)  # noqa: E731
    run = GoalRun(model=model, tools=FILES, tool=lambda _: broken).play()
    assert (len(run.made), len(run.plans)) == (1, 1)


def test_the_budget_stops_a_goal_before_the_next_call() -> None:
    model = steps(reason("a"), reason("b"), reason("c"))
    run = GoalRun(model=model, budget=Budget(tokens=30)).play()
    assert run.status_word == "failed"
    assert run.ops == ["plan", "reason"]
    assert run.end is not None
    assert run.end.error is not None
    assert run.end.error.type == "BudgetExceeded"
    assert "30 of 30 tokens" in run.end.error.message
    assert run.submission("plans.1.planning.asking.propose")["budget"] == {"tokens": 30}
    run.retry()
    run.play()
    assert run.ops == ["plan", "reason", "reason", "reason"], "a retry gives a new budget"


def test_a_call_that_the_rest_of_the_budget_is_not_enough_for_ends_the_goal() -> None:
    model = lambda about: said(steps=[reason()]) if about["op"] == "plan" else ErrorInfo("budget_exceeded", "no")  # noqa: E731
    run = GoalRun(model=model, budget=Budget(tokens=100, cost_usd=1.0)).play()
    assert run.asked[1]["budget"] == {"tokens": 85, "cost_usd": 0.999}
    assert run.asked[1]["max_tokens"] == 85
    assert len(run.plans) == 1
    assert run.end is not None
    assert run.end.error is not None
    assert run.end.error.type == "BudgetExceeded"


def test_a_step_may_have_a_model_of_its_own() -> None:
    plan = steps({**reason(), "model": {"tier": "small", "model": 3}}, {**reason(), "model": {"tier": "huge"}})
    run = GoalRun(model=plan).play()
    assert [about["model"] for about in run.asked] == [{}, {"tier": "small"}, {}, {}]


def test_a_retry_after_a_used_up_budget_goes_on_where_it_stopped() -> None:
    run = GoalRun(model=steps(*(reason(f"n{n}") for n in range(4))), budget=Budget(tokens=45)).play()
    done = [record.step.id for record in run.goal.done]
    run.retry()
    run.play()
    assert [record.step.id for record in run.goal.done][: len(done) + 1] == [*done, f"step-{len(done) + 1}"]


def test_arguments_may_name_results_of_earlier_steps() -> None:
    plan = steps(call("list"), call("read", path={"$from": "step-1", "path": "files.1"}))
    run = GoalRun(model=plan, tools=FILES, tool=lambda _: {"status": "success", "result": {"files": ["a", "b"]}}).play()
    assert run.made[1]["input"]["args"] == {"path": "b"}
    assert run.status_word == "completed"


def test_a_reference_that_leads_nowhere_fails_its_step_alone() -> None:
    plan = steps(call("list"), call("read", path={"$from": "step-1", "path": "nothing.here"}))
    run = GoalRun(model=plan, tools=FILES, max_plans=1).play()
    assert run.status_word == "failed"
    assert run.of(g.GoalStepEnded)[-1].error.type == "BadReference"


def test_a_result_that_names_a_secret_never_becomes_an_argument() -> None:
    plan = steps(call("list"), call("http", "taskloom", url="http://x", headers={"$from": "step-1"}))
    tools = {**FILES, "taskloom": {"tools": ["http"]}}
    evil = {"status": "success", "result": {"Authorization": {"secret": "api-key"}}}
    run = GoalRun(model=plan, tools=tools, tool=lambda _: evil, max_plans=1).play()
    assert len(run.made) == 1
    assert "secret" in run.of(g.GoalStepEnded)[-1].error.message


def test_what_tools_say_sets_no_variables_and_is_never_an_expression() -> None:
    evil = {
        "variables": {"x": 1},
        "text": "{{ variables }} {{ 1 + 1 }}",
        "result": "{{ context }}",
        "status": "success",
    }
    plan = steps(call("list"), reason("{{ goal.settled }}"), call("read", path="{{ 2 * 3 }}"))
    run = GoalRun(goal="{{ goal.text }}", model=plan, tools=FILES, tool=lambda _: evil).play()
    assert run.status_word == "completed"
    assert run.of(e.VariablesMerged) == []
    assert run.made[1]["input"]["args"] == {"path": "{{ 2 * 3 }}"}
    assert run.asked[0]["goal"] == "{{ goal.text }}"
    assert run.asked[1]["step"]["description"] == "{{ goal.settled }}"


def test_a_goal_goes_on_from_the_checkpoint_of_another() -> None:
    plan = steps(call("list"), reason("think of it"), reason("write"))
    first = GoalRun(model=plan, tools=FILES, tool=lambda _: {"result": "a, b"})
    while len(first.goal.done) < 2:
        first.play(1)
    point = msgspec.json.decode(msgspec.json.encode(checkpoint(first.state)))
    assert [step["description"] for step in point["goal"]["steps"]] == ["write"]
    second = GoalRun(tools=FILES, checkpoint=point).play()
    assert second.ops == ["reason"]
    assert second.asked[0]["step"]["description"] == "write"
    assert second.asked[0]["context"] == point["goal"]["context"]
    assert second.asked[0]["context"]["findings"] == {"call list": "a, b", "think of it": "reason"}
    assert second.status_word == "completed"


def test_a_context_that_fills_its_window_is_summed_up() -> None:
    def model(about: dict[str, Any]) -> Any:
        if about["op"] == "plan":
            return said(steps=[reason(f"part {n}") for n in range(12)])
        return said("x" * 1000 if about["op"] == "reason" else "in short")

    run = GoalRun(model=model, context_window=2000, summarize_at=0.5).play()
    assert run.status_word == "completed"
    summed = run.of(g.GoalSummarized)
    assert summed
    assert all(one.tokens_before > 1000 > one.tokens_after for one in summed)
    assert max(len(str(about["context"])) for about in run.asked) < 2000 * 4
    run.each_prefix()


def test_a_summary_that_fails_is_made_without_a_model() -> None:
    def model(about: dict[str, Any]) -> Any:
        if about["op"] == "plan":
            return said(steps=[reason("one"), reason("two")])
        return ErrorInfo("down", "no") if about["op"] == "summarize" else said("y" * 3000)

    run = GoalRun(model=model, context_window=1000, summarize_at=0.1).play()
    assert run.status_word == "completed"
    assert "The beginning of each finding" in run.of(g.GoalSummarized)[0].text


def test_each_fifth_step_is_followed_by_a_checkpoint() -> None:
    run = GoalRun(model=steps(*(reason(f"n{n}") for n in range(11)))).play()
    assert len(run.of(e.CheckpointSaved)) == 2
    planned = GoalRun(model=steps(reason(), {"type": "checkpoint"}, {"type": "summarization"}, reason("b"))).play()
    assert len(planned.of(e.CheckpointSaved)) == 1
    assert len(planned.of(g.GoalSummarized)) == 1
    assert planned.status_word == "completed"


def test_a_plan_is_reviewed_and_edited_before_it_runs() -> None:
    run = GoalRun(model=steps(reason("a"), reason("b")), tools=FILES, review=True).play()
    assert run.ops == ["plan"]
    path = run.of(e.ApprovalRequested)[0].path
    bad = run.refused(h.Decide("review", True, "ann", "", {"steps": [call("delete")]}))
    assert (bad.code, bad.field) == ("invalid", "modified_action.steps[0].tool")
    run.when(h.Decide(path, True, "ann", "shorter", {"steps": [{"description": "only this"}]}))
    run.play()
    assert [(plan.by, len(plan.steps)) for plan in run.plans] == [("model", 2), ("reviewer", 1)]
    assert run.ops == ["plan", "reason"]
    assert run.status_word == "completed"
    run.each_prefix()


def test_a_rejected_plan_fails_the_goal_and_is_shown_again_when_it_is_retried() -> None:
    run = GoalRun(model=steps(reason("a")), review=True).play()
    run.when(h.Decide("review", False, "ann", "no"))
    assert run.status_word == "failed"
    run.retry()
    run.when(h.Decide("review", True, "ann"))
    run.play()
    assert run.status_word == "completed"


def test_a_sub_goal_is_a_goal_of_its_own_with_the_same_tools() -> None:
    plan = steps({"type": "sub-goal", "description": "part", "goal": "do the part"})
    done = {"text": "the part", "usage": {"input_tokens": 7}, "steps": []}
    run = GoalRun(model=plan, tools=FILES, tool=lambda _: done, budget=Budget(tokens=1000)).play()
    made = run.made[0]
    assert (made["kind"], made["input"]["goal"], made["input"]["depth"]) == ("goal", "do the part", 1)
    assert made["input"]["tools"] == FILES
    assert made["budget"] == {"tokens": 985}
    assert run.result["text"] == "the part"
    assert run.result["usage"]["input_tokens"] == 17


def test_goals_nest_three_deep_and_no_deeper() -> None:
    run = GoalRun(model=steps({"type": "sub-goal", "goal": "deeper"}), depth=3).play()
    assert run.plans[0].steps[0].type == "llm-reasoning"
    assert run.made == []


def test_a_goal_that_needs_no_plan_is_one_step() -> None:
    run = GoalRun(model=lambda about: said("42", orchestrate=False), detect=True).play()
    assert run.ops == ["detect", "reason"]
    assert run.plans[0].by == "rules"
    more = GoalRun(model=lambda about: said("42", orchestrate=True, steps=[reason()]), detect=True).play()
    assert more.ops == ["detect", "plan", "reason"]


def test_a_plan_given_beforehand_is_followed() -> None:
    run = GoalRun(tools=FILES, steps=[call("list"), reason("then this")]).play()
    assert run.ops == ["reason", "report"]
    assert run.plans[0].by == "client"


def test_a_cancelled_goal_stops_its_call_and_its_retry_goes_on_with_it() -> None:
    run = GoalRun(model=steps(reason("a"), call("read")), tools=FILES)
    while not run.made:
        run.play(1)
        if run.live and run.submission(run.live[0])["kind"] == "tool":
            break
    path = run.live[0]
    run.when(h.Cancel("enough"))
    assert run.cancelled == [path]
    run.child_cancelled(path)
    assert run.status_word == "cancelled"
    run.retry()
    run.play()
    assert run.status_word == "completed"
    assert [start.step_id for start in run.of(g.GoalStepStarted)] == ["step-1", "step-2"]


def test_a_paused_goal_begins_no_further_step() -> None:
    run = GoalRun(model=steps(reason("a"), reason("b")))
    run.play(1)
    run.when(h.Pause())
    run.play()
    assert run.ops == ["plan", "reason"] or run.ops == ["plan"]
    assert run.status_word == "running"
    run.when(h.Resume())
    run.play()
    assert run.status_word == "completed"


def test_a_long_goal_grows_in_proportion_to_its_steps() -> None:
    def size(count: int) -> tuple[int, int]:
        model = lambda about: (  # noqa: E731
            said(steps=[reason(f"part {n}") for n in range(count)]) if about["op"] == "plan" else said("y" * 400)
        )
        run = GoalRun(model=model, context_window=2000).play()
        assert run.status_word == "completed"
        return len(run.history), sum(len(msgspec.json.encode(event)) for event in run.history)

    (few, few_bytes), (many, many_bytes) = size(25), size(50)
    assert many < 2.1 * few
    assert many_bytes < 2.3 * few_bytes
