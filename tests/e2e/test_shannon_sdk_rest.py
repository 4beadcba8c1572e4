"""shannon-sdk 0.7.0 unmodified: what test_shannon_sdk*.py leave, its live check, and its command line, verb by verb."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from shannon import AsyncShannonClient, ShannonClient, errors

from taskloom.client import Client
from taskloom.testing.processes import RunningSystem

pytestmark = pytest.mark.e2e

HERE: Final = Path(__file__).parent
OTHERS: Final = (HERE / "test_shannon_sdk.py", HERE / "test_shannon_sdk_sessions.py")
SLOW: Final = {"sleep_seconds": 60}
MESSAGE: Final = [{"role": "user", "content": "hello"}]

NOT_OFFERED: Final[dict[str, tuple[Any, ...]]] = {
    "get_review_state": ("t",),
    "submit_review_feedback": ("t", "better"),
    "approve_review": ("t",),
    "send_swarm_message": ("t", "hello"),
    "list_skills": (),
    "get_skill": ("x",),
    "get_skill_versions": ("x",),
    "list_tools": (),
    "get_tool": ("x",),
    "execute_tool": ("x",),
    "list_memory_files": (),
    "download_memory_file": ("notes/x.md",),
    "list_openai_models": (),
    "get_openai_model": ("x",),
    "create_chat_completion": (MESSAGE,),
    "stream_chat_completion": (MESSAGE,),
    "create_completion": ({"prompt": "hello"},),
    "stream_completion": ({"prompt": "hello"},),
}
"""Calls that belong to a model platform, with arguments."""


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
    asynchronous = AsyncShannonClient(base_url=running_system.url, api_key="unused")
    yield asynchronous
    await asynchronous.close()


def soon(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, "not met in time"
        time.sleep(0.05)
    return found


def test_every_call_of_both_clients_is_tried_somewhere() -> None:
    texts = [path.read_text() for path in (*OTHERS, Path(__file__))]
    for kind, name in ((ShannonClient, "client"), (AsyncShannonClient, "asynchronous")):
        calls = {call for call in vars(kind) if not call.startswith("_")} - NOT_OFFERED.keys()
        assert len(calls) == 37
        tried = {call for text in texts for call in re.findall(rf"\b{name}\.(\w+)\b", text)}
        assert calls - tried == set(), name


def not_offered(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Whatever the call gives, used up: some of them do nothing before they are iterated."""
    found = call(*arguments)
    return list(found) if hasattr(found, "__next__") else found


def test_blocking_calls_of_a_model_platform_say_in_a_sentence_that_they_are_not_offered(client: Any) -> None:
    for name, arguments in NOT_OFFERED.items():
        with pytest.raises(errors.ServerError, match=r"not (offered|served)") as refused:
            not_offered(getattr(client, name), arguments)
        assert refused.value.code == "501", name


async def test_asynchronous_calls_of_a_model_platform_say_so_too(asynchronous: Any) -> None:
    for name, arguments in NOT_OFFERED.items():
        found = getattr(asynchronous, name)(*arguments)
        with pytest.raises(errors.ServerError, match=r"not (offered|served)") as refused:
            await (anext(found) if hasattr(found, "__anext__") else found)
        assert refused.value.code == "501", name


def test_blocking_agents_and_lists_with_odd_pages(client: Any) -> None:
    agents = {agent.id: agent for agent in client.list_agents()}
    assert agents["echo"].tool == "echo"
    assert client.get_agent("sleep").input_schema["$defs"]["SleepInput"]["required"] == ["seconds"]
    done = client.execute_agent("echo", {"text": "hello"}, session_id="agents-1")
    assert (done.agent_id, done.session_id) == ("echo", "agents-1")
    assert json.loads(client.wait(done.task_id, timeout=60, poll_interval=0.1).result) == {"text": "hello"}
    with pytest.raises(errors.ShannonError):
        client.get_agent("nobody")
    # As in Shannon: the list of sessions falls back, that of tasks refuses.
    assert client.list_sessions(limit=0, offset=-1)[1] == client.list_sessions()[1] > 0
    with pytest.raises(errors.ValidationError):
        client.list_tasks(limit=0)


