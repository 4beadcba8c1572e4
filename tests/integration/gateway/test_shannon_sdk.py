"""shannon-sdk 0.7.0, unmodified, against the whole system."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest
from shannon import AsyncShannonClient, EventType, TaskStatusEnum, errors

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem

pytestmark = [pytest.mark.integration, pytest.mark.e2e]
SLOW = {"sleep_seconds": 60}


@pytest.fixture
async def client(running_system: RunningSystem) -> AsyncIterator[Any]:
    async with AsyncShannonClient(base_url=running_system.url, api_key="unused") as client:
        yield client


async def refused(call: Coroutine[Any, Any, object], kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as fault:
        await call
    assert getattr(fault.value, "code", None) == code


def has_status(client: Any, task_id: str, status: TaskStatusEnum) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def look() -> bool:
        return (await client.get_status(task_id)).status is status

    return look


async def test_a_query_runs_and_every_read_agrees(client: Any) -> None:
    session = f"session-{uuid.uuid4()}"
    handle = await client.submit_task("What is 2 + 2?", session_id=session)
    status = await client.wait(handle.task_id, timeout=60, poll_interval=0.1)
    assert status.status is TaskStatusEnum.COMPLETED
    assert status.result
    assert status.model_used
    assert status.usage["total_tokens"] > 0
    events = await client.get_task_events(handle.task_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "STREAM_END"
    timeline = await client.get_task_timeline(handle.task_id)
    assert timeline["stats"]["total"] == len(timeline["events"]) > 0
    tasks, total = await client.list_tasks(session_id=session)
    assert ([task.task_id for task in tasks], total) == ([handle.task_id], 1)
    assert (await client.get_session(session)).session_id == session
    assert [item.task_id for item in await client.get_session_history(session)] == [handle.task_id]
    sessions, _ = await client.list_sessions(limit=100)
    assert session in [each.session_id for each in sessions]


async def test_a_stream_ends_with_done_and_can_be_resumed(client: Any) -> None:
    handle = await client.submit_task("stream me", context={"sleep_seconds": 0.5})
    frames = [event async for event in client.stream(handle.workflow_id)]
    assert [event.type for event in frames][-2:] == ["WORKFLOW_COMPLETED", "done"]
    assert all(event.message for event in frames if event.type == EventType.LLM_PARTIAL)
    middle = len(frames) // 2
    rest = [event async for event in client.stream(handle.workflow_id, last_event_id=frames[middle].stream_id)]
    expected = frames[middle + 1 :]
    assert Counter(event.type for event in rest) == Counter(event.type for event in expected)
    # Events keep their order, and so does output; how the two lie between each other may differ.
    output = (EventType.LLM_PARTIAL, "LLM_PARTIAL", "thread.message.delta")
    told, retold = ([e.type for e in some if e.type not in output] for some in (expected, rest))
    assert retold == told


async def test_pause_resume_and_cancel(client: Any) -> None:
    handle = await client.submit_task("take your time", context=SLOW)
    await eventually(has_status(client, handle.task_id, TaskStatusEnum.RUNNING))
    assert await client.pause_task(handle.task_id, "lunch")
    state = await client.get_control_state(handle.task_id)
    assert (state.is_paused, state.pause_reason) == (True, "lunch")
    assert (await client.get_status(handle.task_id)).status is TaskStatusEnum.PAUSED
    await refused(client.pause_task(handle.task_id), errors.ConnectionError, "409")
    assert await client.resume_task(handle.task_id)
    assert not (await client.get_control_state(handle.task_id)).is_paused
    await refused(client.resume_task(handle.task_id), errors.ConnectionError, "409")
    assert await client.cancel(handle.task_id, "enough")
    await eventually(has_status(client, handle.task_id, TaskStatusEnum.CANCELLED))
    await refused(client.cancel(handle.task_id), errors.ConnectionError, "409")


async def test_a_key_gives_one_task_and_refuses_another_body(client: Any) -> None:
    key = str(uuid.uuid4())
    handles = await asyncio.gather(*(client.submit_task("once", idempotency_key=key) for _ in range(8)))
    assert len({handle.task_id for handle in handles}) == 1
    await refused(client.submit_task("twice", idempotency_key=key), errors.ConnectionError, "409")


async def test_unknown_ids_and_bad_input_are_told_apart(client: Any) -> None:
    for call in (client.get_status, client.cancel, client.pause_task, client.get_task_events, client.get_control_state):
        await refused(call(f"unknown-{uuid.uuid4()}"), errors.TaskNotFoundError, "404")
    await refused(client.get_session("unknown"), errors.SessionNotFoundError, "404")
    await refused(client.submit_task("x", mode="wild"), errors.ValidationError, "400")
    await refused(client.list_tasks(limit=1000), errors.ValidationError, "400")


async def test_large_values_come_back_whole(running_system: RunningSystem) -> None:
    text = "x" * 3_000_000
    async with httpx.AsyncClient(base_url=running_system.url, timeout=30) as http:
        answer = await http.post("/api/v1/tasks", json={"kind": "echo", "input": {"text": text}})
        task_id = answer.json()["task_id"]

        async def ended() -> dict[str, Any] | None:
            task: dict[str, Any] = (await http.get(f"/api/v1/tasks/{task_id}")).json()
            return task if task["status"] == "TASK_STATUS_COMPLETED" else None

        task = await eventually(ended)
        assert task["response"] == task["input"] == {"text": text}


async def test_500_lines_arrive_in_order_while_and_after_they_are_written(running_system: RunningSystem) -> None:
    command = "for i in $(seq 500); do echo $i; [ $((i % 50)) = 0 ] && sleep 0.02; done"
    async with httpx.AsyncClient(base_url=running_system.url, timeout=30) as http:
        task = {"kind": "shell", "input": {"cmd": command}}
        task_id = (await http.post("/api/v1/tasks", json=task)).json()["task_id"]
        expected = "".join(f"{number}\n" for number in range(1, 501))
        for _ in range(2):
            assert await _streamed_output(http, task_id) == expected
        assert (await http.get(f"/api/v1/tasks/{task_id}/output?format=text&limit=1000")).text == expected


async def _streamed_output(http: httpx.AsyncClient, task_id: str) -> str:
    import json

    text, kind = "", ""
    async with http.stream("GET", f"/api/v1/stream/sse?workflow_id={task_id}") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind == "output":
                text += json.loads(line.removeprefix("data: "))["text"]
    assert kind == "done"
    return text


async def test_why_and_executors_and_queues_answer(running_system: RunningSystem) -> None:
    async with httpx.AsyncClient(base_url=running_system.url, timeout=30) as http:
        late = {"kind": "echo", "run_at": "2099-01-01T00:00:00Z"}
        task_id = (await http.post("/api/v1/tasks", json=late, headers={"Prefer": "wait=5"})).json()["task_id"]
        why = (await http.get(f"/api/v1/tasks/{task_id}/why")).json()
        assert (why["state"], [gate["gate"] for gate in why["gates"]]) == ("scheduled", ["schedule"])
        assert why["expected_start"].startswith("2099-01-01T00:00:00")
        [executor, *_] = (await http.get("/api/v1/executors")).json()["executors"]
        assert "echo" in executor["kinds"]
        assert (await http.get(f"/api/v1/executors/{executor['executor_id']}")).status_code == 200
        assert (await http.get("/api/v1/executors/nobody")).status_code == 404
        assert (await http.get("/api/v1/queues/default")).json()["name"] == "default"
        assert (await http.post(f"/api/v1/tasks/{task_id}/cancel")).status_code == 202
