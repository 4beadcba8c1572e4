"""Nodelink on a whole system: all output, in order, once, for everybody; time limits, cancels, ends and lists."""

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.nodelink import AGENT, Event, check, shell, stream, whole
from tests.e2e.support import all_processes_gone, processes_with

pytestmark = pytest.mark.e2e

SIX = [
    *(("stdout", "one"), ("stderr", "two"), ("stdout", "three"), ("stdout", "four"), ("stderr", "five")),
    ("stderr", "six"),
]
LINKED = "agent1"
SIX_LINES = "; ".join(f"echo {word}{' >&2' if where == 'stderr' else ''}" for where, word in SIX)


@pytest.fixture
async def http(running_system: RunningSystem) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=running_system.url, timeout=60, trust_env=False, limits=limits) as http:
        yield http


def lines_of(events: list[Event]) -> list[tuple[str, str]]:
    return [line for event in events for line in event.lines]


async def one_run(http: httpx.AsyncClient, agent_id: str) -> None:
    """A command of six lines on both streams, read by three at once and by one who comes when it is over."""
    task_id = await shell(http, SIX_LINES, agent_id=agent_id)
    readers = await asyncio.gather(*(stream(http, task_id) for _ in range(3)))
    for events in (*readers, await stream(http, task_id)):
        end = check(events)
        assert lines_of(events) == SIX, lines_of(events)
        assert (end["status"], end["shellExecute"]["exitCode"]) == ("completed", 0)


async def runs(http: httpx.AsyncClient, count: int, at_once: int = 5) -> None:
    """By turns on an executor with Kafka and on an agent behind a link."""
    gate = asyncio.Semaphore(at_once)

    async def gated(agent_id: str) -> None:
        async with gate:
            await one_run(http, agent_id)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(gated((AGENT, LINKED)[number % 2]))


async def test_30_runs_of_six_mixed_lines_are_whole_in_order_and_once_for_every_reader(http: httpx.AsyncClient) -> None:
    await runs(http, 30)


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_1000_runs_of_six_mixed_lines_are_whole_in_order_and_once_for_every_reader(
    http: httpx.AsyncClient,
) -> None:
    await runs(http, 1_000)


