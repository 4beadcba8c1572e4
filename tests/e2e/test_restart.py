"""A whole system stopped with work in it and started again in the same home: everything goes on."""

import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskloom.local.jars import ensure_jars
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.chaos.workload import verify
from tests.e2e.support import Json, all_processes_gone, door

pytestmark = [pytest.mark.e2e, pytest.mark.chaos]

CAN = "quantum"


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    ensure_jars()
    running = RunningSystem(tmp_path / "home", {"TASKLOOM_AGENTS": "agent1"})
    try:
        await running.start()
        yield running
    finally:
        await running.stop(20.0)


async def stop_and_start(system: RunningSystem) -> None:
    os.kill(system.pid or 0, signal.SIGTERM)
    began = time.monotonic()
    await eventually(lambda: not system.is_running)
    assert time.monotonic() - began < 15
    assert system.exit_code() == 0, system.log_tail()
    assert "was killed" not in system.log("up")
    system.log_path.unlink()
    await system.start()


async def test_what_waited_ran_was_scheduled_held_or_retried_goes_on_after_a_restart(
    system: RunningSystem, tmp_path: Path
) -> None:
    marker = f"marker-{system.home.parent.name}"
    run_at = datetime.now(UTC) + timedelta(seconds=20)
    retry: Json = {"initial_s": 0.1}
    async with door(system) as api:
        running = await api.submit(
            kind="shell", input={"cmd": f"[ -e {tmp_path}/gate ] || sleep 300", "env": {"MARKER": marker}}, retry=retry
        )
        on_agent = await api.submit(
            kind="shell",
            input={"cmd": f"[ -e {tmp_path}/gate ] || sleep 300", "env": {"MARKER": marker}},
            retry=retry,
            executor_id="agent1",
        )
        scheduled = await api.submit(kind="echo", run_at=run_at.isoformat())
        waiting = await api.submit(kind="echo", capabilities=[CAN])
        retried = await api.submit(kind="echo", input={"fail_times": 1}, retry={"initial_s": 15, "jitter": 0})
        held = await api.submit(kind="echo", capabilities=[CAN])
        await api.control(held, "pause", reason="over night")
        done = await api.submit(kind="echo", input={"n": 1}, task_id="kept")
        await api.ended(done)
        await api.until(running, "running")
        await api.until(on_agent, "running")
        await api.until(retried, "retrying")
        before = {task_id: await api.task(task_id) for task_id in (scheduled, waiting, held, done)}

    (tmp_path / "gate").touch()
    await stop_and_start(system)
    await all_processes_gone(marker)
    async with door(system) as api:
        for task_id, task in before.items():
            now = await api.task(task_id)
            assert now == task or (task_id == scheduled and datetime.now(UTC) > run_at)
        assert (await api.control(held, "resume")).status_code == 202
        for task_id in (running, on_agent):
            again = await api.ended(task_id)
            assert (again["state"], again["attempt"]) == ("completed", 2)
        assert (await api.get("/agents/agent1"))["machine"]["status"] == "online"
        assert [gate["gate"] for gate in (await api.get(f"/tasks/{waiting}/why"))["gates"]] == ["capability"]
        assert (await api.task(held))["state"] == "ready"
        for task_id in (waiting, held):
            assert (await api.control(task_id, "cancel")).json()["state"] == "cancelled"
        assert await api.submit(kind="echo", input={"n": 1}, task_id="kept") == done
        late = await api.ended(scheduled, 45)
        assert late["state"] == "completed"
        assert datetime.fromisoformat(late["started_at"]) >= run_at
        tried = await api.ended(retried, 45)
        assert (tried["state"], tried["attempt"]) == ("completed", 2)
    await verify(system)
