"""The short form of ``make chaos``: each process is killed in turn while one stream of 500 tasks is under way."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from taskloom.local.jars import ensure_jars
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.chaos.workload import Workload, all_ended, verify

TASKS = 500
VICTIMS = ("gateway", "orchestrator-1", "executor-1", "projection-1", "kafka", "postgres")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    ensure_jars()
    running = RunningSystem(tmp_path / "home", {"TASKLOOM_LOST_AFTER_S": "6", "TASKLOOM_BEAT_S": "1.5"})
    await running.start()
    yield running
    await running.stop(20.0)


async def test_each_process_killed_in_turn_among_500_tasks_and_nothing_is_lost(
    system: RunningSystem, tmp_path: Path
) -> None:
    workload = Workload(system, tmp_path)
    sending = asyncio.create_task(workload.send(TASKS))
    for number, victim in enumerate(VICTIMS, start=1):
        wanted = number * TASKS // (len(VICTIMS) + 2)
        await eventually(partial(workload.has_sent, wanted), 90)
        await system.wait_replaced(victim, system.kill_process(victim), 90)
    await sending
    assert len(workload.acknowledged) == TASKS
    await all_ended(workload)
    workload.check()
    await verify(system)
