"""Controls sent in any order at any moment, through one door: no task is left open, and the read tables agree."""

import asyncio
import os
import random
import sys
from collections import Counter
from typing import Any

import pytest

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, door

pytestmark = pytest.mark.e2e

TASKS = 120
WORK: list[dict[str, Any]] = [
    {"kind": "echo", "input": {"fail_times": 1}, "retry": {"initial_s": 0.05}},
    {"kind": "sleep", "input": {"seconds": 3}},
    {"kind": "shell", "input": {"cmd": "echo a; sleep 0.2; echo b"}},
    {"query": "in pieces", "context": {"sleep_seconds": 0.2}},
    {"kind": "shell", "input": {"cmd": "sleep 0.1; exit 1"}, "retry": {"max_attempts": 2, "initial_s": 0.05}},
]


async def disturbed(api: Api, number: int, luck: random.Random) -> str:
    """One task's end, after up to five controls that come when they come; each is taken, or refused as too late."""
    task_id = await api.submit(**WORK[number % len(WORK)])
    for _ in range(luck.randint(0, 5)):
        verb = luck.choice(["pause", "resume", "pause", "resume", "cancel"])
        answer = await api.control(task_id, verb, **({"grace_s": 0.2} if verb == "cancel" else {}))
        assert answer.status_code in (202, 409), answer.text
        await asyncio.sleep(luck.random() * 0.15)
    await api.control(task_id, "resume")
    task = await api.ended(task_id, 60)
    types = await api.types(task_id)
    assert types[-1] == "STREAM_END"
    assert types.count("ATTEMPT_ASSIGNED") == task["attempt"]
    return str(task["state"])


async def test_controls_at_any_moment_leave_no_task_open(running_system: RunningSystem) -> None:
    luck = random.Random(7)
    async with door(running_system) as api:
        many = [disturbed(api, number, random.Random(luck.random())) for number in range(TASKS)]
        ends = Counter(await asyncio.gather(*many))

        assert sum(ends.values()) == TASKS
        assert ends["completed"] > 0, ends
        assert ends["cancelled"] > 0, ends
        assert ends["timed_out"] == 0
    await verify(running_system.dsn)


async def verify(dsn: str) -> None:
    """Everything that was done in this system so far, by whatever test, folds again to the rows that are there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskloom", "verify", "--timeout", "30",
        env={**os.environ, "TASKLOOM_DATABASE_DSN": dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
