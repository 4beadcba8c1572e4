"""Pause, resume and cancel over HTTP: when they are told, what really stops, and what is refused."""

import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, Json, all_processes_gone, door, processes_with

pytestmark = pytest.mark.e2e

SLOW: Json = {"query": "take your time", "context": {"sleep_seconds": 60}}
STUBBORN = "trap '' TERM; (trap '' TERM; exec sleep 300) & (trap '' TERM; exec sleep 300) & while :; do sleep 1; done"


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


async def told(api: Api, task_id: str, *types: str) -> list[Json]:
    return [event for event in await api.events(task_id) if event["type"] in types]


async def test_a_running_query_pauses_within_a_second_and_goes_on_when_resumed(api: Api) -> None:
    task_id = await api.submit(query="slowly", context={"sleep_seconds": 8})
    await api.until(task_id, "running")
    paused_at = time.monotonic()
    answer = await api.control(task_id, "pause", reason="lunch")
    control = await api.get(f"/tasks/{task_id}/control-state")
    paused = await api.until(task_id, "paused")

    assert (answer.status_code, answer.json()["success"]) == (202, True)
    assert answer.json()["message"] == "Pause signal sent"
    assert (control["is_paused"], control["pause_reason"], control["is_cancelled"]) == (True, "lunch", False)
    assert control["paused_by"]
    assert control["paused_at"]
    assert time.monotonic() - paused_at < 6, "not before its next step"
    assert paused["status"] == "TASK_STATUS_PAUSED"
    progress = paused["progress"]
    assert [gate["gate"] for gate in (await api.get(f"/tasks/{task_id}/why"))["gates"]] == ["pause"]

    answer = await api.control(task_id, "resume", reason="fed")
    control = await api.get(f"/tasks/{task_id}/control-state")
    assert (answer.status_code, answer.json()["message"]) == (202, "Resume signal sent")
    assert (control["is_paused"], control["paused_at"], control["pause_reason"], control["paused_by"]) == (
        False, "", "", "",
    )  # fmt: skip
    assert (await api.task(task_id))["progress"] >= progress
    assert (await api.ended(task_id))["state"] == "completed"
    [pausing, held, resumed] = await told(api, task_id, "WORKFLOW_PAUSING", "WORKFLOW_PAUSED", "WORKFLOW_RESUMED")
    assert pausing["seq"] < held["seq"] < resumed["seq"]
    assert held["payload"]["checkpoint"] in ("start", "step", "answer")


async def test_held_time_does_not_count_against_start_to_close(api: Api) -> None:
    task_id = await api.submit(kind="sleep", input={"seconds": 3}, timeouts={"start_to_close_s": 5})
    await api.until(task_id, "running")
    await api.control(task_id, "pause")
    held_since = time.monotonic()
    await api.until(task_id, "paused")
    await eventually(lambda: time.monotonic() - held_since > 5.2)
    assert (await api.task(task_id))["state"] == "paused"
    await api.control(task_id, "resume")
    assert (await api.ended(task_id))["state"] == "completed"


