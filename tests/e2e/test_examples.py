"""Each program in examples/ runs against a live system, as a reader would run it."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem

pytestmark = pytest.mark.e2e

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
LIMIT_S: Final = 90


def run(system: RunningSystem, *command: str | Path) -> str:
    """What the program prints; it must end well and say nothing on stderr."""
    done = subprocess.run(
        [str(part) for part in command], env=environment(system), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def environment(system: RunningSystem, **more: str) -> dict[str, str]:
    own = {"TASKLOOM_URL": system.url, "TASKLOOM_KAFKA_BOOTSTRAP": system.bootstrap}
    return dict(os.environ) | own | more


def test_curl_tour_submits_follows_reads_and_cancels(running_system: RunningSystem) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (Debian: apt-get install curl)")

    said = run(running_system, "bash", EXAMPLES / "curl" / "tour.sh")

    assert "step 1\nstep 2\nstep 3\n" in said
    assert said.count("event: done") == 2
    assert '"state":"ready"' in said.split("as it was at its second event")[1]
    assert "event: workflow.cancelled" in said
    assert '"cancel_reason":"the tour is over"' in said


def test_python_example_follows_each_task_to_its_end(running_system: RunningSystem) -> None:
    said = run(running_system, sys.executable, "-W", "error", EXAMPLES / "python" / "submit_and_follow.py")

    assert said.startswith("4 accepted, 1 refused\n")
    assert said.count("TASK_STATUS_COMPLETED after 1 attempt(s)") == 3
    assert said.count("TASK_STATUS_COMPLETED after 3 attempt(s)") == 1
    assert "(field priority)" in said


def test_kcat_tour_gets_replies_a_dead_letter_and_events(running_system: RunningSystem) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed (Debian: apt-get install kcat)")

    said = run(running_system, "bash", EXAMPLES / "kafka" / "tour.sh")

    assert said.count('"type":"taskloom.reply.v1"') == 2
    assert "unknown field `reson`" in said
    assert said.split("== the task's events\n")[1].splitlines()[-1] == "taskloom.task.cancelled.v1"


def test_aiokafka_client_hears_replies_and_events(running_system: RunningSystem) -> None:
    said = run(running_system, sys.executable, "-W", "error", EXAMPLES / "kafka" / "client.py")

    assert "taskloom.task.completed.v1" in said
    assert 'result: {"hello":"Kafka"}' in said
    assert "taskloom.task.cancelled.v1" in said
    assert "pausing it now is refused: conflict" in said


async def test_plugin_package_brings_a_kind_that_its_executor_runs(
    running_system: RunningSystem, tmp_path: Path
) -> None:
    queue = "with-wordcount"
    task = {"kind": "wordcount", "queue": queue, "input": {"text": "to be or not to be", "top": 2}}
    wrong = {"kind": "wordcount", "queue": queue, "input": {"txt": "to be"}}
    install_plugin(tmp_path / "packages")

    async with httpx.AsyncClient(base_url=running_system.url, trust_env=False) as client:
        before = await client.post("/api/v1/tasks", json=task)
        async with executor_with(tmp_path / "packages", running_system, queue, client):
            counted = await ended(client, (await client.post("/api/v1/tasks", json=task)).raise_for_status().json())
            refused = await ended(client, (await client.post("/api/v1/tasks", json=wrong)).raise_for_status().json())

    assert (before.status_code, before.json()["field"]) == (400, "kind")
    assert counted["status"] == "TASK_STATUS_COMPLETED"
    assert counted["response"] == {"words": 6, "top": [["to", 2], ["be", 2]]}
    assert (refused["status"], refused["error_type"], refused["attempt"]) == ("TASK_STATUS_FAILED", "invalid_input", 1)


def install_plugin(target: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run(
        [*install, "--no-deps", "--no-build-isolation", "--target", str(target), str(EXAMPLES / "plugin")], check=True
    )


@asynccontextmanager
async def executor_with(
    packages: Path, system: RunningSystem, queue: str, client: httpx.AsyncClient
) -> AsyncIterator[None]:
    """One more executor of the system, with ``packages`` on its path, for one queue."""
    path = os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"TASKLOOM_EXECUTOR_ID": "wordcounter", "TASKLOOM_QUEUES": queue, "TASKLOOM_DATABASE_DSN": system.dsn}
    with (packages / "executor.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskloom", "executor"],
            env=environment(system, PYTHONPATH=path, **own),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            await eventually(lambda: announced(client, "wordcount"))
            yield
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0, (packages / "executor.log").read_text()


async def announced(client: httpx.AsyncClient, kind: str) -> bool:
    executors = (await client.get("/api/v1/executors")).raise_for_status().json()["executors"]
    return any(kind in executor["kinds"] for executor in executors)


async def ended(client: httpx.AsyncClient, submitted: Mapping[str, Any]) -> dict[str, Any]:
    async def task() -> dict[str, Any]:
        found: dict[str, Any] = (await client.get(f"/api/v1/tasks/{submitted['task_id']}")).raise_for_status().json()
        return found if found["status"].removeprefix("TASK_STATUS_") in ("COMPLETED", "FAILED") else {}

    found: dict[str, Any] = await eventually(task)
    return found
