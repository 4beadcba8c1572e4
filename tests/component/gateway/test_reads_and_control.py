import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from httpx import AsyncClient as Client
from litestar import Litestar

from taskloom.domain.task import events as e
from taskloom.domain.values import OutputSummary
from taskloom.wire.claims import claim
from taskloom.wire.messages import OutputChunk
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"
READS = ["", "/events", "/timeline", "/output", "/executions", "/control-state", "/why"]


async def submit(client: Client, task_id: str, tenant: str = "default") -> None:
    answer = await client.post(
        TASKS, json={"kind": "echo", "task_id": task_id, "session_id": f"s-{task_id}"}, headers={"X-Tenant-Id": tenant}
    )
    assert answer.status_code == 200


def complete(system: MemorySystem, task_id: str) -> None:
    system.record(
        task_id,
        [
            e.AttemptAssigned(1, "executor-1", "i"),
            e.AttemptStarted(1, "executor-1"),
            e.TaskCompleted(1, result="done", response={"a": 1}, output=OutputSummary(1, 1, 6)),
        ],
    )
    system.write(task_id, OutputChunk(task_id, 1, 1, "stdout", datetime.now(UTC), "hello\n"))


@pytest.mark.parametrize("path", READS)
async def test_unknown_and_foreign_ids_look_the_same(client: Client, path: str) -> None:
    await submit(client, "theirs", tenant="red")
    for task_id in ("theirs", "nobodys"):
        answer = await client.get(f"{TASKS}/{task_id}{path}")
        assert answer.status_code == 404
        assert answer.json() == {"error": "Task not found", "task_id": task_id}
    assert (await client.get(f"{TASKS}/theirs{path}", headers={"X-Tenant-Id": "red"})).status_code == 200


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
async def test_another_tenants_task_cannot_be_controlled(client: Client, system: MemorySystem, verb: str) -> None:
    await submit(client, "theirs", tenant="red")
    before = len(system.streams["theirs"])
    assert (await client.post(f"{TASKS}/theirs/{verb}")).status_code == 404
    assert len(system.streams["theirs"]) == before


async def test_lists_and_sessions_hold_only_the_tenants_own(client: Client) -> None:
    await submit(client, "a", tenant="red")
    await submit(client, "b", tenant="blue")
    red = {"X-Tenant-Id": "red"}
    listed = (await client.get(TASKS, headers=red)).json()
    assert ([task["task_id"] for task in listed["tasks"]], listed["total_count"]) == (["a"], 1)
    sessions = (await client.get("/api/v1/sessions", headers=red)).json()
    assert [session["session_id"] for session in sessions["sessions"]] == ["s-a"]
    assert (await client.get("/api/v1/sessions/s-b", headers=red)).status_code == 404
    assert (await client.get("/api/v1/sessions/s-b/history", headers=red)).status_code == 404


