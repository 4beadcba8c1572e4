"""The orchestrator dies while a run with 2,000 children is half way: the next one goes on where it stood (I3, I6)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskloom.local.jars import ensure_jars
from taskloom.testing.processes import RunningSystem
from tests.bench.take_over import kill_half_way
from tests.chaos.workload import check_history, stored_histories, verify

CHILDREN = 2_000
SESSION_TIMEOUT_S = 6.0
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    ensure_jars()
    running = RunningSystem(tmp_path / "home", {"TASKLOOM_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S)})
    await running.start()
    await running.wait_all_ready()
    yield running
    await running.stop(20.0)


async def test_a_run_with_two_thousand_children_goes_on_after_the_orchestrator_was_killed(
    system: RunningSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = await kill_half_way(system, CHILDREN)
    with capsys.disabled():
        went_on, ended = f"{taken.until_next_event_s:.1f} s", f"{taken.until_ended_s:.1f} s"
        print(
            f"\nkilled with {taken.done:,} of {CHILDREN:,} children done: went on after {went_on}, ended after {ended}"
        )
    histories = stored_histories(system.dsn, f"{taken.run_id}%")
    assert len(histories) == CHILDREN + 1
    for task_id, bodies in histories.items():
        check_history(task_id, bodies, "completed")
    await verify(system)
    # Kafka waits for the dead one that long; a restarted process, loading and republishing come on top.
    assert taken.until_next_event_s < SESSION_TIMEOUT_S + 20
