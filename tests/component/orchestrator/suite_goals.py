"""Goals: planned, done and settled over the whole loop, with answers of the test's. Subclasses bring the ``rig``."""

from typing import Any

from taskloom.domain.entities.ids import entity_id
from taskloom.domain.task import commands as c
from taskloom.domain.task.directives import RunAttempt
from taskloom.domain.task.snapshot import decode_state, encode_state
from taskloom.domain.values import ErrorInfo
from tests.component.orchestrator.rig import Node, Rig, task_on
from tests.component.orchestrator.suite_definitions import saved, workflow
from tests.component.orchestrator.suite_workflows import step

GOAL = task_on(1, "goal")
KINDS = ("llm", "tool", "shell", "echo")
TOOLS = {"files": {"tools": ["read"]}, "taskloom": {"tools": ["workflow"]}}
USAGE = {"input_tokens": 10, "output_tokens": 5, "cost_usd": 0.0}
READ = {"description": "read it", "type": "tool-call", "server": "files", "tool": "read", "args": {"path": "x"}}
THINK = {"description": "think", "type": "llm-reasoning"}


def plan(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"text": "", "model_used": "m", "provider": "p", "usage": USAGE, "steps": list(steps), "repaired": False}


def said(text: str) -> dict[str, Any]:
    return {"text": text, "model_used": "m", "provider": "p", "usage": USAGE}


def assigned(rig: Rig) -> list[RunAttempt]:
    return [each for each in rig.directives() if isinstance(each, RunAttempt)]


async def submitted(rig: Rig, node: Node, **fields: Any) -> None:
    node.hear(kinds=KINDS)
    rig.submit(GOAL, kind="goal", query="find it", input={"tools": TOOLS, **fields.pop("input", {})}, **fields)
    await node.round()


async def done(rig: Rig, node: Node, attempt: RunAttempt, response: Any) -> None:
    rig.send(attempt.task_id, c.ReportCompleted(attempt.attempt, attempt.executor_id, response=response))
    await node.round()


async def answered(rig: Rig, node: Node, *answers: Any) -> None:
    """Each answer goes to the attempt that was assigned last."""
    for answer in answers:
        await done(rig, node, assigned(rig)[-1], answer)


def word(node: Node, task_id: str = GOAL) -> str:
    state = node.memory.get(task_id)
    assert state is not None
    return state.word


