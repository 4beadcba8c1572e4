"""Executors and tasks that are not trusted for a while: breaker, and quarantine of tasks and of executors."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, FurtherExecutor, Json, door, further_executor

pytestmark = pytest.mark.e2e

FAILURES = 20
"""``TASKLOOM_BREAKER_FAILURES`` as it is where nobody sets it."""


async def gate_of(api: Api, task_id: str, name: str) -> Json | None:
    answer = await api.get(f"/tasks/{task_id}/why")
    found = [gate for gate in answer["gates"] if gate["gate"] == name]
    return {**found[0], "expected_start": answer["expected_start"]} if found else None


async def submit_all(api: Api, bodies: list[Json]) -> list[str]:
    answer = await api.http.post("/api/v1/tasks/batch", json={"tasks": bodies})
    assert answer.status_code == 200, answer.text
    return [str(each["task_id"]) for each in answer.json()["tasks"]]


async def a_kind_rests_where_it_keeps_failing_and_is_tried_again(api: Api, executor_id: str) -> None:
    """Different tasks that pass their time limit stand for a handler that hangs."""
    nap: Json = {"kind": "sleep", "queue": executor_id}
    hanging = {**nap, "input": {"seconds": 30}, "timeouts": {"start_to_close_s": 0.1}, "retry": {"max_attempts": 1}}
    for task_id in await submit_all(api, [hanging] * FAILURES):
        assert (await api.ended(task_id))["state"] == "timed_out"
    fine: Json = {**nap, "input": {"seconds": 0.01}}
    first, second = await submit_all(api, [fine, fine])
    gate = await eventually(partial(gate_of, api, first, "breaker")) or {}
    assert gate["held_by"] == [executor_id]
    assert gate["detail"].startswith(f"tasks of kind 'sleep' failed too often in a row on {executor_id}; tried again")
    opens = datetime.fromisoformat(gate["expected_start"])
    assert timedelta() < opens - datetime.fromisoformat(gate["since"]) <= timedelta(seconds=5)
    other = await api.ended(await api.submit(kind="echo", queue=executor_id))
    assert other["state"] == "completed", "another kind goes on meanwhile"
    for task_id in (first, second):
        assert (await api.ended(task_id))["state"] == "completed"
        assert datetime.fromisoformat((await api.task(task_id))["started_at"]) >= opens - timedelta(milliseconds=50)


async def a_task_that_loses_its_executors_is_quarantined_and_redriven(api: Api, executor: FurtherExecutor) -> None:
    queue = executor.name
    harmless = await api.submit(kind="sleep", input={"seconds": 300}, queue=queue, retry={"initial_s": 0.1})
    poison = await api.submit(
        kind="sleep", input={"seconds": 300}, queue=queue, retry={"max_lost": 2, "initial_s": 0.1}
    )
    for attempt in (1, 2):

        async def runs(task_id: str, number: int = attempt) -> bool:
            task = await api.task(task_id)
            return bool(task["state"] == "running" and task["attempt"] == number)

        for task_id in (poison, harmless):
            await eventually(partial(runs, task_id))
        executor.kill()
        await executor.start()
    task = await api.ended(poison)
    assert task["state"] == "failed"
    assert task["error"].startswith("2 executors in a row were lost while they ran it; the last: executor trust-dying")
    assert (await api.get(f"/tasks/{poison}/why"))["gates"] == []
    await api.until(harmless, "running")
    listed = (await api.get("/tasks", error_type="quarantined", queue=queue))["tasks"]
    assert [each["task_id"] for each in listed] == [poison]
    answer = await api.http.post(
        "/api/v1/tasks/batch/retry", json={"filter": {"error_type": "quarantined", "queue": queue}}
    )
    assert answer.status_code in (200, 202), answer.text
    again = await api.until(poison, "running")
    assert again["attempt"] == 3
    for task_id in (poison, harmless):
        assert (await api.control(task_id, "cancel")).status_code == 202


async def test_what_fails_too_often_rests_and_what_kills_its_executors_waits_for_somebody(
    running_system: RunningSystem, tmp_path: Path
) -> None:
    breaker, dying = (
        further_executor(running_system, tmp_path, name, queues=name, slots=FAILURES, prefetch=0)
        for name in ("trust-breaker", "trust-dying")
    )
    async with breaker, dying as executor, door(running_system) as api:
        await asyncio.gather(
            a_kind_rests_where_it_keeps_failing_and_is_tried_again(api, "trust-breaker"),
            a_task_that_loses_its_executors_is_quarantined_and_redriven(api, executor),
        )


@pytest.fixture
async def impatient(
    tmp_path: Path, kafka_bootstrap: str, database_dsn: str, topic_prefix: str
) -> AsyncIterator[RunningSystem]:
    """A system that gives an executor up after 2 s of silence, and does not trust it after the second time."""
    running = RunningSystem(
        tmp_path / "home",
        {
            "TASKLOOM_BEAT_S": "0.5",
            "TASKLOOM_LOST_AFTER_S": "2",
            "TASKLOOM_QUARANTINE_LOSSES": "2",
            "TASKLOOM_QUARANTINE_PAUSE_S": "6",
            "TASKLOOM_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "TASKLOOM_DATABASE_DSN": database_dsn,
            "TASKLOOM_TOPIC_PREFIX": topic_prefix,
        },
    )
    try:
        await running.start()
        yield running
    finally:
        await running.stop(20.0)


@pytest.mark.chaos
async def test_an_executor_that_falls_silent_again_and_again_gets_no_work_for_a_while(
    impatient: RunningSystem, tmp_path: Path
) -> None:
    """It stops and goes on, as one that swaps or whose network fails; started anew it would be trusted at once."""
    name = "stuck"
    async with (
        further_executor(impatient, tmp_path, name, queues=name, slots=4, prefetch=0, heartbeat_s=0.5) as executor,
        door(impatient) as api,
    ):
        retry = {"initial_s": 0.1, "max_lost": 10}
        task_id = await api.submit(kind="sleep", input={"seconds": 300}, queue=name, retry=retry)
        assert executor.pid is not None
        for losses in (1, 2):
            await eventually(partial(is_at, api, task_id, losses))
            os.killpg(executor.pid, signal.SIGSTOP)
            try:
                await eventually(partial(has_lost, api, task_id, losses))
            finally:
                os.killpg(executor.pid, signal.SIGCONT)
        gate = await eventually(partial(gate_of, api, task_id, "quarantine")) or {}
        assert (gate["held_by"], gate["detail"]) == (
            [name],
            f"{name} lost attempts too often; back after 6 s or when started anew",
        )
        opens = datetime.fromisoformat(gate["expected_start"])
        assert opens > datetime.now(UTC) - timedelta(seconds=1)
        await eventually(partial(is_at, api, task_id))
        last = (await api.get(f"/tasks/{task_id}/executions"))["executions"][-1]
        assert datetime.fromisoformat(last["started_at"]) >= opens - timedelta(milliseconds=50)
        assert (await api.control(task_id, "cancel")).status_code == 202


async def is_at(api: Api, task_id: str, attempt: int) -> bool:
    task = await api.task(task_id)
    return bool(task["state"] == "running" and task["attempt"] == attempt)


async def has_lost(api: Api, task_id: str, attempts: int) -> bool:
    executions = (await api.get(f"/tasks/{task_id}/executions"))["executions"]
    return [each["status"] for each in executions].count("lost") == attempts
