"""kill -9 of every process while workflows run: each still ends right, and nothing is done twice (I3-I7)."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskloom.local.jars import ensure_jars
from taskloom.testing.processes import RunningSystem
from tests.chaos.runs import Runs, effects_of, gathered, send_and_signal, until_effects
from tests.chaos.workload import all_ended, verify

VICTIMS = ("orchestrator-1", "executor-1", "projection-1", "gateway", "kafka", "postgres")
OFTEN = (*VICTIMS * 2, *["orchestrator-1"] * 3)
"""What decides is killed most often: a result must not be there without what follows from it."""

SETTINGS = {
    "TASKLOOM_LOST_AFTER_S": "6",
    "TASKLOOM_BEAT_S": "1.5",
    "TASKLOOM_SESSION_TIMEOUT_S": "6",
    "TASKLOOM_PYTHON_MODULES": "tests.chaos.effects",
}


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """A system of the test's own; who falls silent is given up after 6 s, so that a test does not take 20."""
    ensure_jars()
    running = RunningSystem(tmp_path / "home", SETTINGS)
    await running.start()
    yield running
    await running.stop(20.0)


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_twelve_workflows_end_right_although_each_process_is_killed_once(
    system: RunningSystem, tmp_path: Path
) -> None:
    await killed_while_running(system, tmp_path, count=12, victims=VICTIMS, seed=4, wait_for_each=False)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_fifty_workflows_end_right_whatever_is_killed_and_when(
    system: RunningSystem, tmp_path: Path, seed: int
) -> None:
    await killed_while_running(system, tmp_path, count=50, victims=OFTEN, seed=seed, wait_for_each=True)


async def killed_while_running(
    system: RunningSystem, directory: Path, *, count: int, victims: tuple[str, ...], seed: int, wait_for_each: bool
) -> None:
    """Kills the victims in a random order, each when a random share of the work is done and work goes on again after
    the kill before it: whoever is killed has its hands full."""
    luck = random.Random(seed)
    scratch = directory / "effects"
    scratch.mkdir()
    runs = Runs(system, scratch)
    all_effects = effects_of(count)
    order = luck.sample(victims, len(victims))
    points = sorted(luck.sample(range(all_effects // 20, all_effects * 8 // 10), len(order)))
    sending = asyncio.create_task(send_and_signal(runs, count))
    killed: dict[str, int] = {}
    for victim, point in zip(order, points, strict=True):
        await until_effects(runs, max(point, runs.effects() + luck.randint(2, 12)))
        await asyncio.sleep(luck.random() * 0.1)
        killed[victim] = system.kill_process(victim)
        if wait_for_each:
            await system.wait_replaced(victim, killed[victim], 90)
    for victim, pid in killed.items():
        await system.wait_replaced(victim, pid, 90)
    await gathered(sending, 180)
    await all_ended(runs)
    runs.check()
    await verify(system)
