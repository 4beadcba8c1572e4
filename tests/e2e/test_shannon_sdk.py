"""shannon-sdk 0.7.0 unmodified, blocking and asynchronous: each of its calls about tasks, and its command line."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from shannon import AsyncShannonClient, EventType, ShannonClient, TaskStatusEnum, errors

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem

pytestmark = pytest.mark.e2e

SLOW = {"sleep_seconds": 60}


@pytest.fixture
def client(running_system: RunningSystem) -> Iterator[Any]:
    client = ShannonClient(base_url=running_system.url, api_key="unused")
    # It would take the thread's loop, which is pytest's, or make one and never close it.
    client._loop = loop = asyncio.new_event_loop()
    yield client
    client.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
async def asynchronous(running_system: RunningSystem) -> AsyncIterator[Any]:
    async with AsyncShannonClient(base_url=running_system.url, api_key="unused") as client:
        yield client


def soon(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Like ``eventually``, for a client that runs a loop of its own and so can be used in none."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "not met in time"
        time.sleep(0.05)


def test_blocking_submit_wait_and_every_read(client: Any) -> None:
    session = f"session-{uuid.uuid4()}"
    handle = client.submit_task("What is 3 + 4?", session_id=session, context={"note": "x"}, mode="simple")
    status = client.wait(handle.task_id, timeout=60, poll_interval=0.1)

    assert (handle.session_id, handle.workflow_id) == (session, handle.task_id)
    assert (status.status, status.task_id) == (TaskStatusEnum.COMPLETED, handle.task_id)
    assert "What is 3 + 4?" in status.result
    assert client.get_status(handle.task_id).status is TaskStatusEnum.COMPLETED
    assert handle.result(timeout=5) == status.result
    tasks, total = client.list_tasks(session_id=session, status="COMPLETED")
    assert ([task.task_id for task in tasks], total) == ([handle.task_id], 1)
    events = client.get_task_events(handle.task_id)
    assert (events[0].type, events[-1].type) == ("WORKFLOW_STARTED", "STREAM_END")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    timeline = client.get_task_timeline(handle.task_id)
    assert (timeline["events"][0]["type"], timeline["events"][-1]["type"]) == ("WF_STARTED", "WF_COMPLETED")


def test_blocking_pause_resume_cancel_and_control_state(client: Any) -> None:
    handle = client.submit_task("take your time", context=SLOW)
    soon(lambda: client.get_status(handle.task_id).status is TaskStatusEnum.RUNNING)
    assert client.pause_task(handle.task_id, "lunch")
    state = client.get_control_state(handle.task_id)
    assert (state.is_paused, state.pause_reason, state.is_cancelled) == (True, "lunch", False)
    assert state.paused_at is not None
    assert client.get_status(handle.task_id).status is TaskStatusEnum.PAUSED
    assert client.resume_task(handle.task_id)
    assert not client.get_control_state(handle.task_id).is_paused
    assert handle.cancel("enough")
    soon(lambda: client.get_status(handle.task_id).status is TaskStatusEnum.CANCELLED)
    assert client.get_control_state(handle.task_id).cancel_reason == "enough"
    for late in (client.cancel, client.pause_task, client.resume_task):
        with pytest.raises(errors.ConnectionError) as refused:
            late(handle.task_id)
        assert refused.value.code == "409"


def test_blocking_submit_and_stream_then_the_stream_to_its_end(client: Any) -> None:
    handle, url = client.submit_and_stream("stream me", context={"sleep_seconds": 0.3})
    events = list(client.stream(handle.workflow_id))

    assert url == f"/api/v1/stream/sse?workflow_id={handle.task_id}"
    assert events[0].type == "WORKFLOW_STARTED"
    assert [event.type for event in events[-2:]] == ["WORKFLOW_COMPLETED", "done"]
    assert all(event.workflow_id == handle.task_id for event in events if event.type != "done")
    chosen = list(client.stream(handle.workflow_id, types=[EventType.WORKFLOW_COMPLETED, EventType.STREAM_END]))
    assert [event.type for event in chosen] == ["WORKFLOW_COMPLETED", "done"]


def test_blocking_faults_have_their_own_exceptions(client: Any) -> None:
    unknown = f"unknown-{uuid.uuid4()}"
    calls = (client.get_status, client.cancel, client.pause_task, client.resume_task, client.get_control_state,
             client.get_task_events, client.get_task_timeline)  # fmt: skip
    for call in calls:
        with pytest.raises(errors.TaskNotFoundError):
            call(unknown)
    with pytest.raises(errors.ValidationError):
        client.list_tasks(limit=101)
    handle = client.submit_task("too slow", context=SLOW)
    with pytest.raises(errors.TaskTimeoutError):
        client.wait(handle.task_id, timeout=0.3, poll_interval=0.1)
    assert client.cancel(handle.task_id)


def test_one_key_is_one_task_for_the_blocking_client(client: Any) -> None:
    key = str(uuid.uuid4())
    first, second = (client.submit_task("once", idempotency_key=key) for _ in range(2))
    assert first.task_id == second.task_id


def test_blocking_stream_over_a_websocket_to_its_end(client: Any) -> None:
    handle = client.submit_task("stream me", context={"sleep_seconds": 0.3})
    events = list(client.stream_ws(handle.workflow_id))

    assert [event.type for event in events[-3:]] == ["LLM_OUTPUT", "WORKFLOW_COMPLETED", "STREAM_END"]
    pieces = [event.message for event in events if event.type == "LLM_PARTIAL"]
    assert "".join(pieces) == events[-3].message != ""
    chosen = list(client.stream_ws(handle.workflow_id, types=[EventType.WORKFLOW_COMPLETED, EventType.STREAM_END]))
    assert [event.type for event in chosen] == ["WORKFLOW_COMPLETED", "STREAM_END"]
    rest = list(client.stream_ws(handle.workflow_id, last_event_id=events[4].stream_id))
    # Output and events may interleave in another way; neither is missing, neither comes twice.
    assert sorted((event.type, event.seq) for event in rest) == sorted((event.type, event.seq) for event in events[5:])


async def test_asynchronous_submit_and_stream_while_it_is_paused_and_cancelled(asynchronous: Any) -> None:
    handle, _ = await asynchronous.submit_and_stream("stream me", context=SLOW)
    seen: list[str] = []
    async for event in asynchronous.stream(handle.workflow_id):
        seen.append(event.type)
        if event.type == "AGENT_STARTED":
            assert await asynchronous.pause_task(handle.task_id, "lunch")
        elif event.type == EventType.WORKFLOW_PAUSED:
            assert await asynchronous.resume_task(handle.task_id)
        elif event.type == EventType.WORKFLOW_RESUMED:
            assert await asynchronous.cancel(handle.task_id, "enough")

    control = [kind for kind in seen if kind.startswith("workflow.") or kind == "done"]
    assert control == ["workflow.pausing", "workflow.paused", "workflow.resumed", "workflow.cancelling",
                       "workflow.cancelled", "done"]  # fmt: skip
    assert (await asynchronous.get_status(handle.task_id)).status is TaskStatusEnum.CANCELLED


async def test_asynchronous_failures_and_timeouts_are_told_apart(asynchronous: Any) -> None:
    handle = await asynchronous.submit_task("slow", context=SLOW)

    async def is_running() -> bool:
        return (await asynchronous.get_status(handle.task_id)).status is TaskStatusEnum.RUNNING

    await eventually(is_running)
    with pytest.raises(errors.TaskTimeoutError):
        await asynchronous.wait(handle.task_id, timeout=0.3, poll_interval=0.1)
    assert await asynchronous.cancel(handle.task_id)
    ended = await asynchronous.wait(handle.task_id, timeout=60, poll_interval=0.1)
    assert ended.status is TaskStatusEnum.CANCELLED


def test_its_command_line_submits_and_shows(running_system: RunningSystem) -> None:
    def shannon(*arguments: str) -> str:
        program = Path(sys.executable).with_name("shannon")
        done = subprocess.run(
            [str(program), "--base-url", running_system.url, *arguments],
            env=os.environ | {"SHANNON_API_KEY": "unused"}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    said = shannon("submit", "What is 5 + 6?", "--wait")
    assert "You asked: What is 5 + 6?" in said
    [task_id] = {word.strip() for word in said.split() if word.startswith("task-")}
    assert "COMPLETED" in shannon("status", task_id)


def test_schedules_are_made_changed_held_and_run(client: Any, running_system: RunningSystem) -> None:
    name = f"nightly {uuid.uuid4()}"
    made = client.create_schedule(
        name, "30 2 * * *", "What is 3 + 4?", timezone="Europe/Berlin", task_context={"a": "b"}
    )
    schedule_id = made["schedule_id"]
    seen = client.get_schedule(schedule_id)
    assert (seen.name, seen.cron_expression, seen.timezone, seen.status) == (
        name,
        "30 2 * * *",
        "Europe/Berlin",
        "ACTIVE",
    )
    assert made["next_run_at"]

    client.pause_schedule(schedule_id, reason="holidays")
    assert client.get_schedule(schedule_id).status == "PAUSED"
    client.resume_schedule(schedule_id)
    assert client.update_schedule(schedule_id, cron_expression="0 4 * * *")["next_run_at"]
    listed, total = client.list_schedules(page_size=100)
    assert total >= 1
    assert schedule_id in [each.schedule_id for each in listed]

    httpx.post(f"{running_system.url}/api/v1/schedules/{schedule_id}/run").raise_for_status()

    def has_run() -> bool:
        runs, count = client.get_schedule_runs(schedule_id)
        return bool(count == 1 and runs[0].status == "COMPLETED")

    soon(has_run)
    soon(lambda: client.get_schedule(schedule_id).successful_runs == 1)
    client.delete_schedule(schedule_id)
    with pytest.raises(errors.ShannonError):
        client.get_schedule(schedule_id)


def test_an_interval_runs_by_itself_once_for_each_due_time(running_system: RunningSystem) -> None:
    with httpx.Client(base_url=f"{running_system.url}/api/v1") as http:
        body = {"name": "ping", "interval_s": 1, "overlap": "allow", "task": {"kind": "echo", "input": {"n": 1}}}
        schedule_id = http.post("/schedules", json=body).raise_for_status().json()["schedule_id"]
        soon(lambda: http.get(f"/schedules/{schedule_id}").json()["successful_runs"] >= 3)
        http.delete(f"/schedules/{schedule_id}").raise_for_status()
        found = http.get("/tasks", params={"metadata.schedule_id": schedule_id, "limit": 100}).json()["tasks"]
    times = [each["task_id"].rpartition("-")[2] for each in found]
    assert len(set(times)) == len(times) >= 3