@pytest.mark.parametrize("path", READS)
async def test_a_bad_id_is_400(client: Client, path: str) -> None:
    answer = await client.get(f"{TASKS}/a%20b{path}")
    assert (answer.status_code, answer.json()["field"]) == (400, "task_id")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?offset=-1", "offset"),
        ("?status=WILD", "status"),
        ("?session_id=a%20b", "session_id"),
        ("?created_after=yesterday", "created_after"),
        ("/a?as_of=yesterday", "as_of"),
        ("/a?as_of=0", "as_of"),
        ("/a/events?limit=201", "limit"),
        ("/a/timeline?mode=wild", "mode"),
        ("/a/output?stream=stdall", "stream"),
    ],
)
async def test_a_bad_parameter_is_400_and_named(client: Client, path: str, field: str) -> None:
    await submit(client, "a")
    answer = await client.get(f"{TASKS}{path}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)


@pytest.mark.parametrize("status", ["PAUSED", "queued", "CANCELED", "TASK_STATUS_RUNNING", "QUEUED,RUNNING"])
async def test_every_status_word_filters(client: Client, status: str) -> None:
    assert (await client.get(f"{TASKS}?status={status}")).status_code == 200


async def test_a_read_of_what_was_just_accepted_waits_for_the_projection(client: Client, system: MemorySystem) -> None:
    system.behind = True
    await submit(client, "a")
    reading = asyncio.create_task(client.get(f"{TASKS}/a"))
    await asyncio.sleep(0.02)
    assert not reading.done()
    system.project("a")
    assert (await reading).status_code == 200


async def test_a_read_after_control_shows_its_effect(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    system.behind = True
    assert (await client.post(f"{TASKS}/a/pause", json={"reason": "lunch"})).status_code == 202
    reading = asyncio.create_task(client.get(f"{TASKS}/a/control-state"))
    await asyncio.sleep(0.02)
    system.project("a")
    state = (await reading).json()
    assert state["is_paused"]
    assert state["pause_reason"] == "lunch"
    assert state["paused_at"].endswith("Z")


async def test_as_of_gives_the_task_as_it_was(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    complete(system, "a")
    then = await client.get(f"{TASKS}/a?as_of=2")
    assert (then.json()["status"], then.headers["X-Taskloom-Version"]) == ("TASK_STATUS_QUEUED", "2")
    now = await client.get(f"{TASKS}/a")
    assert (now.json()["status"], now.json()["response"]) == ("TASK_STATUS_COMPLETED", {"a": 1})
    assert (await client.get(f"{TASKS}/a?as_of=2020-01-01T00:00:00Z")).status_code == 404
    assert len((await client.get(f"{TASKS}/a/events?as_of=3")).json()["events"]) == 3


async def test_events_come_in_pages_without_gap_or_double(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    complete(system, "a")
    seqs = []
    for offset in (0, 2, 4):
        page = (await client.get(f"{TASKS}/a/events?limit=2&offset={offset}")).json()
        assert page["count"] == len(page["events"])
        seqs += [event["seq"] for event in page["events"]]
    assert seqs == [1, 2, 3, 4, 5, 6]
    everything = (await client.get(f"{TASKS}/a/events")).json()["events"]
    assert [event["type"] for event in everything][-2:] == ["WORKFLOW_COMPLETED", "STREAM_END"]


async def test_output_comes_as_chunks_and_as_text(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    complete(system, "a")
    body = (await client.get(f"{TASKS}/a/output")).json()
    assert (body["chunks"][0]["text"], body["next"], body["complete"]) == ("hello\n", 1, True)
    text = await client.get(f"{TASKS}/a/output?format=text")
    assert (text.content, text.headers["X-Taskloom-Complete"]) == (b"hello\n", "true")


async def test_executions_name_the_attempts(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    complete(system, "a")
    [execution] = (await client.get(f"{TASKS}/a/executions")).json()["executions"]
    assert (execution["attempt"], execution["status"], execution["executor_id"]) == (1, "completed", "executor-1")


async def test_wrong_states_are_409_with_shannons_texts(client: Client) -> None:
    await submit(client, "a")
    assert (await client.post(f"{TASKS}/a/resume")).json()["error"] == "task is not paused"
    assert (await client.post(f"{TASKS}/a/pause")).status_code == 202
    again = await client.post(f"{TASKS}/a/pause")
    assert (again.status_code, again.json()["error"]) == (409, "task is already paused")
    cancelled = await client.post(f"{TASKS}/a/cancel", json={"reason": "enough"})
    assert (cancelled.status_code, cancelled.json()["success"]) == (202, True)
    ended = await client.post(f"{TASKS}/a/cancel")
    assert ended.status_code == 409
    assert ended.json()["success"] is False
    assert ended.json()["message"] == "Task is already in terminal state: cancelled"
    assert (await client.post(f"{TASKS}/a/pause")).json()["error"] == "cannot pause cancelled task"


async def test_control_bodies_are_checked(client: Client) -> None:
    await submit(client, "a")
    answer = await client.post(f"{TASKS}/a/cancel", json={"raison": "x"})
    assert (answer.status_code, answer.json()["field"]) == (400, "raison")


async def test_a_silent_orchestrator_is_503(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    system.silent = True
    for answer in (await client.post(f"{TASKS}/a/cancel"), await client.get(f"{TASKS}/a/why")):
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers


async def test_the_lag_stands_in_answers_about_state(client: Client, app: Litestar, system: MemorySystem) -> None:
    await submit(client, "a")
    system.lag = 40.0
    await app.state["gateway"].lag.look()
    for path in (TASKS, f"{TASKS}/a", f"{TASKS}/a/events", "/api/v1/sessions", "/api/v1/queues", "/api/v1/executors"):
        assert (await client.get(path)).headers["X-Taskloom-Lag-Ms"] == "40"


async def test_unknown_routes_and_methods_are_json_errors_with_a_trace(client: Client) -> None:
    for answer, status in ((await client.get("/api/v1/nothing"), 404), (await client.put(TASKS), 405)):
        assert answer.status_code == status
        assert answer.json()["error"]
        assert len(answer.headers["X-Trace-ID"]) == 32


async def test_foreign_pages_and_names_are_refused(client: Client) -> None:
    by_origin = await client.post(TASKS, json={"query": "x"}, headers={"Origin": "https://evil.example"})
    assert (by_origin.status_code, by_origin.json()["field"]) == (403, "Origin")
    by_host = await client.get(TASKS, headers={"Host": "rebound.example"})
    assert (by_host.status_code, by_host.json()["field"]) == (403, "Host")
    own = await client.get(TASKS, headers={"Origin": "http://localhost:3000"})
    assert own.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


async def test_a_bad_tenant_is_400(client: Client) -> None:
    answer = await client.get(TASKS, headers={"X-Tenant-Id": "a b"})
    assert (answer.status_code, answer.json()["field"]) == (400, "X-Tenant-Id")


async def test_the_openapi_document_holds_every_route(client: Client, app: Litestar) -> None:
    document = (await client.get("/openapi.json")).json()
    served = {(path, method.lower()) for path, methods in _routes(app).items() for method in methods}
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert described == served
    ids = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))
    assert document == (await client.get("/api/v1/openapi.json")).json()


def _routes(app: Litestar) -> dict[str, set[str]]:
    """Methods by path; a WebSocket has none, and may share its path with a request."""
    found: dict[str, set[str]] = {}
    for route in app.routes:
        methods = {str(method) for method in route.methods if method != "OPTIONS"}
        found.setdefault(route.path_format.replace(":str", ""), set()).update(methods)
    return found


async def test_a_large_result_comes_back_whole_and_text_that_only_looks_like_a_reference_stays(
    client: Client, system: MemorySystem
) -> None:
    stored = msgspec.json.encode("long " * 20_000)
    reference = msgspec.json.encode(claim(await system.put(stored), len(stored))).decode()
    for task_id, result, shown in (("a", reference, "long " * 20_000), ("b", '{"$claim": broken', '{"$claim": broken')):
        await submit(client, task_id)
        system.record(task_id, [e.AttemptAssigned(1, "x", "i"), e.AttemptStarted(1, "x"), e.TaskCompleted(1, result)])
        assert (await client.get(f"{TASKS}/{task_id}")).json()["result"] == shown


async def test_a_list_as_of_a_time_shows_the_tasks_of_then_as_they_were(client: Client, system: MemorySystem) -> None:
    await client.post(TASKS, json={"kind": "echo", "task_id": "early"})
    then = system.streams["early"][-1].meta.at.isoformat().replace("+00:00", "Z")
    await client.post(f"{TASKS}/early/cancel")
    await client.post(TASKS, json={"kind": "echo", "task_id": "late"})
    listed = (await client.get(TASKS, params={"as_of": then})).json()["tasks"]
    assert [(task["task_id"], task["status"]) for task in listed] == [("early", "TASK_STATUS_QUEUED")]
    assert (await client.get(TASKS, params={"as_of": then, "status": "CANCELLED"})).json()["tasks"] == []
    refused = await client.get(f"{TASKS}?as_of=3")
    assert (refused.status_code, refused.json()["field"]) == (400, "as_of")