async def test_asynchronous_schedules_agents_files_and_discovery(asynchronous: Any) -> None:
    assert (await asynchronous.health())["status"] == "healthy"
    assert (await asynchronous.readiness())["status"] == "ready"
    assert "/api/v1/schedules/{schedule_id}/runs" in (await asynchronous.get_openapi_spec())["paths"]

    made = await asynchronous.create_schedule("n", "0 9 * * 1-5", "What is 3 + 4?", task_context={"a": "b"})
    name = made["schedule_id"]
    seen = await asynchronous.get_schedule(name)
    assert (seen.task_query, seen.task_context, seen.status) == ("What is 3 + 4?", {"a": "b"}, "ACTIVE")
    listed, _ = await asynchronous.list_schedules(page_size=100, status="ACTIVE")
    assert name in [each.schedule_id for each in listed]
    assert await asynchronous.pause_schedule(name, "holidays")
    held = await asynchronous.get_schedule(name)
    assert (held.status, held.pause_reason, held.paused_at is not None) == ("PAUSED", "holidays", True)
    assert await asynchronous.resume_schedule(name, "back")
    changed = await asynchronous.update_schedule(name, description="d", clear_task_context=True)
    assert changed["next_run_at"]
    after = await asynchronous.get_schedule(name)
    assert (after.description, not after.task_context, after.name) == ("d", True, "n")
    assert await asynchronous.get_schedule_runs(name) == ([], 0)
    assert await asynchronous.delete_schedule(name)
    with pytest.raises(errors.ShannonError):
        await asynchronous.get_schedule(name)
    with pytest.raises(errors.ValidationError):
        await asynchronous.create_schedule("n", "every day", "q")

    assert {agent.id for agent in await asynchronous.list_agents()} >= {"echo", "shell"}
    assert (await asynchronous.get_agent("echo")).category == "kind"
    done = await asynchronous.execute_agent("echo", {"text": "x"}, session_id=f"files-{uuid.uuid4()}", stream=True)
    status = await asynchronous.wait(done.task_id, timeout=60, poll_interval=0.1)
    assert status.session_id == done.session_id
    assert await asynchronous.list_session_files(done.session_id) == []
    with pytest.raises(errors.SessionNotFoundError):
        await asynchronous.download_session_file(done.session_id, "nothing.txt")
    with pytest.raises(errors.ValidationError):
        await asynchronous.list_session_files(done.session_id, path="../up")
    seen_types = [event.type async for event in asynchronous.stream_ws(done.workflow_id)]
    assert seen_types[-1] == "STREAM_END"
    assert (await asynchronous.get_task_timeline(done.task_id))["stats"]["total"] >= 3
    assert (await asynchronous.list_tasks(session_id=done.session_id))[1] == 1
    assert (await asynchronous.get_task_events(done.task_id))[-1].type == "STREAM_END"
    assert not (await asynchronous.get_control_state(done.task_id)).is_paused


async def test_a_handle_of_the_asynchronous_client_is_awaited(asynchronous: Any) -> None:
    handle = await asynchronous.submit_task("wait for me", context=SLOW)
    first = await anext(aiter(handle.stream()))
    assert first.type == "WORKFLOW_STARTED"
    assert await handle.cancel("enough")
    assert (await handle.wait(timeout=60)).status.value in ("CANCELLED", "TASK_STATUS_CANCELLED")


def test_what_the_sdks_own_live_check_expects(client: Any) -> None:
    """The expectations of its clients/python/tests/e2e_verify.py, in our words."""
    assert client.health()["status"] == "healthy"
    assert client.readiness()["status"] == "ready"
    assert client.get_openapi_spec()["openapi"].startswith("3.")

    session = f"live-check-{uuid.uuid4()}"
    handle = client.submit_task("What is 2 + 2? Answer with the number.", session_id=session)
    status = client.wait(handle.task_id, timeout=60, poll_interval=0.2)
    assert status.status.name == "COMPLETED"
    assert status.result
    assert status.model_used
    assert status.usage
    # The README of the SDK reads one spelling, the gateway's answers have the other.
    assert status.usage["prompt_tokens"] == status.usage["input_tokens"]
    assert status.usage["completion_tokens"] == status.usage["output_tokens"]

    streamed, _ = client.submit_and_stream("Say hello.", session_id=session)
    types = [event.type for event in client.stream(streamed.workflow_id, timeout=60)]
    assert "WORKFLOW_COMPLETED" in types
    assert types[-1] == "done"

    listed, _ = client.list_sessions(limit=50)
    assert session in [each.session_id for each in listed]
    assert client.update_session_title(session, "Live check")
    assert client.get_session(session).title == "Live check"
    assert len(client.get_session_history(session)) == 2
    assert client.delete_session(session)

    paused = client.submit_task("take your time", context=SLOW)
    soon(lambda: client.get_status(paused.task_id).status.name == "RUNNING")
    assert client.pause_task(paused.task_id, "live check")
    soon(lambda: client.get_control_state(paused.task_id).is_paused, 3.0)
    assert client.resume_task(paused.task_id)
    assert client.cancel(paused.task_id, "live check")
    soon(lambda: client.get_status(paused.task_id).status.name in ("CANCELLED", "FAILED"), 1.0 + 5.0)


VERBS: Final = """
import contextlib, io, json, sys
from shannon.cli import main

for line in sys.stdin:
    sys.argv, said, code = ["shannon", *json.loads(line)], io.StringIO(), 0
    with contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, said.getvalue()]), flush=True)
"""
"""Its program, as it is, for one command line after the other: a process for each would take half a second."""


