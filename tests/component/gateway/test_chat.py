"""The chat orchestrator's calls at their own paths: answers as UI message streams and in JSON, goals and how far they
are, threads of one user each."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar

from services.gateway.app import create_app
from services.gateway.parts import Parts
from services.gateway.server import HttpServer
from services.gateway.settings import GatewaySettings
from taskloom.domain.refusals import Refusal
from taskloom.domain.task import events as e
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.commands import NoteChild, SubmitTask
from taskloom.domain.task.decide import decide
from taskloom.domain.task.evolve import fold
from taskloom.domain.values import ErrorInfo, OutputSummary
from taskloom.domain.workflow.events import StepScheduled
from taskloom.testing.eventually import eventually
from taskloom.wire.messages import OutputChunk
from tests.component.gateway.conftest import BASE_URL
from tests.component.gateway.memory import MemorySystem

Json = dict[str, Any]
STARTED: list[e.TaskEvent] = [e.AttemptAssigned(1, "x", "i"), e.AttemptStarted(1, "x")]
QUESTION = "Who is it?"
WORK = "Find all errors in app.log, group them by hour, and write a report"
ORCHESTRATE = "/api/chat/orchestrate"
BOB = {"X-User-Id": "bob"}
JSON = {"Accept": "application/json"}


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(
        reply_timeout_s=0.2, read_wait_s=0.5, ping_interval_s=0.2, chat_detect_wait_s=20, chat_queue="chats"
    )


@pytest.fixture(autouse=True)
def kinds(system: MemorySystem) -> None:
    system.known_now = type(system.known_now)(
        kinds=frozenset({"query", "llm", "goal"}), queues=frozenset({"default", "chats"})
    )


@pytest.fixture
async def streaming(server: HttpServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client


def said(text: str, thread: str = "t1", **more: Any) -> Json:
    return {"id": thread, "message": {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}, **more}


def submitted(system: MemorySystem, op: str = "") -> list[tuple[str, SubmitTask]]:
    """Submissions, of those of kind ``llm`` the ones with this op."""
    found = [(each.task_id, each.command) for each in system.sent if isinstance(each.command, SubmitTask)]
    return [(task_id, each) for task_id, each in found if not op or each.input.get("op") == op]


async def asked(system: MemorySystem, op: str) -> str:
    """The id of the newest task with this op, once it is there."""
    await eventually(lambda: submitted(system, op), 20.0)
    return submitted(system, op)[-1][0]


def answers(system: MemorySystem, task_id: str, *pieces: str, response: Any = None) -> None:
    """A model's answer in pieces, and its end."""
    system.record(task_id, STARTED)
    if pieces:
        system.record(task_id, [e.OutputStarted(1, "message")])
    for seq, piece in enumerate(pieces, start=1):
        at = system.streams[task_id][-1].meta.at
        system.write(task_id, OutputChunk(task_id, 1, seq, "message", at, piece, tenant_id="default"))
    text = "".join(pieces)
    output = OutputSummary(len(pieces), len(pieces), len(text))
    told = {"text": text, "model_used": "taskloom-offline"} if response is None else response
    system.record(task_id, [e.TaskCompleted(1, text, told, output=output)])


