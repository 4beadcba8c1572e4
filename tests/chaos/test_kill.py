"""kill -9 of each process in the middle of 500 tasks: nothing acknowledged is lost, nothing ends twice (I1-I7)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskloom.local.jars import ensure_jars
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.chaos.workload import Workload, all_ended, verify

TASKS = 500
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """A system of the test's own; executors are given up after 6 s of silence, so that a test does not take 20 s."""
    ensure_jars()
    running = RunningSystem(tmp_path / "home", {"TASKLOOM_LOST_AFTER_S": "6", "TASKLOOM_BEAT_S": "1.5"})
    await running.start()
    yield running
    await running.stop(20.0)


@pytest.mark.parametrize("victim", ["gateway", "orchestrator-1", "executor-1", "projection-1", "kafka", "postgres"])
async def test_killed_in_the_middle_of_500_tasks_nothing_is_lost(
    system: RunningSystem, tmp_path: Path, victim: str
) -> None:
    workload = Workload(system, tmp_path)
    sending = asyncio.create_task(workload.send(TASKS))
    await eventually(lambda: len(workload.acknowledged) >= TASKS // 4, 90)
    await system.wait_replaced(victim, system.kill_process(victim), 90)
    await eventually(lambda: sending.done(), 180)
    await sending
    assert len(workload.acknowledged) == TASKS
    await all_ended(workload)
    workload.check()
    await verify(system)