class GoalsSuite:
    async def test_a_goal_is_planned_and_each_step_of_it_is_a_task_of_its_own(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node)
            await answered(rig, node, plan(READ, THINK), {"server": "files", "tool": "read", "result": "text of x"})
            about = assigned(rig)[-1]
            assert about.kind == "llm"
            assert about.input["context"]["findings"] == {"read it": "text of x"}
            await answered(rig, node, said("it is x"), said("all in all: x"))
            assert word(node) == "completed"
        kinds = [each.kind for each in assigned(rig)]
        assert kinds == ["llm", "tool", "llm", "llm"]
        assert assigned(rig)[1].input["allowed"] == {"files": {"tools": ["read"], "idempotent": []}}
        response: Any = rig.events(GOAL)[-1].event
        assert response.response["text"] == response.result == "all in all: x"
        assert [one["status"] for one in response.response["steps"]] == ["completed", "completed"]
        submission: Any = rig.events(GOAL)[0].event
        assert submission.spec.input["definition"]["name"] == "goal"
        assert rig.dead_letters() == []

    async def test_a_command_without_a_kind_becomes_a_goal_by_its_mode(self, rig: Rig) -> None:
        other = task_on(1, "other")
        async with rig.node() as node:
            await node.own()
            node.hear(kinds=(*KINDS, "query"))
            rig.submit(GOAL, kind="", query="find it", mode="complex", input={"tools": TOOLS})
            rig.submit(GOAL, kind="goal", query="find it", mode="complex", input={"tools": TOOLS})
            rig.submit(other, kind="", query="find it", mode="supervisor")
            await node.round()
            assert {(each.kind, each.input.get("op")) for each in assigned(rig)} == {("llm", "plan"), ("query", None)}
            rig.submit(task_on(1, "judged"), kind="", query="find it", mode="standard")
            rig.submit(task_on(1, "bad"), kind="", query="x", mode="complex", input={"definition": {"name": "mine"}})
            await node.round()
        assert assigned(rig)[-1].input["op"] == "detect"
        refused = [reply.refusal.field for reply in rig.replies() if reply.refusal is not None]
        assert (refused, len(rig.replies())) == (["input.definition"], 5)
        assert rig.published(GOAL).count("TaskSubmitted") == 1

    async def test_the_same_goal_submitted_twice_is_one_and_another_is_a_conflict(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node)
            await submitted(rig, node)
            await submitted(rig, node, input={"max_steps": 3})
        assert [reply.refusal is None for reply in rig.replies()] == [True, True, False]
        assert rig.published(GOAL).count("TaskSubmitted") == 1

    async def test_what_is_wrong_with_a_goal_is_said_where_it_is(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node, input={"steps": [{"type": "tool-call", "server": "files", "tool": "rm"}]})
            await submitted(rig, node, input={"max_plans": 99})
            await submitted(rig, node, input={"definition": {"name": "mine", "steps": []}})
        assert [reply.refusal.field for reply in rig.replies() if reply.refusal is not None] == [
            "input.steps[0].tool",
            "input.max_plans",
            "input.definition",
        ]

    async def test_a_call_that_was_lost_is_quarantined_and_made_again_only_when_the_goal_is_retried(
        self, rig: Rig
    ) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node)
            await answered(rig, node, plan(THINK, READ), said("thought"))
            call = assigned(rig)[-1]
            assert call.kind == "tool"
            node.hear(incarnation="b", kinds=KINDS)
            await node.rounds()
            assert word(node, call.task_id) == "failed"
            assert word(node) == "failed"
            assert [each.kind for each in assigned(rig)] == ["llm", "llm", "tool"], "nothing was called again"
            failed: Any = rig.events(GOAL)[-1].event
            assert failed.error.type == "quarantined"
            assert "somebody has to retry it" in failed.error.message
            rig.send(GOAL, c.RetryTask("it did not happen"))
            await node.rounds()
            again = assigned(rig)[-1]
            assert (again.kind, again.input) == ("tool", call.input)
            await answered(rig, node, {"server": "files", "tool": "read", "result": "now"}, said("report"))
            assert word(node) == "completed"
        assert [each.kind for each in assigned(rig)] == ["llm", "llm", "tool", "tool", "llm"]

    async def test_a_goal_goes_on_with_another_owner(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node)
            await answered(rig, node, plan(THINK, THINK))
        async with rig.node("o-2") as node:
            await node.own()
            node.hear(kinds=KINDS)
            await node.rounds()
            await answered(rig, node, said("one"), said("two"), said("both"))
            assert word(node) == "completed"
        versions = [recorded.version for recorded in rig.stored(GOAL)]
        assert versions == list(range(1, len(versions) + 1))

    async def test_a_goal_in_a_snapshot_is_the_goal(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node)
            await answered(rig, node, plan(THINK, READ), said("one"))
            state = node.memory.get(GOAL)
            assert state is not None
            assert decode_state(encode_state(state)) == state

    async def test_a_goal_is_paused_resumed_and_cancelled_with_what_runs(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node)
            rig.send(GOAL, c.PauseTask())
            await node.round()
            await answered(rig, node, plan(THINK))
            assert word(node) == "paused"
            assert len(assigned(rig)) == 1
            rig.send(GOAL, c.ResumeTask())
            await node.rounds()
            assert len(assigned(rig)) == 2
            rig.send(GOAL, c.CancelTask("enough"))
            await node.rounds()
            assert word(node) == "cancelling"
            rig.send(assigned(rig)[-1].task_id, c.ReportStopped(1, "ex-1"))
            await node.rounds()
            assert word(node) == "cancelled"

    async def test_a_plan_waits_for_its_reviewer(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node, input={"review": True})
            await answered(rig, node, plan(THINK, READ))
            assert len(assigned(rig)) == 1
            bad = {"steps": [{**READ, "tool": "rm"}]}
            rig.send(GOAL, c.DecideApproval("review", True, "", bad), actor="ann")
            await node.round()
            assert rig.replies()[-1].refusal.field == "modified_action.steps[0].tool"  # type: ignore[union-attr]
            rig.send(GOAL, c.DecideApproval("review", True, "", {"steps": [THINK]}), actor="ann")
            await node.rounds()
            await answered(rig, node, said("short"))
            assert word(node) == "completed"
        assert rig.published(GOAL).count("GoalPlanned") == 2

    async def test_a_stored_workflow_that_a_step_names_is_looked_up_when_it_runs(self, rig: Rig) -> None:
        run = {"description": "run it", "type": "tool-call", "server": "taskloom", "tool": "workflow"}
        async with rig.node() as node:
            await node.own()
            await saved(rig, node, workflow(step("a", kind="echo")))
            assert rig.published(entity_id("definition", "default", "etl")) == ["DefinitionSaved"]
            await submitted(rig, node)
            await answered(rig, node, plan({**run, "args": {"workflow": "etl"}}))
            await node.rounds()
            inner = assigned(rig)[-1]
            assert inner.kind == "echo"
            child = node.memory.get(inner.task_id.rpartition("~")[0])
            assert child is not None
            assert child.spec.metadata["workflow_id"] == GOAL
            await done(rig, node, inner, {"n": 1})
            await node.rounds()
            assert word(node) == "completed"

    async def test_a_stored_workflow_that_is_not_there_fails_its_step(self, rig: Rig) -> None:
        run = {"description": "run it", "type": "tool-call", "server": "taskloom", "tool": "workflow"}
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node, input={"max_plans": 1})
            await answered(rig, node, plan({**run, "args": {"workflow": "none"}}))
            await node.rounds()
            assert word(node) == "failed"
            failed: Any = rig.events(GOAL)[-1].event
        assert "there is no stored workflow 'none'" in failed.error.message

    async def test_large_results_are_handed_on_by_reference_and_shown_cut(self, rig: Rig) -> None:
        large = {"rows": ["r" * 100] * 3_000}
        second = {**READ, "description": "again", "args": {"path": {"$from": "step-1", "path": "rows"}}}
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node)
            await answered(rig, node, plan(READ, second))
            await answered(rig, node, {"server": "files", "tool": "read", "result": large, "status": "success"})
            await node.rounds()
            state = node.memory.get(assigned(rig)[-1].task_id)
            assert state is not None
            assert "$claim" in state.spec.input
            await answered(rig, node, {"server": "files", "tool": "read", "result": "ok"}, said("report"))
            assert word(node) == "completed"
        assert max(len(recorded.body) for recorded in rig.stored(GOAL)) < 60_000

    async def test_a_model_that_fails_for_good_fails_the_goal_and_says_so(self, rig: Rig) -> None:
        down = ErrorInfo("model_unavailable", "no model answers", retryable=False)
        async with rig.node() as node:
            await node.own()
            await submitted(rig, node, input={"max_plans": 1})
            for _ in range(2):
                call = assigned(rig)[-1]
                rig.send(call.task_id, c.ReportFailed(1, call.executor_id, down))
                await node.rounds()
            assert word(node) == "failed"
            failed: Any = rig.events(GOAL)[-1].event
        assert failed.error.type == "model_unavailable"
        assert rig.published(GOAL).count("GoalPlanned") == 1

    async def test_the_output_of_a_command_is_what_later_steps_are_told_of_it(self, rig: Rig) -> None:
        run = {"type": "tool-call", "server": "taskloom", "tool": "shell"}
        wanted = [
            {**run, "description": "count", "args": {"cmd": "wc -l x"}},
            {**run, "description": "show", "args": {"cmd": "cat", "stdin": {"$from": "step-1"}}},
        ]
        async with rig.node() as node:
            await node.own()
            node.hear(kinds=KINDS)
            about = {"tools": {"taskloom": {"tools": ["shell"]}}, "steps": wanted}
            rig.submit(GOAL, kind="goal", query="count", input=about)
            await node.round()
            first = assigned(rig)[-1]
            assert (first.kind, first.input) == ("shell", {"cmd": "wc -l x"})
            end = c.ReportCompleted(1, "ex-1", result="7 x\n", response={"exit_code": 0, "stdout_bytes": 4})
            rig.send(first.task_id, end)
            await node.round()
            assert assigned(rig)[-1].input == {"cmd": "cat", "stdin": "7 x\n"}
