"""Nodelink's clients against a whole system: equivalents of the two of its repository, and the one that it promised."""

import json
from pathlib import Path

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.clients.node import Node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SCRIPTS = Path(__file__).with_name("nodelink")
EXAMPLES = Path(__file__).parents[2] / "examples/nodelink"
AGENT = "executor-1"


@pytest.fixture
def environment(running_system: RunningSystem) -> dict[str, str]:
    return {"NODELINK_URL": running_system.url, "NODELINK_AGENTS": f"{AGENT},{AGENT}"}


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_the_shell_client_reads_all_and_stops_at_the_end(node: Node, environment: dict[str, str]) -> None:
    said = (await node.run(SCRIPTS / "shell-test.ts", environment=environment)).splitlines()
    expected = "".join(f"line {number}\n" for number in range(1, 6))
    for each in map(json.loads, said):
        assert each == {
            "agentId": AGENT,
            "status": "completed",
            "stdout": expected,
            "stderr": "done\n",
            "exitCode": 0,
        }
    assert len(said) == 2


async def test_the_cancelling_client_sees_its_cancel_and_nothing_lives_on(
    node: Node, environment: dict[str, str]
) -> None:
    said = await node.run(SCRIPTS / "test-cancellation.ts", environment=environment)
    lines = sorted((json.loads(line) for line in said.splitlines()), key=len)
    assert lines[0] == {"http": 200, "message": "task cancelled"}
    end = lines[1]
    assert (end["cancelled"], end["message"], end["status"]["status"]) == (True, "cancelled by user", "cancelled")
    pids = [int(text) for text in end["stdout"].splitlines()[1].split()]
    await eventually(lambda: not any(map(is_alive, pids)), 5.0)


async def test_the_task_client_does_what_it_says(node: Node, environment: dict[str, str]) -> None:
    said = await node.run(EXAMPLES / "demo.ts", AGENT, environment=environment)
    assert said.splitlines() == [
        *(f"part {number}" for number in range(1, 6)),
        "ended: completed, exit code 0",
        "looked up: completed, time limit 5m0s",
        f"made: pending on {AGENT}",
        "cancelled: task cancelled",
        "cancelled again: 400",
        "listed: true",
    ]
