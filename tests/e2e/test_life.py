"""Every way a task can begin, wait, run and end, over HTTP and real processes."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, Json, all_processes_gone, door, further_executor, row_is

pytestmark = pytest.mark.e2e

FIRST_TRY = ["WORKFLOW_STARTED", "TASK_QUEUED", "ATTEMPT_ASSIGNED", "AGENT_STARTED"]
NEXT_TRY = ["TASK_QUEUED", "ATTEMPT_ASSIGNED", "AGENT_STARTED"]


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_task_that_succeeds(api: Api) -> None:
    task_id = await api.submit(kind="shell", input={"cmd": "echo out; echo err >&2"}, name="both streams", tags=["a"])
    task = await api.ended(task_id)

    assert (task["status"], task["state"], task["exit_code"]) == ("TASK_STATUS_COMPLETED", "completed", 0)
    assert (task["result"], task["attempt"], task["name"], task["tags"]) == ("out", 1, "both streams", ["a"])
    assert task["response"] == {"exit_code": 0, "stdout_bytes": 4, "stderr_bytes": 4, "truncated": False}
    assert await api.types(task_id) == [*FIRST_TRY, "WORKFLOW_COMPLETED", "STREAM_END"]
    times = [moment(task[name]) for name in ("created_at", "queued_at", "started_at", "completed_at", "updated_at")]
    assert times == sorted(times)
    [attempt] = (await api.get(f"/tasks/{task_id}/executions"))["executions"]
    assert (attempt["attempt"], attempt["status"], attempt["exit_code"]) == (1, "completed", 0)
    assert attempt["executor_id"] == task["executor_id"]
    assert attempt["output"]["bytes"] == 8


async def test_a_failure_that_no_retry_would_mend_ends_the_task_at_once(api: Api) -> None:
    task_id = await api.submit(kind="python", input={"function": "nowhere:nothing"})
    task = await api.ended(task_id)

    assert (task["status"], task["state"]) == ("TASK_STATUS_FAILED", "failed")
    assert (task["error_type"], task["attempt"]) == ("unknown_function", 1)
    assert "nowhere:nothing" in task["error"]
    assert await api.types(task_id) == [*FIRST_TRY, "ERROR_OCCURRED", "WORKFLOW_FAILED", "STREAM_END"]


async def test_an_error_type_that_the_policy_names_is_not_retried(api: Api) -> None:
    retry = {"max_attempts": 5, "initial_s": 0.05, "non_retryable": ["exit_code"]}
    task = await api.ended(await api.submit(kind="shell", input={"cmd": "exit 7"}, retry=retry))

    assert (task["state"], task["error_type"], task["exit_code"], task["attempt"]) == ("failed", "exit_code", 7, 1)


async def test_retries_are_events_in_order_with_growing_delays(api: Api) -> None:
    retry = {"max_attempts": 3, "initial_s": 0.2, "factor": 2, "max_s": 10, "jitter": 0}
    task_id = await api.submit(kind="echo", input={"fail_times": 2, "n": 1}, retry=retry)
    task = await api.ended(task_id)

    assert (task["state"], task["attempt"], task["response"]) == ("completed", 3, {"fail_times": 2, "n": 1})
    failed = ["ERROR_OCCURRED", "ERROR_RECOVERY"]
    expected = [*FIRST_TRY, *failed, *NEXT_TRY, *failed, *NEXT_TRY, "WORKFLOW_COMPLETED", "STREAM_END"]
    assert await api.types(task_id) == expected
    events = await api.events(task_id)
    retries = [(n, event["payload"]) for n, event in enumerate(events) if event["type"] == "ERROR_RECOVERY"]
    assert [payload["delay_s"] for _, payload in retries] == [0.2, 0.4]
    for n, payload in retries:
        assert moment(events[n + 1]["timestamp"]) >= moment(payload["due_at"]), "a retry came before its time"
    tried = (await api.get(f"/tasks/{task_id}/executions"))["executions"]
    assert [(each["attempt"], each["status"]) for each in tried] == [(1, "failed"), (2, "failed"), (3, "completed")]


async def test_attempts_used_up_end_the_task_with_the_last_error(api: Api) -> None:
    retry = {"max_attempts": 2, "initial_s": 0.05}
    task = await api.ended(await api.submit(kind="shell", input={"cmd": "echo no >&2; exit 3"}, retry=retry))

    assert (task["state"], task["attempt"], task["exit_code"]) == ("failed", 2, 3)
    assert task["error"].endswith("exit code 3: no")


async def test_start_to_close_kills_what_runs(api: Api, tmp_path: Path) -> None:
    marker = f"marker-{uuid.uuid4().hex}"
    command = f"(touch {tmp_path}/beside; sleep 300) & touch {tmp_path}/begun; sleep 300"
    limits: Json = {"timeouts": {"start_to_close_s": 2}, "retry": {"max_attempts": 1}}
    task_id = await api.submit(kind="shell", input={"cmd": command, "env": {"MARKER": marker}}, **limits)
    task = await api.ended(task_id)

    assert (task["status"], task["state"]) == ("TASK_STATUS_TIMEOUT", "timed_out")
    assert {each.name for each in tmp_path.iterdir()} == {"beside", "begun"}
    await all_processes_gone(marker)
    assert await api.types(task_id) == [*FIRST_TRY, "ERROR_OCCURRED", "WORKFLOW_FAILED", "STREAM_END"]
    [ended] = [event for event in await api.events(task_id) if event["type"] == "ERROR_OCCURRED"]
    assert (ended["payload"]["timeout"], ended["payload"]["confirmed"]) == ("start_to_close", True)


async def test_a_timed_out_attempt_is_tried_again(api: Api, tmp_path: Path) -> None:
    command = f"if [ -e {tmp_path}/second ]; then echo done; else touch {tmp_path}/second; sleep 300; fi"
    limits: Json = {"timeouts": {"start_to_close_s": 2}, "retry": {"max_attempts": 20, "initial_s": 0.05}}
    task = await api.ended(await api.submit(kind="shell", input={"cmd": command}, **limits))

    assert (task["state"], task["result"]) == ("completed", "done")
    assert task["attempt"] >= 2, "more only where two seconds do not do for an echo"


async def test_schedule_to_start_ends_what_nobody_can_run_and_why_says_so_before(api: Api) -> None:
    task_id = await api.submit(kind="echo", capabilities=["quantum"], timeouts={"schedule_to_start_s": 3})
    why = await api.get(f"/tasks/{task_id}/why")
    task = await api.ended(task_id)

    assert why["state"] == "ready"
    [gate] = why["gates"]
    assert (gate["gate"], "quantum" in gate["detail"]) == ("capability", True)
    assert (task["state"], task["attempt"]) == ("timed_out", 0)
    waited = moment(task["completed_at"]) - moment(task["created_at"])
    assert timedelta(seconds=3) <= waited < timedelta(seconds=30)
    assert (await api.get(f"/tasks/{task_id}/why"))["gates"] == []


async def test_total_ends_a_task_that_is_being_retried(api: Api) -> None:
    retry = {"max_attempts": 100, "initial_s": 30, "max_s": 30}
    task_id = await api.submit(kind="echo", input={"fail_times": 99}, retry=retry, timeouts={"total_s": 4})
    waiting = await api.until(task_id, "retrying")
    why = await api.get(f"/tasks/{task_id}/why")

    assert waiting["status"] == "TASK_STATUS_RUNNING"
    assert [gate["gate"] for gate in why["gates"]] == ["retry"]
    assert (await api.ended(task_id))["state"] == "timed_out"


async def test_run_at_is_waited_for(api: Api) -> None:
    run_at = datetime.now(UTC) + timedelta(seconds=3)
    task_id = await api.submit(kind="echo", run_at=run_at.isoformat())
    waiting = await api.task(task_id)
    task = await api.ended(task_id)

    assert (waiting["state"], waiting["status"]) == ("scheduled", "TASK_STATUS_QUEUED")
    late = moment(task["started_at"]) - run_at
    assert timedelta(0) <= late < timedelta(seconds=20)
    assert (await api.types(task_id))[:3] == ["WORKFLOW_STARTED", "TASK_SCHEDULED", "TASK_QUEUED"]


async def test_a_run_at_in_the_past_does_not_wait(api: Api) -> None:
    task_id = await api.submit(kind="echo", run_at="2020-01-01T00:00:00Z")

    assert (await api.ended(task_id))["state"] == "completed"
    assert "TASK_SCHEDULED" not in await api.types(task_id)


async def test_a_deadline_that_passes_is_told_and_the_task_goes_on(api: Api, tmp_path: Path) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=2)
    gate = tmp_path / "gate"
    hold = {"cmd": f"until [ -e {gate} ]; do sleep 0.05; done"}
    task_id = await api.submit(kind="shell", input=hold, deadline=deadline.isoformat())
    assert not (await api.task(task_id))["overdue"]
    await row_is(api, task_id, overdue=True, state="running")
    gate.touch()
    task = await api.ended(task_id)

    assert (task["state"], task["overdue"]) == ("completed", True)
    assert "WARNING" in await api.types(task_id)


async def test_a_heartbeat_that_stays_away_ends_the_attempt(api: Api) -> None:
    limits: Json = {"timeouts": {"heartbeat_s": 1}, "retry": {"max_attempts": 1}}
    task_id = await api.submit(kind="shell", input={"cmd": "sleep 300"}, **limits)
    task = await api.ended(task_id)

    assert task["state"] == "timed_out"
    [ended] = [event for event in await api.events(task_id) if event["type"] == "ERROR_OCCURRED"]
    assert ended["payload"]["timeout"] == "heartbeat"


async def test_priority_overtakes_then_age_decides_and_why_names_who_holds_the_slot(
    running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    queue = f"narrow-{uuid.uuid4().hex[:8]}"
    gate = tmp_path / "gate"
    hold = {"cmd": f"until [ -e {gate} ]; do sleep 0.05; done"}
    async with further_executor(running_system, tmp_path, queue, queues=queue, slots=1, prefetch=0):
        first = await api.submit(kind="shell", queue=queue, input=hold)
        await api.until(first, "running")
        words = {"low-1": 1, "normal-1": 2, "normal-2": "normal", "critical": 5, "high": "high", "low-2": "low"}
        waiting = {
            name: await api.submit(kind="echo", queue=queue, name=name, priority=priority)
            for name, priority in words.items()
        }
        why = await api.get(f"/tasks/{waiting['low-2']}/why")
        await eventually(lambda: queue_is(api, queue, depth=6, open=7, by_priority={"1": 2, "2": 2, "3": 1, "5": 1}))
        gate.touch()
        done = [await api.ended(task_id) for task_id in waiting.values()]

    gates = {each["gate"]: each for each in why["gates"]}
    assert gates["slot"]["held_by"] == [first]
    assert waiting["critical"] in gates["priority"]["held_by"]
    in_order = [task["name"] for task in sorted(done, key=lambda task: moment(task["started_at"]))]
    assert in_order == ["critical", "high", "normal-1", "normal-2", "low-1", "low-2"]


async def queue_is(api: Api, queue: str, **numbers: object) -> bool:
    stats = await api.get(f"/queues/{queue}")
    assert {name: stats[name] for name in numbers} == numbers
    return True


async def test_a_query_without_a_kind_is_answered_offline(api: Api) -> None:
    task_id = await api.submit(query="What is durable?", context={"note": 1})
    task = await api.ended(task_id)

    assert "What is durable?" in task["result"]
    assert (task["kind"], task["context"], task["model_used"]) == ("query", {"note": 1}, "taskloom-offline")
    assert task["usage"]["total_tokens"] > 0
    assert (await api.types(task_id))[-3:] == ["LLM_OUTPUT", "WORKFLOW_COMPLETED", "STREAM_END"]


async def test_an_executor_can_be_named(running_system: RunningSystem, api: Api, tmp_path: Path) -> None:
    name = f"named-{uuid.uuid4().hex[:8]}"
    task_id = await api.submit(kind="echo", executor_id=name)
    why: Json = await api.get(f"/tasks/{task_id}/why")
    async with further_executor(running_system, tmp_path, name, slots=1):
        task = await api.ended(task_id)

    assert [gate["gate"] for gate in why["gates"]] == ["executor"]
    assert (task["state"], task["executor_id"]) == ("completed", name)
