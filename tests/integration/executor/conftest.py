"""A running executor, over the real broker: one for all tests of a file, and a fresh one for those that end it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the executor imports this folder's functions by name

from tests.integration.executor.rig import Rig, started


@pytest.fixture(scope="module")
def running_executor(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(kafka_bootstrap, f"test-{uuid4().hex[:12]}", tmp_path_factory.mktemp("executor") / "log")

    async def start() -> None:
        await rig.__aenter__()
        await rig.start()
        await rig.leave()

    loop = asyncio.new_event_loop()  # not asyncio.run, which takes away the tests' current loop
    try:
        loop.run_until_complete(start())
    finally:
        loop.close()
    yield rig
    rig.stop()


@pytest.fixture
async def rig(running_executor: Rig) -> AsyncIterator[Rig]:
    """The other end of the file's executor."""
    async with Rig(
        running_executor.bootstrap, running_executor.prefix, running_executor.log, beside=running_executor
    ) as rig:
        yield rig


@pytest.fixture
async def new_rig(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """The other end of topics whose executor the test starts."""
    async with Rig(kafka_bootstrap, topic_prefix, tmp_path / "executor.log") as rig:
        yield rig


@pytest.fixture
async def own_rig(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """An executor for one test, which may end it."""
    async with started(Rig(kafka_bootstrap, topic_prefix, tmp_path / "executor.log")) as rig:
        yield rig
