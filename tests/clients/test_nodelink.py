"""Nodelink's clients against a whole system with agent1 and agent2, as its documents have it: equivalents of the two of
its repository, and the one that it promised.
"""

import json
from pathlib import Path

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.clients.node import Node
from tests.e2e.support import door

pytestmark = pytest.mark.e2e

SCRIPTS = Path(__file__).with_name("nodelink")
EXAMPLES = Path(__file__).parents[2] / "examples/nodelink"
AGENTS = ("agent1", "agent2")
"""What the clients ask for by themselves."""


@pytest.fixture
async def environment(running_system: RunningSystem) -> dict[str, str]:
    """Once both agents are there, whatever an earlier test has killed."""
    async with door(running_system) as api:

        async def online() -> bool:
            found = (await api.get("/agents", category="agent"))["agents"]
            return {each["id"] for each in found if each["machine"]["status"] == "online"}.issuperset(AGENTS)

        await eventually(online)
    return {"NODELINK_URL": running_system.url}


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_the_shell_client_reads_all_and_stops_at_the_end(node: Node, environment: dict[str, str]) -> None:
    said = (await node.run(SCRIPTS / "shell-test.ts", environment=environment)).splitlines()
    expected = "".join(f"line {number}\n" for number in range(1, 6))
    assert len(said) == len(AGENTS)
    for agent, each in zip(AGENTS, map(json.loads, said), strict=True):
        assert each == {
            "agentId": agent,
            "status": "completed",
            "stdout": expected,
            "stderr": "done\n",
            "exitCode": 0,
        }


async def test_the_cancelling_client_sees_its_cancel_and_nothing_lives_on(
    node: Node, environment: dict[str, str]
) -> None:
    said = await node.run(SCRIPTS / "test-cancellation.ts", environment=environment)
    lines = sorted((json.loads(line) for line in said.splitlines()), key=len)
    assert lines[0] == {"http": 200, "message": "task cancelled"}
    end = lines[1]
    assert (end["cancelled"], end["message"], end["status"]["status"]) == (True, "cancelled by user", "cancelled")
    pids = [int(text) for text in end["stdout"].splitlines()[1].split()]
    await eventually(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("agent", ["agent2", "executor-1"])
async def test_the_task_client_does_what_it_says_on_agents_and_on_executors(
    node: Node, environment: dict[str, str], agent: str
) -> None:
    said = await node.run(EXAMPLES / "demo.ts", agent, environment=environment)
    assert said.splitlines() == [
        *(f"part {number}" for number in range(1, 6)),
        "ended: completed, exit code 0",
        "looked up: completed, time limit 5m0s",
        f"made: pending on {agent}",
        "cancelled: task cancelled",
        "cancelled again: 400",
        "listed: true",
    ]
