"""Goals in their tables: folded once whatever comes twice, read by tenant, as ``verify`` expects them, and as the chat
orchestrator's tables have them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskloom.domain.goals import events as g
from taskloom.domain.goals.plans import PlannedStep
from taskloom.domain.task import events as e
from taskloom.domain.values import Budget, ErrorInfo
from taskloom.domain.workflow import events as w
from taskloom.replay.verify_goals import goal_faults
from taskloom.views.goals import query
from taskloom.views.goals.fold import fold_all
from taskloom.views.reading import Pool, read_pool, rows
from tests.integration.projection.world import World, execute
from tests.unit.views.goal_lives import PLAN, GoalLife, achieved

pytestmark = pytest.mark.integration


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    opened = read_pool(database_dsn)
    await opened.open(wait=True)
    yield opened
    await opened.close()


@pytest.fixture
async def world(database_dsn: str) -> AsyncIterator[World]:
    made = await World(database_dsn).start()
    yield made
    await made.stop()


def failed() -> GoalLife:
    life = GoalLife("failed", input={"goal": "nul \x00", "steps": None}, budget=Budget(tokens=10))
    life.planned().began(0).ended(0, status="failed", error=g.StepFault("x", "no such\x00 file"), text="\x00")
    life.planned(2, PLAN[1:]).began(0, 2)
    return life.add(e.TaskFailed(ErrorInfo("x", "all is lost")))


def begun_anew() -> GoalLife:
    life = GoalLife("anew").planned().read_the_log().add(e.TaskFailed(ErrorInfo("x", "broken")))
    life.add(e.TaskRetried(), w.WorkflowRetried(1, "start"))
    large = {"goal": 1e23, "text": "é" * 100_000}
    call = g.MadeCall("1", "s", "t", {"n": 0.1}, result=large)
    return life.planned(1, [PlannedStep("step-1", "again"), PlannedStep("step-2")]).began(0).ended(0, calls=(call,))


def bodies(*lives: GoalLife) -> list[tuple[str, bytes]]:
    return [(life.task_id, body) for life in lives for body in life.bodies]


async def as_dicts(pool: Pool, statement: str) -> list[dict[str, Any]]:
    return [each for (each,) in await rows(pool, f"SELECT row_to_json(found) FROM ({statement}) AS found")]


async def test_goals_are_as_their_events_say_whatever_comes_twice_and_however_it_is_split(
    world: World, pool: Pool, database_dsn: str
) -> None:
    lives = [achieved(), achieved("other", tenant_id="red"), failed(), begun_anew()]
    for record in bodies(*lives[2:]):
        await world.feed([record])
    await world.feed(bodies(*lives)[:20])
    await world.feed(bodies(*lives))
    await world.feed(bodies(*lives))
    assert world.dead.buried == []
    for life in lives:
        view = await query.get(pool, life.tenant_id, life.task_id, traces=1000)
        expected = fold_all(life.recorded)
        assert view is not None
        assert expected is not None
        assert (view.goal, view.steps) == (
            expected.goal,
            sorted(expected.steps.values(), key=lambda s: (s.plan, s.number)),
        )
        assert view.traces == expected.traces[::-1], "newest first"
    assert await query.get(pool, "default", "other", traces=10) is None
    assert await query.get(pool, "red", "goal-1", traces=10) is None
    newest = await query.newest_traces(pool, "goal-1", limit=2)
    older = await query.newest_traces(pool, "goal-1", limit=1000, before=newest[-1].number)
    assert [trace.message for trace in newest] == ["All steps completed", "Completed step 3"]
    assert len(older) == len((fold_all(lives[0].recorded) or 0).traces) - 2  # type: ignore[union-attr]

    histories = {life.task_id: life.recorded for life in lives}
    assert await goal_faults(pool, histories) == {}
    execute(database_dsn, "UPDATE goals SET progress = 7 WHERE task_id = 'goal-1'")
    execute(database_dsn, "DELETE FROM goal_steps WHERE task_id = 'failed' AND plan = 2 AND number = 1")
    execute(database_dsn, "UPDATE goal_traces SET message = '' WHERE task_id = 'anew' AND number = 3000")
    found = {task_id: list(faults) for task_id, faults in (await goal_faults(pool, histories)).items()}
    assert found == {"goal-1": ["goal"], "failed": ["goal step 2.1"], "anew": ["goal trace 3000"]}


async def test_the_chat_orchestrator_s_tables_are_views_of_goals(world: World, pool: Pool) -> None:
    steps = [PlannedStep(f"step-{number}", f"do {number}") for number in range(12)]
    many, running = GoalLife("many").planned(1, steps), GoalLife("running").planned().read_the_log()
    gone = achieved("gone").add(e.TaskDeleted())
    cancelled = GoalLife("cancelled").planned().add(e.TaskCancelled(reason="Task cancelled by user"))
    await world.feed(bodies(achieved(), failed(), running, many, cancelled, gone))
    assert world.dead.buried == []

    found = {each["id"]: each for each in await as_dicts(pool, "SELECT * FROM task_execution")}
    assert {name: each["status"] for name, each in found.items()} == {
        "goal-1": "completed",
        "failed": "failed",
        "running": "running",
        "many": "running",
        "cancelled": "failed",
    }
    assert (found["cancelled"]["last_error"], found["failed"]["retry_count"]) == ("Task cancelled by user", "1")
    assert found["failed"]["last_error"] == "all is lost"
    one = found["running"]
    assert (one["thread_id"], one["user_id"], one["current_step"]) == ("s1", "ada", "1")
    assert one["strategy"]["totalSteps"] == 3
    assert one["strategy"]["steps"][0] == {
        "id": "step-1",
        "description": "Read the log",
        "type": "tool-call",
        "status": "completed",
        "estimatedDuration": 20_000,
    }
    assert one["context"] == {
        "summary": "",
        "findings": {"Read the log": "3 lines"},
        "toolResults": [{"toolName": "files.read", "result": {"lines": 3}}],
        "messageHistory": [],
    }
    [call] = one["tool_call_history"]
    assert (call["toolName"], call["status"], call["error"]) == ("files.read", "success", None)
    assert (one["allowed_mcp_servers"], one["chat_model"]) == ({"files": {"tools": ["read"]}}, {"model": "small-1"})
    assert (found["goal-1"]["estimated_completion"], found["goal-1"]["checkpoints"][0]["step"]) == (None, 2)
    assert one["estimated_completion"] > one["updated_at"]

    numbered = await as_dicts(
        pool, "SELECT * FROM task_execution_step WHERE task_execution_id = 'many' ORDER BY step_index"
    )
    assert [each["description"] for each in numbered] == [f"do {number}" for number in range(12)]
    done = await as_dicts(pool, "SELECT * FROM task_execution_step WHERE id = 'running/1.0'")
    assert (done[0]["duration"], done[0]["token_usage"]) == (
        "1000",
        {"promptTokens": 3, "completionTokens": 1, "totalTokens": 4},
    )
    traced = await as_dicts(
        pool, "SELECT * FROM task_execution_trace WHERE task_execution_id = 'goal-1' ORDER BY timestamp"
    )
    assert {each["trace_type"] for each in traced} == {
        "tool-call",
        "llm-request",
        "llm-response",
        "checkpoint",
        "decision",
    }
    called = next(each for each in traced if each["message"] == "Called tool: files.read")
    assert called["step_id"] == "goal-1/1.0"