def parts_of(body: str) -> list[Json]:
    """The stream's JSON objects; comments are left out, as readers of server-sent events do."""
    events = [block for block in body.split("\n\n") if block and not block.startswith(":")]
    assert all(event.startswith("data: ") for event in events), body
    assert events[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


async def test_a_simple_message_is_answered_as_a_ui_message_stream(
    streaming: httpx.AsyncClient, system: MemorySystem
) -> None:
    from pydantic_ai.ui.vercel_ai import response_types

    sending = asyncio.create_task(streaming.post("/api/chat", json=said(QUESTION), timeout=60))
    task_id = await asked(system, "answer")
    answers(system, task_id, "It is ", "Ada\x85 \u2028.")
    answer = await sending
    assert (answer.status_code, answer.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["x-workflow-id"], answer.headers["x-session-id"]) == (task_id, "t1")
    parts = parts_of(answer.text)
    assert [part["type"] for part in parts] == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert "".join(part.get("delta", "") for part in parts) == "It is Ada\x85 \u2028."
    known = {
        kind.model_fields["type"].default: kind
        for name, kind in vars(response_types).items()
        if name.endswith("Chunk") and "type" in getattr(kind, "model_fields", {})
    }
    for part in parts:
        assert known[part["type"]].model_validate(part).type == part["type"], "as the protocol's own models have it"
    [command] = [command for _, command in submitted(system)]
    assert (command.kind, command.query, command.session_id) == ("llm", QUESTION, "t1")


async def test_what_becomes_of_an_answer_that_fails_is_cancelled_or_says_nothing_until_its_end(
    streaming: httpx.AsyncClient, system: MemorySystem
) -> None:
    async def types(*events: e.TaskEvent) -> list[Json]:
        before = len(submitted(system))
        sending = asyncio.create_task(streaming.post("/api/chat", json=said(QUESTION), timeout=60))
        await eventually(lambda: len(submitted(system)) > before, 20.0)
        system.record(submitted(system)[-1][0], events)
        return parts_of((await sending).text)[2:]

    failed = e.TaskFailed(ErrorInfo("model_unavailable", "no model answers"), 1)
    assert await types(*STARTED, failed) == [{"type": "error", "errorText": "no model answers"}]
    assert await types(e.TaskTimedOut("total", 3)) == [
        {"type": "error", "errorText": "the time limit of 3 s was reached"}
    ]
    assert await types(*STARTED, e.TaskCancelled(1)) == [{"type": "abort"}]
    told = await types(*STARTED, e.TaskCompleted(1, "whole"))
    assert [part.get("delta") for part in told if part["type"] == "text-delta"] == ["whole"]


async def test_json_is_the_whole_answer_and_the_thread_is_remembered(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    async def say(text: str, answer: str, **more: Any) -> Json:
        before = len(submitted(system, "answer"))
        sending = asyncio.create_task(client.post("/api/chat", json=said(text, **more), headers=JSON))
        await eventually(lambda: len(submitted(system, "answer")) > before, 20.0)
        answers(system, submitted(system, "answer")[-1][0], answer)
        told = await sending
        assert told.status_code == 200, told.text
        return dict(told.json())

    chosen = {"provider": "openai", "model": "m"}
    first = await say(QUESTION, "Ada.", chatModel=chosen, toolChoice="auto", attachments=[{"url": "x"}])
    task_id, command = submitted(system, "answer")[0]
    assert first == {"id": f"msg-{task_id}", "role": "assistant", "content": "Ada.", "taskId": task_id}
    assert (command.input["model"], command.context) == (chosen, {"attachments": [{"url": "x"}]})
    assert command.input["context"] == {"messageHistory": []}
    await say("And when?", "x" * 5_000)
    await say("And why?", "So.")
    history = submitted(system, "answer")[-1][1].input["context"]["messageHistory"]
    assert [message["role"] for message in history] == ["user", "assistant"] * 2
    assert history[:2] == [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Ada."}]
    assert len(history[3]["content"]) == 4_000
    session = (await client.get("/api/v1/sessions/t1")).json()
    assert session["context"]["title"] == QUESTION
    for _ in range(5):
        await say("More?", "No.")
    assert len(submitted(system, "answer")[-1][1].input["context"]["messageHistory"]) == 10


async def test_a_longer_message_is_judged_first_and_answered_at_once_when_it_is_no_work_for_a_goal(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    async def ask(judgement: Any) -> str:
        before = len(submitted(system, "detect"))
        sending = asyncio.create_task(client.post("/api/chat", json=said(WORK), headers=JSON))
        await eventually(lambda: len(submitted(system, "detect")) > before, 20.0)
        task_id, command = submitted(system, "detect")[-1]
        assert (command.kind, command.input, command.session_id) == ("llm", {"op": "detect", "message": WORK}, "t1")
        if isinstance(judgement, e.Event):
            system.record(task_id, cast(Any, [*STARTED, judgement]))
        else:
            system.record(task_id, [*STARTED, e.TaskCompleted(1, "", judgement)])
        await eventually(lambda: len(submitted(system, "answer")) > before, 20.0)
        answers(system, submitted(system, "answer")[-1][0], "at once")
        return str((await sending).json()["content"])

    for judgement in ({"orchestrate": False}, {"orchestrate": "yes"}, None, e.TaskFailed(ErrorInfo("x", "broken"), 1)):
        assert await ask(judgement) == "at once"
    pictured = asyncio.create_task(client.post("/api/chat", json=said(WORK, imageTool={"model": "x"}), headers=JSON))
    await eventually(lambda: len(submitted(system, "answer")) == 5, 20.0)
    answers(system, submitted(system, "answer")[-1][0], "a picture")
    assert ((await pictured).json()["content"], len(submitted(system, "detect"))) == ("a picture", 4)


async def test_without_anybody_who_judges_a_message_is_answered(system: MemorySystem) -> None:
    settings = GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.5, chat_detect_wait_s=0.0, chat_answer_wait_s=0.1)
    app: Litestar = create_app(Parts(settings, system, system, system, system, system, system.tail))
    transport = httpx.ASGITransport(cast(Any, app))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        late = await client.post("/api/chat", json=said(WORK), headers=JSON)
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert late.text == f"the answer is not there yet; it is task {submitted(system, 'answer')[0][0]}"
    judged = submitted(system, "detect")[0][0]
    assert isinstance(system.streams[judged][-1].event, e.TaskCancelled), "nobody waits for it any more"


async def test_where_no_executor_has_a_model_queries_are_answered(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    system.known_now = type(system.known_now)(kinds=frozenset({"query"}))
    sending = asyncio.create_task(client.post("/api/chat", json=said(WORK), headers=JSON))
    await eventually(lambda: submitted(system), 20.0)
    task_id, command = submitted(system)[-1]
    assert (command.kind, command.query, command.input) == ("query", WORK, {})
    answers(system, task_id, "You asked", response={"answer": "You asked"})
    assert (await sending).json()["content"] == "You asked"


async def test_what_is_wrong_with_a_message_is_told_in_plain_text(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    for body, word in (
        (b"{", "not JSON"),
        (b"{}", "`id`"),
        (json.dumps(said(" ")).encode(), "no part of type text"),
        (json.dumps(said("hello", "no such/id")).encode(), "not a thread's id"),
        (json.dumps(said("hello", toolChoice="maybe")).encode(), "toolChoice"),
        (b'{"id": "t1", "message": {"parts": [{"text": "x"}]}}', "`type`"),
    ):
        answer = await client.post("/api/chat", content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert word in answer.text, body
    assert system.sent == []


async def test_a_thread_is_its_users_alone_and_ids_are_each_tenants_own(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    sending = asyncio.create_task(client.post("/api/chat", json=said(QUESTION), headers=JSON))
    answers(system, await asked(system, "answer"), "Ada.")
    assert (await sending).status_code == 200
    refused = await client.post("/api/chat", json=said(QUESTION), headers={**BOB, **JSON})
    assert (refused.status_code, refused.text) == (403, "this thread is another user's")
    refused = await client.post(ORCHESTRATE, json={"goal": WORK, "threadId": "t1"}, headers=BOB)
    assert (refused.status_code, refused.json()) == (403, {"error": "this thread is another user's"})
    sending = asyncio.create_task(
        client.post("/api/chat", json=said(QUESTION), headers={"X-Tenant-Id": "other", **BOB, **JSON})
    )
    await eventually(lambda: len(submitted(system, "answer")) == 2, 20.0)
    task_id, command = submitted(system, "answer")[-1]
    assert command.input["context"] == {"messageHistory": []}
    answers(system, task_id, "Bob.")
    assert (await sending).json()["content"] == "Bob."


# Goals.

STEPS = [
    {"id": "step-1", "description": "Read app.log", "type": "tool-call", "server": "logs", "tool": "errors"},
    {"id": "step-2", "description": "Write a report", "estimated_ms": 60_500},
]
ALLOWED = {"logs": {"tools": ["errors"]}}


def under_way(system: MemorySystem, goal_id: str) -> tuple[str, Json]:
    """The path and the submission of the newest task of the goal's steps."""
    event = next(each.event for each in reversed(system.streams[goal_id]) if isinstance(each.event, StepScheduled))
    return event.path, event.submission


async def step_ends(system: MemorySystem, goal_id: str, wanted: str, result: Any = None, error: str = "") -> None:
    """The newest task of the goal's steps ends, once it is the wanted one: an op of a model, or a kind."""

    def is_wanted() -> bool:
        if not any(isinstance(each.event, StepScheduled) for each in system.streams.get(goal_id, ())):
            return False
        submission = under_way(system, goal_id)[1]
        return wanted in (submission["kind"], submission["input"].get("op"))

    await eventually(is_wanted, 20.0)
    outcome = ErrorInfo("tool_failed", error, retryable=False) if error else None
    note = NoteChild(under_way(system, goal_id)[0], "failed" if error else "completed", result, outcome)
    now = system.streams[goal_id][-1].meta.at
    decision = decide(fold(system.streams[goal_id]), note, now, Caller(goal_id, "default", f"note-{now}"))
    assert not isinstance(decision, Refusal), decision
    system.record(goal_id, decision)


async def begun(client: httpx.AsyncClient, system: MemorySystem, **more: Any) -> Json:
    body = {"goal": WORK, "threadId": "t1", "allowedMcpServers": ALLOWED, **more}
    known = set(system.streams)
    sending = asyncio.create_task(client.post(ORCHESTRATE, json=body))
    await eventually(lambda: [name for name in system.streams if name not in known and name[0] != "@"], 20.0)
    [goal_id] = [name for name in system.streams if name not in known and name[0] != "@"]
    await step_ends(system, goal_id, "plan", {"text": "", "steps": STEPS, "model_used": "taskloom-offline"})
    answer = await sending
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-workflow-id"] == answer.json()["taskId"] == goal_id
    return dict(answer.json())


async def status(client: httpx.AsyncClient, goal_id: str, **headers: str) -> Json:
    answer = await client.get(ORCHESTRATE, params={"taskId": goal_id}, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_goal_is_begun_with_its_plan_followed_and_completed(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    created = await begun(client, system, agentId="a1", chatModel={"provider": "openai", "model": "m"})
    goal_id = created["taskId"]
    assert created == {
        "taskId": goal_id,
        "status": "queued",
        "strategy": {
            "steps": [
                {"id": "step-1", "description": "Read app.log", "type": "tool-call", "status": "pending",
                 "estimatedDuration": 30_000},
                {"id": "step-2", "description": "Write a report", "type": "llm-reasoning", "status": "pending",
                 "estimatedDuration": 60_500},
            ],
            "totalSteps": 2,
        },
        "estimatedDuration": 90.5,
        "message": "Task created with 2 steps",
    }  # fmt: skip
    [(_, command)] = submitted(system)
    assert (command.kind, command.query, command.session_id, command.queue) == ("goal", WORK, "t1", "chats")
    assert command.input["tools"] == {"logs": {"tools": ["errors"]}}
    assert (command.input["agent_id"], command.input["model"]["model"]) == ("a1", "m")
    session = (await client.get("/api/v1/sessions/t1")).json()
    assert session["context"]["title"] == WORK[:100]

    first = await status(client, goal_id)
    assert (first["status"], first["goal"], first["progress"], first["currentStep"]) == ("running", WORK, 0, 0)
    assert [step["status"] for step in first["steps"]] == ["running", "pending"]
    assert (first["steps"][0]["index"], first["steps"][1]["startedAt"], first["lastError"]) == ("0", None, None)
    await step_ends(system, goal_id, "tool", {"server": "logs", "tool": "errors", "result": {"errors": 5}})
    second = await status(client, goal_id)
    assert (second["progress"], second["currentStep"], second["totalSteps"]) == (50, 1, 2)
    assert second["context"]["toolResults"] == [{"toolName": "logs.errors", "result": {"errors": 5}}]
    assert second["latestTraces"][0]["message"].startswith("Asking the model: reason")
    assert {"type": "tool-call", "message": "Called tool: logs.errors"}.items() <= second["latestTraces"][3].items()
    await step_ends(system, goal_id, "reason", {"text": "Five errors at noon.", "model_used": "taskloom-offline"})
    await step_ends(system, goal_id, "report", {"text": "# Report", "model_used": "taskloom-offline"})
    last = await status(client, goal_id)
    assert (last["status"], last["progress"], last["currentStep"], last["lastError"]) == ("completed", 100, 2, None)
    assert last["context"]["findings"]["Write a report"] == "Five errors at noon."
    assert (len(last["latestTraces"]), last["completedAt"][-1]) == (10, "Z")
    await natively(client, goal_id, len(system.streams[goal_id]))
    refused = await client.delete(ORCHESTRATE, params={"taskId": goal_id})
    assert (refused.status_code, refused.json()) == (400, {"error": "Cannot cancel task with status: completed"})
    assert (await status(client, goal_id))["status"] == "completed"


async def natively(client: httpx.AsyncClient, goal_id: str, events: int) -> None:
    """The goal that was achieved, under /api/v1: as it is, as it was, and its steps as jobs."""
    path = f"/api/v1/tasks/{goal_id}/goal"
    whole = (await client.get(path)).json()
    assert (whole["state"], whole["plan"], whole["achieved"], whole["progress"]) == ("completed", 1, True, 100)
    [plan] = whole["plans"]
    assert [(step["step_id"], step["status"]) for step in plan["steps"]] == [
        ("step-1", "completed"),
        ("step-2", "completed"),
    ]
    assert (whole["usage"]["model_calls"], whole["usage"]["tool_calls"]) == (3, 1)
    assert whole["traces"][-1]["message"] == "Asking the model: plan"
    asked_at = whole["traces"][-1]["number"] // 1_000  # of the event that it tells of
    first = (await client.get(path, params={"as_of": asked_at, "traces": 1})).json()
    assert (first["plans"], first["state"], len(first["traces"])) == ([], "running", 1)
    assert (await client.get(path, params={"as_of": events})).json() == {**whole, "traces": whole["traces"][:50]}
    assert (await client.get(path, params={"as_of": "soon"})).status_code == 400
    for job_id, state, progress in ((goal_id, "completed", 100), (f"{goal_id}-step-0", "completed", 100)):
        job = (await client.get(f"/api/v1/queue/jobs/{job_id}")).json()
        assert (job["id"], job["state"], job["progress"], job["failed_reason"]) == (job_id, state, progress, None)
    assert job["result"]["toolCalls"][0]["result"] == {"errors": 5}
    for unknown in ("nothing", f"{goal_id}-step-2", "nothing-continue-0", "not an id-step-0"):
        assert (await client.get(f"/api/v1/queue/jobs/{unknown}")).status_code == 404


async def test_a_goal_is_cancelled_and_other_users_and_tenants_see_none_of_it(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    goal_id = (await begun(client, system))["taskId"]
    for method in ("GET", "DELETE"):
        for headers, code, error in (
            (BOB, 403, "this task is another user's"),
            ({"X-Tenant-Id": "other"}, 404, "Task not found"),
        ):
            answer = await client.request(method, ORCHESTRATE, params={"taskId": goal_id}, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (code, error)
        for unknown in ("nothing", "not an id", "@schedule"):
            answer = await client.request(method, ORCHESTRATE, params={"taskId": unknown})
            assert (answer.status_code, answer.json()["error"]) == (404, "Task not found")
        answer = await client.request(method, ORCHESTRATE)
        assert (answer.status_code, "taskId" in answer.json()["error"]) == (400, True)
    answer = await client.delete(ORCHESTRATE, params={"taskId": goal_id})
    assert (answer.status_code, answer.json()) == (
        200,
        {"taskId": goal_id, "status": "cancelled", "message": "Task cancelled by user"},
    )
    note = NoteChild(under_way(system, goal_id)[0], "cancelled")
    now = system.streams[goal_id][-1].meta.at
    ended = decide(fold(system.streams[goal_id]), note, now, Caller(goal_id, "default", "note"))
    assert not isinstance(ended, Refusal)
    system.record(goal_id, ended)
    seen = await status(client, goal_id)
    assert (seen["status"], seen["lastError"]) == ("failed", "Task cancelled by user")
    assert [step["status"] for step in seen["steps"]] == ["failed", "skipped"]


async def test_a_message_that_is_work_for_a_goal_becomes_one_and_says_so(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    sending = asyncio.create_task(
        client.post("/api/chat", json=said(WORK, allowedMcpServers=ALLOWED, toolChoice="manual"))
    )
    judged = await asked(system, "detect")
    answers(system, judged, response={"orchestrate": True})
    await eventually(lambda: submitted(system)[-1][1].kind == "goal", 20.0)
    goal_id, command = submitted(system)[-1]
    assert (command.queue, submitted(system, "detect")[0][1].queue) == ("chats", "default")
    await step_ends(system, goal_id, "plan", {"steps": STEPS})
    answer = await sending
    told = answer.json()
    assert {**told, "content": ""} == {
        "id": "m1",
        "role": "assistant",
        "content": "",
        "taskId": goal_id,
        "orchestrated": True,
    }
    assert told["content"].splitlines() == [
        "I'll work on this as a long-running task. It has 2 steps:",
        "",
        "1. Read app.log",
        "2. Write a report",
        "",
        f"Task ID: {goal_id}",
    ]
    assert command.input["review"] is True


async def test_what_is_wrong_with_a_goal_is_an_error_with_its_text_and_begins_nothing(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    for body, word in (
        ({}, "`goal`"),
        ({"goal": WORK}, "`threadId`"),
        ({"goal": "", "threadId": "t1"}, "goal"),
        ({"goal": " ", "threadId": "t1"}, "the goal is empty"),
        ({"goal": WORK, "threadId": "a b"}, "not a thread's id"),
        ({"goal": WORK, "threadId": "t1", "allowedMcpServers": {"gh": {"tools": "all"}}}, "tools"),
        ({"goal": WORK, "threadId": "t1", "agentId": "no such/id"}, "agent_id"),
    ):
        answer = await client.post(ORCHESTRATE, json=body)
        assert answer.status_code == 400, answer.text
        assert word in answer.text, body
    assert (await client.post(ORCHESTRATE, content=b"{")).status_code == 400
    system.known_now = type(system.known_now)(kinds=frozenset({"goal"}), queues=frozenset({"default"}))
    unserved = await client.post(ORCHESTRATE, json={"goal": WORK, "threadId": "t1"})
    assert (unserved.status_code, "no executor serves the queue 'chats'" in unserved.text) == (400, True)
    assert system.sent == []