async def test_a_command_has_no_checkpoint_so_it_runs_to_its_end_while_the_task_says_pausing(
    api: Api, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task_id = await api.submit(kind="shell", input={"cmd": f"until [ -e {gate} ]; do sleep 0.05; done; echo through"})
    await api.until(task_id, "running")
    answer = await api.control(task_id, "pause")
    during = await api.task(task_id)
    gate.touch()
    task = await api.ended(task_id)

    assert answer.json()["state"] == "pausing"
    assert (during["state"], during["status"], during["is_paused"]) == ("pausing", "TASK_STATUS_PAUSED", True)
    assert (task["state"], task["result"]) == ("completed", "through")
    assert await told(api, task_id, "WORKFLOW_PAUSED") == []


async def test_a_failed_attempt_of_a_pausing_task_is_not_tried_again_before_the_resume(
    api: Api, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    command = f"until [ -e {gate} ]; do sleep 0.05; done; [ -e {gate}.2 ] || {{ touch {gate}.2; exit 1; }}"
    task_id = await api.submit(kind="shell", input={"cmd": command}, retry={"initial_s": 0})
    await api.until(task_id, "running")
    await api.control(task_id, "pause")
    gate.touch()
    await api.until(task_id, "paused")
    await api.control(task_id, "resume")
    task = await api.ended(task_id)

    assert (task["state"], task["attempt"]) == ("completed", 2)
    types = await api.types(task_id)
    assert types.index("WORKFLOW_RESUMED") < types.index("ATTEMPT_ASSIGNED", types.index("ERROR_OCCURRED"))


async def test_a_waiting_task_is_paused_at_once_and_is_not_given_out_before_it_is_resumed(api: Api) -> None:
    task_id = await api.submit(kind="echo", run_at="2099-01-01T00:00:00Z")
    await api.control(task_id, "pause")
    assert (await api.task(task_id))["state"] == "paused"
    await api.control(task_id, "resume")
    assert (await api.task(task_id))["state"] == "scheduled"
    await api.control(task_id, "pause")
    await api.control(task_id, "cancel", reason="after all")

    task = await api.ended(task_id)
    [cancelled] = await told(api, task_id, "WORKFLOW_CANCELLED")
    assert (task["state"], task["attempt"]) == ("cancelled", 0)
    assert (cancelled["payload"]["was_paused"], cancelled["payload"].get("confirmed", True)) == (True, True)


async def test_a_cancel_is_requested_signalled_escalated_and_confirmed_and_nothing_runs_any_more(api: Api) -> None:
    marker = f"marker-{uuid.uuid4().hex}"
    task_id = await api.submit(kind="shell", input={"cmd": STUBBORN, "env": {"MARKER": marker}})
    await eventually(lambda: len(processes_with(marker)) >= 4)
    answer = await api.control(task_id, "cancel", reason="enough", grace_s=0.5)
    control = await api.get(f"/tasks/{task_id}/control-state")
    during = await api.task(task_id)
    task = await api.ended(task_id)

    assert (answer.status_code, answer.json()["success"], during["state"]) == (202, True, "cancelling")
    assert (control["is_cancelled"], control["cancel_reason"]) == (True, "enough")
    assert (task["status"], task["state"]) == ("TASK_STATUS_CANCELLED", "cancelled")
    assert processes_with(marker) == [], "confirmed, and yet something runs"
    steps = ["WORKFLOW_CANCELLING", "CANCEL_SIGNALLED", "CANCEL_ESCALATED", "WORKFLOW_CANCELLED"]
    events = await told(api, task_id, *steps)
    assert [event["type"] for event in events] == steps
    _, signalled, escalated, cancelled = (event["payload"] for event in events)
    assert (signalled.get("signal", "SIGTERM"), escalated.get("signal", "SIGKILL")) == ("SIGTERM", "SIGKILL")
    assert signalled["processes"] >= 3
    assert cancelled.get("confirmed", True)
    [attempt] = (await api.get(f"/tasks/{task_id}/executions"))["executions"]
    assert attempt["status"] == "cancelled"


async def test_a_command_that_listens_needs_no_escalation(api: Api) -> None:
    marker = f"marker-{uuid.uuid4().hex}"
    task_id = await api.submit(kind="shell", input={"cmd": "sleep 300", "env": {"MARKER": marker}})
    await eventually(lambda: processes_with(marker))
    await api.control(task_id, "cancel", grace_s=20)
    assert (await api.ended(task_id, 10))["state"] == "cancelled"
    await all_processes_gone(marker)
    assert await told(api, task_id, "CANCEL_ESCALATED") == []


@pytest.mark.parametrize("work", [{"kind": "shell", "input": {"cmd": "sleep 300"}}, SLOW], ids=["pausing", "paused"])
async def test_a_held_task_can_be_cancelled(api: Api, work: Json, request: pytest.FixtureRequest) -> None:
    task_id = await api.submit(**work)
    await api.until(task_id, "running")
    await api.control(task_id, "pause")
    await api.until(task_id, request.node.callspec.id)
    await api.control(task_id, "cancel", grace_s=1)
    assert (await api.ended(task_id))["state"] == "cancelled"
    [cancelled] = await told(api, task_id, "WORKFLOW_CANCELLED")
    assert cancelled["payload"]["was_paused"]


async def test_a_waiting_task_is_cancelled_at_once(api: Api) -> None:
    task_id = await api.submit(kind="echo", capabilities=["quantum"])
    answer = await api.control(task_id, "cancel", reason="nobody can")

    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert (await api.task(task_id))["state"] == "cancelled"
    assert await api.types(task_id) == [
        "WORKFLOW_STARTED", "TASK_QUEUED", "WORKFLOW_CANCELLING", "WORKFLOW_CANCELLED", "STREAM_END",
    ]  # fmt: skip


async def test_a_task_between_two_tries_is_cancelled_at_once(api: Api) -> None:
    retry = {"initial_s": 60, "max_s": 60}
    task_id = await api.submit(kind="echo", input={"fail_times": 9}, retry=retry)
    await api.until(task_id, "retrying")
    assert (await api.control(task_id, "cancel")).json()["state"] == "cancelled"
    assert (await api.ended(task_id))["attempt"] == 1


async def test_a_repeated_cancel_changes_nothing_while_the_first_is_under_way(api: Api) -> None:
    task_id = await api.submit(kind="shell", input={"cmd": STUBBORN})
    await api.until(task_id, "running")
    answers = [await api.control(task_id, "cancel", grace_s=1) for _ in range(3)]
    await api.ended(task_id)

    assert answers[0].status_code == 202
    assert len(await told(api, task_id, "WORKFLOW_CANCELLING")) == 1
    assert len(await told(api, task_id, "CANCEL_SIGNALLED")) == 1


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_an_ended_task_refuses_control_with_409_in_shannons_words(api: Api, end: str) -> None:
    if end == "cancelled":
        task_id = await api.submit(kind="echo", run_at="2099-01-01T00:00:00Z")
        await api.control(task_id, "cancel")
    else:
        command = "true" if end == "completed" else "false"
        task_id = await api.submit(kind="shell", input={"cmd": command}, retry={"max_attempts": 1})
    await api.ended(task_id)
    cancel, pause, resume = [await api.control(task_id, verb) for verb in ("cancel", "pause", "resume")]

    assert [answer.status_code for answer in (cancel, pause, resume)] == [409, 409, 409]
    assert cancel.json()["success"] is False
    assert cancel.json()["message"] == f"Task is already in terminal state: {end}"
    assert cancel.json()["status"] == end
    assert pause.json()["error"] == f"cannot pause {end} task"
    assert resume.json()["error"] == f"cannot resume {end} task"


async def test_wrong_order_is_409_in_shannons_words(api: Api) -> None:
    task_id = await api.submit(**SLOW)
    resumed = await api.control(task_id, "resume")
    await api.control(task_id, "pause")
    paused = await api.control(task_id, "pause")
    await api.control(task_id, "cancel", grace_s=0)

    assert (resumed.status_code, resumed.json()["error"]) == (409, "task is not paused")
    assert (paused.status_code, paused.json()["error"]) == (409, "task is already paused")
    assert (await api.ended(task_id))["state"] == "cancelled"


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
async def test_control_of_an_unknown_task_is_404(api: Api, verb: str) -> None:
    answer = await api.control(f"unknown-{uuid.uuid4()}", verb)

    assert (answer.status_code, answer.json()["error"]) == (404, "Task not found")
