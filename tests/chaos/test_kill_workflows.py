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

WAVE = 6
"""Runs that begin before each kill."""

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


@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_twelve_workflows_end_right_although_each_process_is_killed_once(
    system: RunningSystem, tmp_path: Path
) -> None:
    """Each victim dies when a random share of the work is done, whether or not the one before it is back."""
    luck = random.Random(4)
    runs = Runs(system, effects_directory(tmp_path))
    sending = asyncio.create_task(send_and_signal(runs, 12))
    points = sorted(luck.sample(range(5, effects_of(12) * 8 // 10), len(VICTIMS)))
    killed: dict[str, int] = {}
    for victim, point in zip(luck.sample(VICTIMS, len(VICTIMS)), points, strict=True):
        await until_effects(runs, point)
        killed[victim] = system.kill_process(victim)
    for victim, pid in killed.items():
        await system.wait_replaced(victim, pid, 90)
    await gathered(sending, 90)
    await ended_right(system, [runs])


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_ninety_workflows_end_right_whatever_is_killed_and_when(
    system: RunningSystem, tmp_path: Path, seed: int
) -> None:
    """A wave of runs for each kill, which comes when a random part of the wave's work is done: whoever is killed has
    its hands full."""
    luck = random.Random(seed)
    scratch = effects_directory(tmp_path)
    waves: list[Runs] = []
    sending: list[asyncio.Task[None]] = []
    for victim in luck.sample(OFTEN, len(OFTEN)):
        wave = Runs(system, scratch)
        waves.append(wave)
        sending.append(asyncio.create_task(send_and_signal(wave, WAVE)))
        await until_effects(wave, luck.randint(1, effects_of(WAVE) * 6 // 10))
        await asyncio.sleep(luck.random() * 0.1)
        await system.wait_replaced(victim, system.kill_process(victim), 90)
    for each in sending:
        await gathered(each, 180)
    await ended_right(system, waves)


def effects_directory(directory: Path) -> Path:
    scratch = directory / "effects"
    scratch.mkdir()
    return scratch


async def ended_right(system: RunningSystem, waves: list[Runs]) -> None:
    for runs in waves:
        await all_ended(runs)
        runs.check()
    await verify(system)
