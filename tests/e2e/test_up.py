import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAMES = {"kafka", "postgres", "gateway", "orchestrator-1", "executor-1", "projection-1"}


@pytest.fixture
async def own_system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    system = RunningSystem(tmp_path / "own")
    try:
        await system.start()
        yield system
    finally:
        await system.stop(20.0)


def up(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taskloom", "up"]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def descendants(system: RunningSystem) -> list[psutil.Process]:
    return psutil.Process(system.pid).children(recursive=True)


async def all_gone(processes: list[psutil.Process]) -> None:
    await eventually(lambda: not [process for process in processes if process.is_running()])


async def test_up_says_where_the_api_is_once_every_process_is_ready(running_system: RunningSystem) -> None:
    assert set(running_system.pids) == NAMES | {"agent1", "agent2"}
    found = re.search(r"^Taskloom is ready at (http://127\.0\.0\.1:\d+)$", running_system.log("up"), re.MULTILINE)
    assert found is not None
    assert found[1] == running_system.url
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{running_system.url}/readiness")).status_code == 200


@pytest.mark.parametrize("name", ["gateway", "kafka", "postgres"])
async def test_a_process_that_dies_is_started_again_and_said_so(running_system: RunningSystem, name: str) -> None:
    old = running_system.kill_process(name)

    await running_system.wait_replaced(name, old)

    assert f"{name} was killed by SIGKILL; starting it again in " in running_system.log("up")


def test_a_second_supervisor_in_the_same_home_is_refused(running_system: RunningSystem) -> None:
    refused = up(TASKLOOM_HOME=str(running_system.home), TASKLOOM_HTTP_PORT="0")

    assert refused.returncode == 1
    assert f"in use by another Taskloom (pid {running_system.run['supervisor_pid']})" in refused.stderr
    assert running_system.is_running


def test_a_busy_port_is_an_error_at_once_and_starts_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = up(TASKLOOM_HOME=str(tmp_path), TASKLOOM_HTTP_PORT=port)

    assert refused.returncode == 1
    assert f"127.0.0.1:{port} is taken by another process" in refused.stderr
    assert not (tmp_path / "kafka").exists()


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    refused = up(TASKLOOM_HOME=str(tmp_path), TASKLOOM_HTTP_PORT="eighty")

    assert refused.returncode == 1
    assert "TASKLOOM_HTTP_PORT='eighty'" in refused.stderr


async def test_nothing_outlives_a_killed_supervisor_the_next_goes_on_with_its_data_and_sigterm_stops_it_all(
    running_system: RunningSystem, own_system: RunningSystem
) -> None:
    """One test, since a system takes its time to start; beside another one, so two homes run side by side as well."""
    bootstrap, children = own_system.bootstrap, descendants(own_system)
    assert bootstrap != running_system.bootstrap
    assert len(children) >= len(NAMES)
    with psycopg.connect(own_system.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    own_system.kill()
    await all_gone(children)

    own_system.log_path.unlink()
    await own_system.start()
    assert own_system.bootstrap == bootstrap, "producers outside would need a new address"
    assert set(own_system.pids) == NAMES
    with psycopg.connect(own_system.dsn) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)

    children = descendants(own_system)
    began = time.monotonic()
    os.kill(own_system.pid or 0, signal.SIGTERM)
    await eventually(lambda: not own_system.is_running)
    assert time.monotonic() - began < 50
    assert own_system.exit_code() == 0, own_system.log_tail()
    assert "was killed" not in own_system.log("up"), "something had to be killed"
    await all_gone(children)
    assert own_system.run == {}
    await running_system.wait_all_ready()