class Program:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(arguments), file=self._process.stdin, flush=True)
        ended, said = json.loads(self._process.stdout.readline())
        assert ended == code, f"{arguments}: {ended} {said}"
        return str(said)


@contextmanager
def program(url: str) -> Iterator[Program]:
    environment = os.environ | {"SHANNON_BASE_URL": url, "SHANNON_API_KEY": "unused"}
    process = subprocess.Popen(
        [sys.executable, "-c", VERBS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield Program(process)
    finally:
        process.communicate(timeout=60)


def after(label: str, said: str) -> str:
    found = re.search(rf"^\s*{label}: (.*)$", said, re.MULTILINE)
    assert found, said
    return found[1]


def test_its_command_line_verb_by_verb(running_system: RunningSystem) -> None:
    with Client(running_system.url) as ours:
        asking = ours.submit(kind="echo", approval={"message": "go on?"}, wait_s=10).task_id
    session = f"verbs-{uuid.uuid4()}"
    with program(running_system.url) as shannon:
        said = shannon("submit", "What is 5 + 6?", "--wait", "--session-id", session, "--mode", "simple")
        assert "✓ Result: " in said
        done = after("Task ID", said)
        assert after("Status", shannon("status", done)) == "COMPLETED"
        assert "WORKFLOW_COMPLETED: All done" in shannon("stream", done)
        types = shannon("stream", done, "--types", "WORKFLOW_STARTED,done").splitlines()[2:]
        assert [line.split(" ", 1)[1].split(":")[0].split("] ")[-1] for line in types] == ["WORKFLOW_STARTED", "done"]

        key = ("--idempotency-key", str(uuid.uuid4()), "--traceparent", f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01")
        slow = after("Task ID", shannon("submit", "slowly", *key, "--force-research", "--max-iterations", "3"))
        assert after("Task ID", shannon("submit", "slowly", *key, "--force-research", "--max-iterations", "3")) == slow

        held = after("Task ID", shannon("submit", "later", "--swarm"))
        shannon("status", held)
        shannon("status", "unknown", code=1)

        assert "✓ Request approved" in shannon("approve", f"{asking}~.approval.1", asking, "--feedback", "fine")
        assert "HTTP 409" in shannon("approve", f"{asking}~.approval.1", asking, "--reject", code=1)

        assert session in shannon("session-list")
        assert "✓ Updated" in shannon("session-title", session, "By the verbs")
        assert "History msgs: 1" in shannon("session-get", session)
        assert "No files found" in shannon("session-files", session)
        shannon("session-file-get", session, "nothing", code=1)
        assert "✓ Deleted" in shannon("session-delete", session)
        shannon("session-get", session, code=1)

        schedule = after("ID", shannon("schedule-create", "n", "0 9 * * *", "q", "--timezone", "Asia/Tokyo"))
        assert after("Cron", shannon("schedule-get", schedule)) == "0 9 * * *"
        assert after("Next run", shannon("schedule-update", schedule, "--cron", "0 8 * * *", "--clear-context"))
        assert "✓ Schedule paused" in shannon("schedule-pause", schedule, "--reason", "holidays")
        assert schedule in shannon("schedule-list", "--status", "PAUSED", "--page-size", "100")
        assert "✓ Schedule resumed" in shannon("schedule-resume", schedule)
        assert "Total runs: 0" in shannon("schedule-runs", schedule)
        assert "✓ Schedule deleted" in shannon("schedule-delete", schedule)

        assert re.search(r"^echo +kind +echo", shannon("agents-list"), re.MULTILINE)
        assert "Category: kind" in shannon("agent-get", "sleep")
        napping = after("Task ID", shannon("agent-exec", "sleep", "--input", '{"seconds": 60}'))
        soon(lambda: after("Status", shannon("status", napping)) == "RUNNING")
        assert "✓ Pause request sent" in shannon("pause", napping, "--reason", "lunch")
        assert after("Pause reason", shannon("control-state", napping)) == "lunch"
        assert "✓ Resume request sent" in shannon("resume", napping)
        assert f"✓ Task {napping} cancelled" in shannon("cancel", napping, "--reason", "enough")
        assert "done: " in shannon("stream", napping)
        assert "HTTP 409" in shannon("cancel", napping, code=1)

        for words in (
            *(("review-get", "t"), ("review-feedback", "t", "m"), ("review-approve", "t"), ("swarm-message", "t", "m")),
            *(("tools-list",), ("tool-get", "x"), ("tool-exec", "x"), ("memory-files",), ("memory-file-get", "x")),
            *(("skills-list",), ("skill-get", "x"), ("skill-versions", "x")),
        ):
            assert "not offered" in shannon(*words, code=1), words
