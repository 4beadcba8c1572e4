"""Goals at the HTTP door: what is refused, what is sent on, what is seen of one."""

from datetime import UTC, datetime
from typing import Any

import httpx

from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.decide import decide
from taskloom.domain.task.evolve import fold
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"
TOOLS = {"files": {"tools": ["read"]}}


def ends(system: MemorySystem, goal: str, path: str, result: Any) -> None:
    """What the orchestrator does when the step's task completed."""
    caller = Caller(goal, "default")
    decision = decide(fold(system.streams[goal]), c.NoteChild(path, "completed", result), datetime.now(UTC), caller)
    assert not isinstance(decision, Refusal)
    system.record(goal, decision)


async def test_what_is_wrong_with_a_goal_is_400_and_names_the_field(client: httpx.AsyncClient) -> None:
    call = {"type": "tool-call", "server": "files", "tool": "rm"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"query": " "}, "input.goal"),
        ({"query": "x", "input": {"steps": [call], "tools": TOOLS}}, "input.steps[0].tool"),
        ({"query": "x", "input": {"max_steps": 0}}, "input.max_steps"),
        ({"query": "x", "input": {"model": {"tier": "huge"}}}, "input.model.tier"),
        ({"query": "x", "input": {"definition": {"name": "mine", "steps": []}}}, "input.definition"),
        ({"query": "x", "timeouts": {"total_s": 9}}, "timeouts.total_s"),
    ]
    for body, field in cases:
        answer = await client.post(TASKS, json={"kind": "goal", **body})
        assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
    steps = [{"step_type": "goal", "id": "a", "act": "plan"}]
    answer = await client.post(TASKS, json={"kind": "workflow", "input": {"definition": {"name": "w", "steps": steps}}})
    assert (answer.status_code, answer.json()["field"]) == (400, "input.definition.steps[0].step_type")


async def test_a_goal_is_seen_as_a_run_and_gives_a_checkpoint(client: httpx.AsyncClient, system: MemorySystem) -> None:
    body = {"kind": "goal", "query": "find it", "budget": {"tokens": 900}, "input": {"tools": TOOLS}}
    answer = await client.post(TASKS, json=body, headers={"Prefer": "wait=5"})
    goal = str(answer.json()["task_id"])
    think = {"type": "llm-reasoning", "description": "think"}
    used = {"model_used": "m", "usage": {"input_tokens": 3, "output_tokens": 4, "cost_usd": 0.5}}
    ends(system, goal, "plans.1.planning.asking.propose", {"text": "", "steps": [think, {**think, "description": "b"}]})
    ends(system, goal, "plans.1.work.1.stepping.one.do", {"text": "thought", **used})
    half = (await client.get(f"{TASKS}/{goal}")).json()
    told = {name: half[name] for name in ("progress", "model_used", "input")}
    asked = {"goal": "find it", "model": {}, "tools": TOOLS, "budget": {"tokens": 900}}
    assert told == {"progress": 0.5, "model_used": "m", "input": asked}
    assert (half["usage"]["input_tokens"], half["usage"]["output_tokens"], half["usage"]["cost_usd"]) == (3, 4, 0.5)
    first = (await client.get(f"{TASKS}/{goal}", params={"as_of": 1})).json()
    assert (first["progress"], first["model_used"], first["usage"]["total_tokens"]) == (0.0, "", 0)
    assert first["input"] == asked
    events = (await client.get(f"{TASKS}/{goal}/timeline", params={"mode": "full", "include_payloads": True})).text
    assert '"definition"' in events, "it stays in the event"
    seen = (await client.get(f"{TASKS}/{goal}/workflow")).json()
    assert seen["status"] == "running"
    saved = (await client.get(f"{TASKS}/{goal}/workflow/checkpoint")).json()
    assert saved["goal"]["context"]["findings"] == {"think": "thought"}
    again = await client.post(TASKS, json={"kind": "goal", "query": "go on", "input": {"checkpoint": saved}})
    assert again.status_code == 200, again.text


async def test_without_a_kind_the_mode_makes_goals_at_every_route(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    def sent(task_id: str) -> tuple[str, bool]:
        spec = next(each.command for each in system.sent if each.task_id == task_id)
        assert isinstance(spec, c.SubmitTask)
        return spec.kind, bool(spec.input.get("detect"))

    for mode, expected in {
        "complex": ("goal", False),
        "Standard": ("goal", True),
        "simple": ("", False),
        "supervisor": ("", False),
    }.items():
        body = {"query": "find it", "mode": mode, "context": {"note": "x"}}
        plain = (await client.post(TASKS, json=body)).json()["task_id"]
        streamed = (await client.post(f"{TASKS}/stream", json=body)).json()["task_id"]
        batch = (await client.post(f"{TASKS}/batch", json={"tasks": [body]})).json()["tasks"][0]["task_id"]
        assert {sent(task_id) for task_id in (plain, streamed, batch)} == {expected}, mode
        for task_id in (plain, streamed, batch):
            row = (await client.get(f"{TASKS}/{task_id}")).json()
            assert (row["kind"], row["mode"]) == (expected[0] or "query", mode.lower())
            assert (row["query"], row["context"]) == ("find it", {"note": "x"})
    named = (await client.post(TASKS, json={"kind": "echo", "query": "x", "mode": "complex"})).json()["task_id"]
    assert sent(named) == ("echo", False)
    bad = await client.post(TASKS, json={"query": "x", "mode": "complex", "input": {"max_steps": 0}})
    assert (bad.status_code, bad.json()["field"]) == (400, "input.max_steps")
    mine = await client.post(TASKS, json={"query": "x", "mode": "complex", "input": {"definition": {}}})
    assert (mine.status_code, mine.json()["field"]) == (400, "input.definition")


async def test_a_goal_with_a_large_context_keeps_the_model_it_was_sent_with(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    body: dict[str, Any] = {"query": "x", "mode": "complex", "model_override": "m", "model_tier": "small"}
    body["context"] = {"a": "b" * 99_999}
    goal = (await client.post(TASKS, json=body)).json()["task_id"]
    submitted: Any = system.streams[goal][0].event
    assert submitted.spec.input["model"] == {"model": "m", "tier": "small"}
    assert "$claim" in submitted.spec.context
