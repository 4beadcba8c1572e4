"""Nodelink's calls at their own paths: bodies, statuses, texts, and the stream in both shapes at once."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from services.gateway.server import HttpServer
from taskloom.domain.task import events as e
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import OUTPUT_SEQ_SPAN, ErrorInfo, OutputSummary, Timeouts
from taskloom.testing.eventually import eventually
from taskloom.views.executors.query import Executor
from taskloom.wire.messages import OutputChunk
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.test_agents import executor

Json = dict[str, Any]
NANOSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
STARTED: list[e.TaskEvent] = [e.AttemptAssigned(1, "agent1", "i"), e.AttemptStarted(1, "agent1")]


@pytest.fixture(autouse=True)
def agents(system: MemorySystem) -> None:
    system.executors_now = [
        executor("agent1", "shell", "docker"),
        executor("plain", "shell"),
        executor("gone", "shell", status="lost"),
        executor("leaving", "shell", status="draining"),
    ]
    system.known_now = type(system.known_now)(kinds=frozenset({"shell", "docker"}))


async def made(client: httpx.AsyncClient, **body: Any) -> str:
    answer = await client.post("/tasks/shell", json={"agent_id": "agent1", "cmd": "true", **body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


async def status(client: httpx.AsyncClient, task_id: str) -> str:
    return str((await client.get(f"/tasks/{task_id}")).json()["status"])


def sent(system: MemorySystem) -> SubmitTask:
    command = system.sent[-1].command
    assert isinstance(command, SubmitTask)
    return command


# Making tasks.


async def test_a_command_becomes_a_task_of_its_agent_with_one_attempt(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    answer = await client.post("/tasks/shell", json={"agent_id": "agent1", "cmd": "echo hi", "timeout": 90})
    made = answer.json()
    assert (answer.status_code, set(made)) == (200, {"task_id", "agent_id", "status", "created_at"})
    assert (made["agent_id"], made["status"]) == ("agent1", "pending")
    assert NANOSECONDS.fullmatch(made["created_at"])
    command = sent(system)
    assert (command.kind, command.input, command.executor_id) == ("shell", {"cmd": "echo hi"}, "agent1")
    assert command.retry is not None
    assert command.retry.max_attempts == 1
    assert command.timeouts == Timeouts(start_to_close_s=90, schedule_to_start_s=90)
    seen = (await client.get(f"/tasks/{made['task_id']}")).json()
    assert seen == {**made, "updated_at": seen["updated_at"], "timeout": "1m30s"}
    assert NANOSECONDS.fullmatch(seen["updated_at"])


async def test_the_time_limit_is_five_minutes_unless_it_is_said(client: httpx.AsyncClient) -> None:
    for timeout, text in ((None, "5m0s"), (0, "5m0s"), (1, "1s"), (3600, "1h0m0s"), (0.25, "250ms")):
        task_id = await made(client, timeout=timeout)
        assert (await client.get(f"/tasks/{task_id}")).json()["timeout"] == text


async def test_what_the_kind_takes_beyond_nodelink_is_handed_on_and_the_rest_left_out(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    await made(client, env={"A": "1"}, cwd="/tmp", colour="red")
    assert sent(system).input == {"cmd": "true", "env": {"A": "1"}, "cwd": "/tmp"}


async def test_a_container_becomes_a_task_of_the_kind_docker(client: httpx.AsyncClient, system: MemorySystem) -> None:
    answer = await client.post("/tasks/docker", json={"agent_id": "agent1", "operation": "run", "image": "hello-world"})
    assert (answer.status_code, answer.json()["status"]) == (200, "pending")
    command = sent(system)
    assert (command.kind, command.input) == ("docker", {"operation": "run", "image": "hello-world"})
    for operation in ("start", "stop", "logs"):
        answer = await client.post("/tasks/docker", json={"agent_id": "agent1", "operation": operation, "id": "web"})
        assert answer.status_code == 200
        assert sent(system).input == {"operation": operation, "id": "web"}


SHELL_FAULTS = [
    (b"", "not JSON"),
    (b"[]", "Expected `object`"),
    (b"{", "not JSON"),
    (b'{"cmd": "true"}', "`agent_id`"),
    (b'{"agent_id": "agent1"}', "`cmd`"),
    (b'{"agent_id": "agent1", "cmd": ""}', "$.cmd"),
    (b'{"agent_id": "", "cmd": "true"}', "$.agent_id"),
    (b'{"agent_id": "no such/id", "cmd": "true"}', "$.agent_id"),
    (b'{"agent_id": "agent1", "cmd": 5}', "$.cmd"),
    (b'{"agent_id": "agent1", "cmd": "true", "timeout": "5"}', "$.timeout"),
    (b'{"agent_id": "agent1", "cmd": "true", "timeout": -5}', "timeout: -5 is negative"),
    (b'{"agent_id": "agent1", "cmd": "true", "timeout": 1e12}', "$.timeout"),
    (b'{"agent_id": "agent1", "cmd": "true", "env": {"A": 1}}', "input.env"),
]


DOCKER_FAULTS = [
    (b'{"agent_id": "agent1", "operation": "run"}', "image is missing"),
    (b'{"agent_id": "agent1", "operation": "stop"}', "id is missing"),
    (b'{"agent_id": "agent1", "operation": "burn", "image": "x"}', "$.operation"),
    (b'{"agent_id": "agent1"}', "`operation`"),
]


async def test_a_wrong_body_is_an_invalid_request_whose_details_say_why(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    for path, faults in (("/tasks/shell", SHELL_FAULTS), ("/tasks/docker", DOCKER_FAULTS)):
        for body, details in faults:
            answer = await client.post(path, content=body)
            told = answer.json()
            assert (answer.status_code, told["error"]) == (400, "invalid request"), body
            assert set(told) == {"error", "details"}
            assert details in told["details"], body
    assert system.sent == []


async def test_an_agent_that_is_not_connected_is_an_error_at_once_and_the_failed_task_is_recorded(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    for agent_id in ("ghost", "gone", "leaving"):
        answer = await client.post("/tasks/shell", json={"agent_id": agent_id, "cmd": "true"})
        told = answer.json()
        assert (answer.status_code, told["error"]) == (409, "failed to create task")
        assert told["details"] == f"agent with this id is not connected: {agent_id}"
        [task] = (await client.get(f"/agents/{agent_id}/tasks")).json()["tasks"]
        assert (task["task_id"], task["agent_id"], task["status"]) == (told["task_id"], agent_id, "failed")
        assert [type(each.event) for each in system.streams[told["task_id"]]] == [e.TaskSubmitted, e.TaskFailed]
        seen = (await client.get(f"/api/v1/tasks/{told['task_id']}")).json()
        assert (seen["status"], seen["error_type"]) == ("TASK_STATUS_FAILED", "agent_not_connected")


@pytest.mark.parametrize("kinds", [{"shell", "docker"}, {"shell"}])
async def test_an_agent_that_does_not_run_containers_says_so_at_once_whether_another_does_or_none(
    client: httpx.AsyncClient, system: MemorySystem, kinds: set[str]
) -> None:
    system.known_now = type(system.known_now)(kinds=frozenset(kinds))
    answer = await client.post("/tasks/docker", json={"agent_id": "plain", "operation": "run", "image": "x"})
    assert (answer.status_code, answer.json()["details"]) == (409, "agent does not run docker tasks: plain")
    assert (await client.get(f"/tasks/{answer.json()['task_id']}")).json()["status"] == "failed"
    submission = {"kind": "docker", "input": {"operation": "run", "image": "x"}}
    refused = await client.post("/api/v1/tasks", json=submission)
    assert (refused.status_code, refused.json().get("field")) == ((200, None) if "docker" in kinds else (400, "kind"))
    assert "docker" in kinds or "TASKLOOM_DOCKER_HOST" in refused.json()["error"]


async def test_a_tenants_agent_is_called_by_its_own_id_and_nobody_elses_is_seen(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    def of(tenant_id: str, name: str) -> Executor:
        beat = executor(name, "shell").heartbeat
        return Executor(msgspec.structs.replace(beat, tenant_id=tenant_id), "ready", 0.0)

    system.executors_now = [of("acme", "acme:builder"), of("default", "agent1"), executor("plain", "shell")]
    acme = {"X-Tenant-Id": "acme"}
    for agent_id, status_code in (("builder", 200), ("acme:builder", 200), ("plain", 200), ("agent1", 409)):
        answer = await client.post("/tasks/shell", json={"agent_id": agent_id, "cmd": "true"}, headers=acme)
        assert answer.status_code == status_code, agent_id
    assert (await client.post("/tasks/shell", json={"agent_id": "builder", "cmd": "true"})).status_code == 409
    for path in ("/api/v1/executors/{}", "/api/v1/agents/{}/stats"):
        assert (await client.get(path.format("builder"), headers=acme)).json()["executor_id"] == "acme:builder"
        assert (await client.get(path.format("builder"))).status_code == 404
        assert (await client.get(path.format("agent1"), headers=acme)).status_code == 404


async def test_a_failure_at_once_cannot_be_submitted_from_outside(client: httpx.AsyncClient) -> None:
    fails = {"kind": "shell", "input": {"cmd": "true"}, "fails_with": {"type": "x", "message": "y"}}
    answer = await client.post("/api/v1/tasks", json=fails)
    assert (answer.status_code, answer.json()["field"]) == (400, "fails_with")


async def test_an_agent_with_queues_of_its_own_gets_the_task_through_one_of_them(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    beat = executor("far", "shell").heartbeat
    queues = type(beat)(**{**{name: getattr(beat, name) for name in beat.__struct_fields__}, "queues": ("edge",)})
    system.executors_now = [type(system.executors_now[0])(queues, "ready", 0.0)]
    system.known_now = type(system.known_now)(kinds=frozenset({"shell"}), queues=frozenset({"edge"}))
    await made(client, agent_id="far")
    assert sent(system).queue == "edge"


async def test_older_clients_get_a_ref_which_is_the_tasks_id(client: httpx.AsyncClient, system: MemorySystem) -> None:
    answer = await client.post("/agents/agent1/shell", json={"cmd": "echo hello"})
    assert (answer.status_code, set(answer.json())) == (200, {"ref"})
    assert (await client.get(f"/tasks/{answer.json()['ref']}")).json()["agent_id"] == "agent1"
    assert (await client.post("/agents/agent1/shell", content=b"no")).json()["error"] == "invalid request"
    assert (await client.post("/agents/ghost/shell", json={"cmd": "true"})).status_code == 409


async def test_a_task_made_twice_under_a_key_is_one(client: httpx.AsyncClient) -> None:
    body = {"agent_id": "agent1", "cmd": "true"}
    answers = [await client.post("/tasks/shell", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len((await client.get("/tasks")).json()["tasks"]) == 1


# Looking at them.


async def test_lists_are_arrays_also_when_they_are_empty(client: httpx.AsyncClient) -> None:
    assert (await client.get("/tasks")).json() == {"tasks": []}
    assert (await client.get("/agents/agent1/tasks")).json() == {"agent_id": "agent1", "tasks": []}
    assert (await client.get("/agents/who knows/tasks")).json() == {"agent_id": "who knows", "tasks": []}


async def test_lists_have_each_agents_tasks_newest_first(client: httpx.AsyncClient) -> None:
    first, second = await made(client), await made(client, agent_id="plain")
    third = await made(client)
    tasks = (await client.get("/tasks")).json()["tasks"]
    assert [task["task_id"] for task in tasks] == [third, second, first]
    assert {frozenset(task) for task in tasks} == {
        frozenset({"task_id", "agent_id", "status", "created_at", "updated_at"})
    }
    mine = (await client.get("/agents/agent1/tasks")).json()
    assert [task["task_id"] for task in mine["tasks"]] == [third, first]


async def test_a_list_waits_for_what_was_just_made(client: httpx.AsyncClient, system: MemorySystem) -> None:
    system.behind = True
    task_id = await made(client)
    listing = asyncio.create_task(client.get("/tasks"))
    await asyncio.sleep(0.05)
    assert not listing.done()
    system.project(task_id)
    assert [task["task_id"] for task in (await listing).json()["tasks"]] == [task_id]


async def test_what_ended_leaves_the_lists_after_half_an_hour_but_not_its_own_address(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    task_id = await made(client)
    system.record(task_id, [*STARTED, e.TaskCompleted(1, exit_code=0)])
    for minutes, listed in ((29, True), (36, False)):
        system.rows[task_id].completed_at = datetime.now(UTC) - timedelta(minutes=minutes)
        assert bool((await client.get("/tasks")).json()["tasks"]) is listed
        assert bool((await client.get("/agents/agent1/tasks")).json()["tasks"]) is listed
    assert await status(client, task_id) == "completed"
    assert (await client.get(f"/api/v1/tasks/{task_id}")).status_code == 200


async def test_a_task_goes_through_nodelinks_words(client: httpx.AsyncClient, system: MemorySystem) -> None:
    task_id = await made(client)
    assert await status(client, task_id) == "pending"
    for event, word in ((STARTED[0], "sent"), (STARTED[1], "in_progress"), (e.TaskCompleted(1), "completed")):
        system.record(task_id, [event])
        assert await status(client, task_id) == word


async def test_ends_have_nodelinks_words_and_refuse_a_cancel(client: httpx.AsyncClient, system: MemorySystem) -> None:
    ends: list[tuple[e.TaskEvent, str]] = [
        (e.TaskCompleted(1, exit_code=0), "completed"),
        (e.TaskFailed(ErrorInfo("exit_code", "exit code 3", details={"exit_code": 3}), 1), "failed"),
        (e.TaskTimedOut("start_to_close", 1.0, 1), "timeout"),
        (e.TaskCancelled(1), "cancelled"),
    ]
    for end, word in ends:
        task_id = await made(client)
        system.record(task_id, [*STARTED, end])
        assert await status(client, task_id) == word
        answer = await client.delete(f"/tasks/{task_id}")
        assert answer.status_code == 400
        assert answer.json() == {"error": f"task {task_id} is already in final state: {word}"}


async def test_an_unknown_task_is_not_found_in_one_wording(client: httpx.AsyncClient) -> None:
    for task_id in ("nothing", "not an id", "%00", "@schedule"):
        answers = [
            await client.get(f"/tasks/{task_id}"),
            await client.delete(f"/tasks/{task_id}"),
            await client.get("/stream", params={"ref": task_id}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()) == (404, {"error": "task not found"})


async def test_another_tenants_task_is_not_found(client: httpx.AsyncClient) -> None:
    task_id = await made(client)
    theirs = {"X-Tenant-Id": "other"}
    assert (await client.get(f"/tasks/{task_id}", headers=theirs)).status_code == 404
    assert (await client.delete(f"/tasks/{task_id}", headers=theirs)).status_code == 404
    assert (await client.get("/stream", params={"ref": task_id}, headers=theirs)).status_code == 404
    assert (await client.get("/tasks", headers=theirs)).json() == {"tasks": []}


# Cancelling.


async def test_a_task_that_nobody_runs_yet_is_cancelled_at_once(client: httpx.AsyncClient) -> None:
    task_id = await made(client)
    answer = await client.delete(f"/tasks/{task_id}")
    assert (answer.status_code, answer.json()) == (200, {"message": "task cancelled"})
    assert await status(client, task_id) == "cancelled"


async def test_a_cancel_is_answered_when_nothing_runs_any_more(client: httpx.AsyncClient, system: MemorySystem) -> None:
    task_id = await made(client)
    system.record(task_id, STARTED)
    cancelling = asyncio.create_task(client.delete(f"/tasks/{task_id}"))
    await eventually(lambda: any(isinstance(each.event, e.CancelRequested) for each in system.streams[task_id]))
    assert await status(client, task_id) == "in_progress"
    assert not cancelling.done()
    system.record(task_id, [e.CancelSignalled(1), e.TaskCancelled(1, reason="cancelled by user", exit_code=-15)])
    assert (await cancelling).json() == {"message": "task cancelled"}
    assert await status(client, task_id) == "cancelled"


async def test_a_cancel_of_what_does_not_stop_is_answered_in_time_all_the_same(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    task_id = await made(client)
    system.record(task_id, STARTED)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 200
    assert await status(client, task_id) == "in_progress"


# The stream.


class Reader:
    def __init__(self) -> None:
        self.frames: list[ServerSentEvent] = []
        self.headers = httpx.Headers()
        self.opened, self.done = asyncio.Event(), asyncio.Event()

    @property
    def told(self) -> list[Json]:
        return [json.loads(frame.data) for frame in self.frames]

    @property
    def output(self) -> str:
        return "".join(each["event_response"]["result"]["data"]["output"] for each in self.told)


@asynccontextmanager
async def reading(server: HttpServer, task_id: str, after: str = "") -> AsyncIterator[Reader]:
    reader = Reader()
    headers = {"Last-Event-ID": after} if after else {}

    async def read() -> None:
        url = f"http://127.0.0.1:{server.port}/stream"
        async with (
            httpx.AsyncClient() as client,
            aconnect_sse(client, "GET", url, params={"ref": task_id, "client_id": "c"}, headers=headers) as source,
        ):
            reader.headers = source.response.headers
            reader.opened.set()
            async for frame in source.aiter_sse():
                reader.frames.append(frame)
        reader.done.set()

    reading = asyncio.create_task(read())
    try:
        yield reader
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def whole(server: HttpServer, task_id: str, after: str = "") -> Reader:
    async with reading(server, task_id, after) as reader, asyncio.timeout(10):
        await reader.done.wait()
    return reader


def piece(
    task_id: str, number: int, text: str, stream: Any = "stdout", *, attempt: int = 1, data: bytes = b""
) -> OutputChunk:
    seq = (attempt - 1) * OUTPUT_SEQ_SPAN + number
    at = datetime(2026, 11, 21, 17, 45, 0, 123_456, tzinfo=UTC)
    return OutputChunk(task_id, attempt, seq, stream, at, text, data)


async def test_an_event_is_in_both_shapes_at_once(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    system.record(task_id, STARTED)
    system.write(task_id, piece(task_id, 1, "hello\n"))
    system.write(task_id, piece(task_id, 2, "oh\n", "stderr"))
    system.record(task_id, [e.TaskCompleted(1, exit_code=0, output=OutputSummary(2, 2, 9))])
    reader = await whole(server, task_id)

    assert {frame.event for frame in reader.frames} == {"response"}
    assert reader.told[0] == {
        "event_response": {
            "event_ref": task_id,
            "status": "IN_PROGRESS",
            "result": {
                "data": {
                    "output": "hello\n",
                    "type": "stdout",
                    "timestamp": 1_795_283_100_123,
                    "sequence": 1,
                    "is_final": False,
                    "exit_code": 0,
                }
            },
        },
        "agentId": "agent1",
        "taskId": task_id,
        "status": "in_progress",
        "isFinal": False,
        "cancelled": False,
        "shellExecute": {"stdout": "hello\n", "stderr": "", "exitCode": 0},
    }
    assert reader.told[1]["shellExecute"] == {"stdout": "", "stderr": "oh\n", "exitCode": 0}
    assert reader.told[1]["event_response"]["result"]["data"]["type"] == "stderr"
    end = reader.told[2]
    data = end["event_response"]["result"]["data"]
    assert (end["status"], end["event_response"]["status"], end["isFinal"]) == ("completed", "SUCCESS", True)
    assert (data["output"], data["sequence"], data["is_final"], data["exit_code"]) == ("", 3, True, 0)
    assert len(reader.frames) == 3


async def test_a_command_that_failed_keeps_its_exit_code(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    error = ErrorInfo("exit_code", "the command ended with exit code 3", details={"exit_code": 3})
    system.record(task_id, [*STARTED, e.AttemptFailed(1, error, 3), e.TaskFailed(error, 1)])
    [end] = (await whole(server, task_id)).told
    assert (end["status"], end["event_response"]["status"], end["error"]) == ("failed", "FAILURE", error.message)
    assert end["event_response"]["result"]["data"]["exit_code"] == end["shellExecute"]["exitCode"] == 3


async def test_what_could_not_be_started_says_so_in_stderr(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    answer = await client.post("/tasks/shell", json={"agent_id": "ghost", "cmd": "true"})
    [end] = (await whole(server, answer.json()["task_id"])).told
    text = "agent with this id is not connected: ghost"
    assert end["shellExecute"] == {"stdout": "", "stderr": text, "exitCode": 1}
    data = end["event_response"]["result"]["data"]
    assert (data["output"], data["type"], data["exit_code"], data["sequence"]) == (text, "stderr", 1, 1)
    assert end["agentId"] == "ghost"


async def test_a_cancelled_task_says_so_in_its_last_event(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    system.record(task_id, [*STARTED, e.TaskCancelled(1, reason="cancelled by user", exit_code=-15)])
    [end] = (await whole(server, task_id)).told
    assert (end["isFinal"], end["cancelled"], end["taskCancel"]) == (True, True, {"message": "cancelled by user"})
    assert (end["status"], "shellExecute" in end) == ("cancelled", False)
    assert end["event_response"]["result"]["data"]["exit_code"] == -15


async def test_a_task_that_ran_out_of_time_says_so(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    system.record(task_id, [*STARTED, e.TaskTimedOut("start_to_close", 1.0, 1)])
    [end] = (await whole(server, task_id)).told
    assert (end["status"], end["event_response"]["status"]) == ("timeout", "FAILURE")
    assert (end["error"], end["shellExecute"]["exitCode"]) == ("the time limit of 1 s was reached", 1)


async def test_bytes_that_are_no_text_come_whole(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    system.record(task_id, STARTED)
    system.write(task_id, piece(task_id, 1, "", data=b"\xff\x00a"))
    system.record(task_id, [e.TaskCompleted(1, output=OutputSummary(1, 1, 3))])
    data = (await whole(server, task_id)).told[0]["event_response"]["result"]["data"]
    assert (data["output"], data["base64"]) == ("\ufffd\x00a", "/wBh")


async def test_letters_that_end_lines_elsewhere_cut_no_event(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id, text = await made(client), 'a\u2028b\u2029c\x85d\x0b"\\é🧵\r\n'
    system.record(task_id, STARTED)
    system.write(task_id, piece(task_id, 1, text))
    system.record(task_id, [e.TaskCompleted(1, output=OutputSummary(1, 1, 3))])
    reader = await whole(server, task_id)
    assert reader.output == reader.told[0]["shellExecute"]["stdout"] == text
    assert len(reader.frames[0].data.splitlines()) == 1


async def test_headers_come_at_once_and_comments_while_nothing_happens(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    async with reading(server, task_id) as reader, asyncio.timeout(60):
        await reader.opened.wait()
    assert reader.headers["content-type"].startswith("text/event-stream")
    assert reader.headers["access-control-allow-origin"] == "*"
    url = f"http://127.0.0.1:{server.port}/stream"
    async with httpx.AsyncClient() as other, other.stream("GET", url, params={"ref": task_id}) as answer:
        async with asyncio.timeout(60):
            lines = answer.aiter_lines()
            seen = [await anext(lines) for _ in range(2)]
    assert seen == [f": task {task_id}", ": heartbeat"]


async def test_a_page_that_may_use_the_gateway_is_named_alone(client: httpx.AsyncClient, system: MemorySystem) -> None:
    task_id = await made(client)
    system.record(task_id, [*STARTED, e.TaskCompleted(1)])
    page = {"Origin": "http://localhost:3000"}
    answer = await client.get("/stream", params={"ref": task_id}, headers=page)
    assert answer.headers.get_list("access-control-allow-origin") == ["http://localhost:3000"]
    foreign = await client.get("/stream", params={"ref": task_id}, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403


async def test_several_readers_early_and_late_get_the_same(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    async with reading(server, task_id) as first, reading(server, task_id) as second:
        await first.opened.wait()
        await second.opened.wait()
        system.record(task_id, STARTED)
        for number in range(1, 4):
            system.write(task_id, piece(task_id, number, f"{number}\n"))
        await eventually(lambda: first.output == "1\n2\n3\n")
        await asyncio.sleep(0.3)  # a heartbeat comes between, and is no event
        async with reading(server, task_id) as third:
            await eventually(lambda: third.output == "1\n2\n3\n")
            system.write(task_id, piece(task_id, 4, "4\n"))
            system.record(task_id, [e.TaskCompleted(1, output=OutputSummary(4, 4, 8))])
            async with asyncio.timeout(60):
                await asyncio.gather(*(each.done.wait() for each in (first, second, third)))
    late = await whole(server, task_id)
    assert [frame.data for frame in first.frames] == [frame.data for frame in late.frames]
    assert [frame.id for frame in late.frames] == [frame.id for frame in third.frames]
    assert second.output == third.output == "1\n2\n3\n4\n"


async def test_a_stream_resumes_behind_any_event_and_is_over_behind_the_last(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    task_id = await made(client)
    system.record(task_id, STARTED)
    for number in range(1, 6):
        system.write(task_id, piece(task_id, number, f"{number}\n"))
    system.record(task_id, [e.TaskCompleted(1, output=OutputSummary(5, 5, 10))])
    frames = (await whole(server, task_id)).frames
    for place, frame in enumerate(frames[:-1]):
        rest = (await whole(server, task_id, frame.id)).frames
        assert [(each.id, each.data) for each in rest] == [(each.id, each.data) for each in frames[place + 1 :]]
    over = await client.get("/stream", params={"ref": task_id}, headers={"Last-Event-ID": frames[-1].id})
    assert (over.status_code, over.content) == (204, b"")
    assert (await client.get("/stream", params={"ref": task_id, "last_event_id": frames[-1].id})).status_code == 204


async def test_a_stream_without_a_ref_or_with_a_wrong_id_is_an_invalid_request(client: httpx.AsyncClient) -> None:
    task_id = await made(client)
    for query in ({}, {"ref": ""}, {"ref": task_id, "last_event_id": "x"}):
        answer = await client.get("/stream", params=query)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid request"), query
