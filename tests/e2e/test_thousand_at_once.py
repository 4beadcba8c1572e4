"""1,000 tasks that run at the same time in one executor, while a fifth of all attempts fails."""

import uuid
from collections import Counter
from pathlib import Path

import psutil
import psycopg
import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.wire.recorded import unseal
from tests.chaos.workload import check_history, stored_histories
from tests.e2e.naps import FAILING
from tests.e2e.support import TASKS, door, further_executor

pytestmark = pytest.mark.e2e

MANY = 1_000
SEED = 20_261
KIB_PER_TASK = 40.0
"""What a sleeping task may cost its executor at most; measured were about 10."""

_ENDS = ("taskloom.attempt.failed.v1", "taskloom.task.completed.v1")


async def test_a_thousand_tasks_run_at_once_and_complete_although_a_fifth_of_the_attempts_fails(
    running_system: RunningSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"nap-{uuid.uuid4().hex[:8]}"
    settings = {"queues": run, "slots": MANY, "prefetch": 0, "python_modules": "tests.e2e.naps"}
    async with further_executor(running_system, tmp_path, f"ex-{run}", **settings) as executor:
        assert executor.pid is not None
        memory = psutil.Process(executor.pid)
        before = memory.memory_info().rss
        await submit(running_system, run)
        peak = await wait_ended(running_system, run, memory)
    histories = stored_histories(running_system.dsn, f"{run}-%")
    assert len(histories) == MANY
    for task_id, bodies in histories.items():
        check_history(task_id, bodies, "completed")
    failed = sum(unseal(body).type == _ENDS[0] for bodies in histories.values() for body in bodies)
    assert failed > MANY * FAILING / 2, "the luck of the draw has to be as bad as it says"
    assert most_at_once(histories) == MANY
    each = (peak - before) / MANY / 1024
    with capsys.disabled():
        print(f"\n{MANY:,} sleeping tasks: {each:.1f} KiB each in the executor; {failed} attempts failed")
    assert each < KIB_PER_TASK


async def submit(system: RunningSystem, run: str) -> None:
    arguments = {"run": run, "seed": SEED, "together": MANY, "seconds": 2.0}
    entries = [
        {
            "task_id": f"{run}-{number}",
            "kind": "python",
            "name": f"nap {number}",
            "queue": run,
            "session_id": run,
            "input": {"function": "naps:nap", "kwargs": arguments},
            "retry": {"max_attempts": 12, "initial_s": 0.1, "max_s": 0.5},
        }
        for number in range(MANY)
    ]
    async with door(system) as api:
        for first in range(0, MANY, 500):
            answer = await api.http.post(f"{TASKS}/batch", json={"tasks": entries[first : first + 500]})
            assert answer.status_code == 200, answer.text


async def wait_ended(system: RunningSystem, run: str, memory: psutil.Process) -> int:
    """Returns when every task of the run has ended: the most memory that the executor had until then, in bytes."""
    peak = 0
    async with await psycopg.AsyncConnection.connect(system.dsn, autocommit=True) as connection:

        async def all_ended() -> bool:
            nonlocal peak
            peak = max(peak, memory.memory_info().rss)
            row = await (
                await connection.execute(
                    "SELECT count(*) FROM task_executions WHERE session_id = %s AND tenant_id = 'default'"
                    " AND state IN ('completed', 'failed', 'timed_out', 'cancelled')",
                    (run,),
                )
            ).fetchone()
            return row is not None and row[0] == MANY

        await eventually(all_ended, 90, 0.1)
    return peak


def most_at_once(histories: dict[str, list[bytes]]) -> int:
    """Attempts under way at the same time, by the times of their events; an end comes before a start of its moment."""
    changes: Counter[tuple[float, int]] = Counter()
    for bodies in histories.values():
        for body in bodies:
            recorded = unseal(body)
            if recorded.type == "taskloom.attempt.started.v1":
                changes[recorded.meta.at.timestamp(), 1] += 1
            elif recorded.type in _ENDS:
                changes[recorded.meta.at.timestamp(), -1] += 1
    running = most = 0
    for (_, step), count in sorted(changes.items()):
        running += step * count
        most = max(most, running)
    return most