async def test_2000_lines_reach_readers_of_all_times_and_who_resumes_in_the_middle(http: httpx.AsyncClient) -> None:
    command = "for i in {1..2000}; do echo line $i; if (( i % 100 == 0 )); then sleep 0.02; fi; done"
    task_id = await shell(http, command, agent_id=LINKED)
    early, second = await asyncio.gather(stream(http, task_id), stream(http, task_id))
    expected = "".join(f"line {number}\n" for number in range(1, 2001))
    assert whole(early) == whole(second) == expected
    assert check(early)["status"] == "completed"
    late = await stream(http, task_id)
    assert [event.body for event in late] == [event.body for event in early]
    for place in (0, len(late) // 2, len(late) - 2):
        rest = await stream(http, task_id, late[place].id)
        assert [event.body for event in rest] == [event.body for event in late[place + 1 :]]
    over = await http.get("/stream", params={"ref": task_id}, headers={"Last-Event-ID": late[-1].id})
    assert over.status_code == 204


async def test_20_tasks_at_once_keep_their_outputs_apart(http: httpx.AsyncClient) -> None:
    command = "for i in 1 2 3 4 5; do echo {0} $i; echo {0} $i >&2; done"
    task_ids = await asyncio.gather(*(shell(http, command.format(number)) for number in range(20)))
    for number, events in enumerate(await asyncio.gather(*(stream(http, task_id) for task_id in task_ids))):
        expected = [(where, f"{number} {i}") for i in range(1, 6) for where in ("stdout", "stderr")]
        assert lines_of(events) == expected
        check(events)


async def test_no_character_is_split_however_its_bytes_are_written(http: httpx.AsyncClient) -> None:
    text = "naïve Größe 你好 🧵 " * 40
    script = f"""
import os, time
data = {text!r}.encode()
for step in range(len(data) // 5 + 1):
    os.write(1, data[7 * step:7 * step + 7])
    os.write(2, data[5 * step:5 * step + 5])
    if step % 10 == 0:
        time.sleep(0.03)
"""
    events = await stream(http, await shell(http, f"{shlex.quote(sys.executable)} - <<'END'\n{script}END"))
    check(events)
    assert all("base64" not in event.data for event in events), "a character was split"
    for where in ("stdout", "stderr"):
        assert "".join(event.data["output"] for event in events if event.data["type"] == where) == text


async def test_ends_tell_their_exit_code_and_status(http: httpx.AsyncClient) -> None:
    failed, missing = await shell(http, "echo oops >&2; exit 3"), await shell(http, "true", cwd="/does/not/exist")
    events = await stream(http, failed)
    end = check(events)
    assert (end["status"], end["event_response"]["status"], end["shellExecute"]["exitCode"]) == ("failed", "FAILURE", 3)
    assert whole(events) == "oops\n"
    not_started = check(await stream(http, missing))
    assert (not_started["status"], not_started["shellExecute"]["exitCode"]) == ("failed", 1)
    assert "/does/not/exist" in not_started["shellExecute"]["stderr"]
    assert (await http.get(f"/tasks/{failed}")).json()["status"] == "failed"


async def test_a_time_limit_ends_the_processes_and_is_visible(http: httpx.AsyncClient, tmp_path: Path) -> None:
    marker = f"marker-{tmp_path}"
    task_id = await shell(http, "echo begun; sleep 300 & sleep 300", timeout=1, agent_id=LINKED, env={"MARKER": marker})
    events = await stream(http, task_id)
    end = check(events)
    assert (end["status"], end["event_response"]["status"], whole(events)) == ("timeout", "FAILURE", "begun\n")
    await all_processes_gone(marker)
    seen = (await http.get(f"/tasks/{task_id}")).json()
    assert (seen["status"], seen["timeout"]) == ("timeout", "1s")
    assert (await http.delete(f"/tasks/{task_id}")).status_code == 400


async def test_a_cancel_ends_the_whole_process_group_and_is_told_at_the_end(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    marker = f"marker-{tmp_path}"
    task_id = await shell(http, "echo begun; sleep 300 & sleep 300", agent_id=LINKED, env={"MARKER": marker})
    reading = asyncio.create_task(stream(http, task_id))
    await eventually(lambda: len(processes_with(marker)) >= 3)
    answer = await http.delete(f"/tasks/{task_id}")
    assert (answer.status_code, answer.json()) == (200, {"message": "task cancelled"})
    await all_processes_gone(marker)
    events = await reading
    end = check(events)
    assert (end["isFinal"], end["cancelled"], end["taskCancel"]) == (True, True, {"message": "cancelled by user"})
    assert whole(events) == "begun\n"
    assert (await http.get(f"/tasks/{task_id}")).json()["status"] == "cancelled"
    again = await http.delete(f"/tasks/{task_id}")
    assert again.json() == {"error": f"task {task_id} is already in final state: cancelled"}


async def test_lists_know_what_was_just_made_and_what_was_refused(http: httpx.AsyncClient) -> None:
    task_id = await shell(http, "true")
    refused = await http.post("/tasks/shell", json={"agent_id": f"ghost-{os.getpid()}", "cmd": "true"})
    assert (refused.status_code, refused.json()["error"]) == (409, "failed to create task")
    legacy = await http.post(f"/agents/{LINKED}/shell", json={"cmd": "echo hello"})
    assert whole(await stream(http, legacy.json()["ref"])) == "hello\n"
    listed = {task["task_id"]: task for task in (await http.get("/tasks")).json()["tasks"]}
    assert {task_id, legacy.json()["ref"]} <= set(listed)
    assert listed[refused.json()["task_id"]]["status"] == "failed"
    ghosts = (await http.get(f"/agents/ghost-{os.getpid()}/tasks")).json()["tasks"]
    assert [task["task_id"] for task in ghosts] == [refused.json()["task_id"]]
