"""shannon-sdk 0.7.0 unmodified: each of its calls about sessions and approvals, blocking and asynchronous."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from shannon import AsyncShannonClient, EventType, ShannonClient, TaskStatusEnum, errors

from taskloom.client import Client
from taskloom.client.submission import Approval
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(running_system: RunningSystem) -> Iterator[Any]:
    client = ShannonClient(base_url=running_system.url, api_key="unused")
    client._loop = loop = asyncio.new_event_loop()
    yield client
    client.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
async def asynchronous(running_system: RunningSystem) -> AsyncIterator[Any]:
    async with AsyncShannonClient(base_url=running_system.url, api_key="unused") as client:
        yield client


def soon(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, "not met in time"
        time.sleep(0.05)
    return found


def asks(url: str, wish: Approval | None = None) -> str:
    """A task that waits for approval; the SDK has no field for that, so ours submits it."""
    with Client(url) as ours:
        return ours.submit(kind="echo", approval=wish or {"message": "go on?"}, wait_s=10).task_id


def test_blocking_session_calls(client: Any) -> None:
    session = f"session-{uuid.uuid4()}"
    handle = client.submit_task("What is 3 + 4?", session_id=session, context={"note": "x"})
    result = client.wait(handle.task_id, timeout=60, poll_interval=0.1).result
    client.submit_task("What is 5 + 6?", session_id=session).wait(timeout=60)

    listed, total = client.list_sessions(limit=100)
    [mine] = [each for each in listed if each.session_id == session]
    assert total >= 1
    assert (mine.message_count, mine.successful_tasks, mine.is_active, mine.title) == (2, 2, True, None)
    assert mine.latest_task_query == "What is 5 + 6?"
    assert client.update_session_title(session, "  Sums\u200b ")
    seen = client.get_session(session)
    assert (seen.session_id, seen.title, seen.task_count) == (session, "Sums", 2)
    assert seen.total_tokens_used == mine.total_tokens_used > 0
    first = client.get_session_history(session)[0]
    assert (first.task_id, first.result) == (handle.task_id, result)
    turns, count = client.get_session_events(session, limit=1, offset=1)
    assert (count, [turn.turn for turn in turns]) == (2, [2])
    assert turns[0].user_query == "What is 5 + 6?"
    assert turns[0].events[0].type == "WORKFLOW_STARTED"
    assert turns[0].final_output
    assert client.list_session_files(session) == []
    with pytest.raises(errors.SessionNotFoundError):
        client.download_session_file(session, "nothing.txt")
    with pytest.raises(errors.ValidationError):
        client.update_session_title(session, "x" * 61)

    assert client.delete_session(session)
    assert client.delete_session(session), "again"
    for call in (client.get_session, client.get_session_history, client.get_session_events):
        with pytest.raises(errors.SessionNotFoundError):
            call(session)
    assert session not in [each.session_id for each in client.list_sessions(limit=100)[0]]
    with pytest.raises(errors.SessionNotFoundError):
        client.delete_session(f"never-{session}")
    assert client.get_status(handle.task_id).status is TaskStatusEnum.COMPLETED
    client.submit_task("anew", session_id=session).wait(timeout=60)
    assert [item.query for item in client.get_session_history(session)] == ["anew"]


async def test_asynchronous_session_calls(asynchronous: Any) -> None:
    session = f"session-{uuid.uuid4()}"
    handle = await asynchronous.submit_task("What is 3 + 4?", session_id=session)
    await asynchronous.wait(handle.task_id, timeout=60, poll_interval=0.1)
    assert await asynchronous.update_session_title(session, "Sums")
    assert (await asynchronous.get_session(session)).title == "Sums"
    sessions, _ = await asynchronous.list_sessions(limit=100)
    assert ("Sums", session) in [(each.title, each.session_id) for each in sessions]
    [item] = await asynchronous.get_session_history(session)
    assert item.task_id == handle.task_id
    [turn], count = await asynchronous.get_session_events(session)
    assert (count, turn.task_id) == (1, handle.task_id)
    assert await asynchronous.list_session_files(session) == []
    assert await asynchronous.delete_session(session)
    with pytest.raises(errors.SessionNotFoundError):
        await asynchronous.get_session(session)


def test_blocking_approval_end_to_end(client: Any, running_system: RunningSystem) -> None:
    task_id = asks(running_system.url)
    assert client.get_status(task_id).status is TaskStatusEnum.QUEUED
    [asked] = [each for each in client.get_task_events(task_id) if each.type == EventType.APPROVAL_REQUESTED]
    approval = asked.payload["approval_id"]
    assert asked.payload["message"] == "go on?"
    assert client.approve(approval, task_id, approved=True, feedback="fine")
    assert client.wait(task_id, timeout=60, poll_interval=0.1).status is TaskStatusEnum.COMPLETED
    with pytest.raises(errors.ConnectionError) as again:
        client.approve(approval, task_id)
    assert again.value.code == "409"
    with pytest.raises(errors.ShannonError):
        client.approve("nothing", task_id)

    denied = asks(running_system.url)
    assert client.approve(f"{denied}~.approval.1", denied, approved=False, feedback="too risky")
    ended = client.wait(denied, timeout=60, poll_interval=0.1)
    assert ended.status is TaskStatusEnum.FAILED
    assert "too risky" in ended.error_message
    closed = asks(running_system.url, {"approvers": ["somebody-else"]})
    with pytest.raises(errors.PermissionDeniedError):
        client.approve(f"{closed}~.approval.1", closed)
    assert client.cancel(closed)


async def test_asynchronous_approval_from_the_stream_and_our_list(
    asynchronous: Any, running_system: RunningSystem
) -> None:
    task_id = await asyncio.to_thread(asks, running_system.url, {"timeout_s": 600})
    async with httpx.AsyncClient(base_url=running_system.url) as http:
        pending = (await http.get(f"/api/v1/approvals?status=pending&workflow_id={task_id}")).json()["approvals"]
        assert [each["approval_id"] for each in pending] == [f"{task_id}~.approval.1"]
        why = (await http.get(f"/api/v1/tasks/{task_id}/why")).json()
        assert [gate["gate"] for gate in why["gates"]] == ["approval"]
    seen: list[str] = []
    async for event in asynchronous.stream(task_id):
        seen.append(event.type)
        if event.type == EventType.APPROVAL_REQUESTED:
            assert await asynchronous.approve(event.payload["approval_id"], task_id)
    assert "APPROVAL_DECISION" in seen
    assert seen[-1] == "done"
    assert (await asynchronous.get_status(task_id)).status is TaskStatusEnum.COMPLETED


async def test_a_workflow_step_is_approved_through_the_sdk(asynchronous: Any, running_system: RunningSystem) -> None:
    steps = [{"step_type": "approval", "id": "ok", "message": "ship?"}]
    async with httpx.AsyncClient(base_url=running_system.url) as http:
        body = {"kind": "workflow", "input": {"definition": {"name": "w", "steps": steps}}}
        run = (await http.post("/api/v1/tasks", json=body, headers={"Prefer": "wait=10"})).json()["task_id"]

    async def asked() -> Any:
        events = await asynchronous.get_task_events(run)
        return next((each for each in events if each.type == EventType.APPROVAL_REQUESTED), None)

    event = await eventually(asked)
    assert await asynchronous.approve(event.payload["approval_id"], run, feedback="yes")
    status = await asynchronous.wait(run, timeout=60, poll_interval=0.1)
    assert status.status is TaskStatusEnum.COMPLETED
