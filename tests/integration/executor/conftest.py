"""A running executor for each test, over the real broker."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the executor imports this folder's functions by name

from tests.integration.executor.rig import Rig, started  # noqa: E402


@pytest.fixture
async def new_rig(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """The other end of the topics; the test starts the executor."""
    async with Rig(kafka_bootstrap, topic_prefix, tmp_path / "executor.log", "postgresql://127.0.0.1:1/none") as rig:
        yield rig


@pytest.fixture
async def rig(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    async with started(
        Rig(kafka_bootstrap, topic_prefix, tmp_path / "executor.log", "postgresql://127.0.0.1:1/none")
    ) as rig:
        yield rig
