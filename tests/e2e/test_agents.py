"""Agents: machines behind a WebSocket. What they run, and what becomes of it when network, gateway or agent goes."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.agents import Agent, Network, enroll, running_agent
from tests.e2e.support import TASKS, Api, Json, all_processes_gone, door, further_gateway, processes_with

pytestmark = pytest.mark.e2e

LINES = 'for i in $(seq {n}); do echo "line $i"; sleep {s}; done'


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as found:
        yield found


def named() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


async def text_of(api: Api, task_id: str) -> str:
    """All of a task's output; fails when a piece is there twice, or out of order."""
    chunks: list[Json] = []
    while True:
        after = chunks[-1]["seq"] if chunks else 0
        page = (await api.get(f"/tasks/{task_id}/output", limit=200, after=after))["chunks"]
        if not page:
            break
        chunks += page
    assert [each["seq"] for each in chunks] == sorted({each["seq"] for each in chunks})
    return "".join(each["text"] for each in chunks)


async def losses(api: Api, task_id: str) -> int:
    """Attempts that were lost with their executor."""
    return sum("was lost with executor" in event["message"] for event in await api.events(task_id))


def lines(n: int) -> str:
    return "".join(f"line {i}\n" for i in range(1, n + 1))


async def shell(api: Api, agent: str, cmd: str, **more: Any) -> str:
    return await api.submit(kind="shell", input={"cmd": cmd}, executor_id=agent, **more)


async def wrote(api: Api, task_id: str, text: str) -> None:
    async def has() -> bool:
        return text in await text_of(api, task_id)

    await eventually(has)


async def its_kinds_are_its_tenants(system: RunningSystem, api: Api, name: str) -> None:
    """A function that only this agent runs: checked at the door for its tenant, unknown to everybody else."""
    etch: Json = {"kind": "machine.etch", "queue": name, "input": {"plate": "a", "depth": 2}}
    done = await api.until(await api.submit(**etch), "completed")
    assert (done["executor_id"], done["response"]) == (name, "a/2")
    wrong = await api.http.post(TASKS, json={**etch, "input": {"plate": 1}})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "input.plate")
    async with door(system, f"t-{name}") as other:
        for body in (etch, {"kind": "echo", "queue": name}):
            refused = await other.http.post(TASKS, json=body)
            assert refused.status_code == 400
            assert "machine.etch" not in refused.json()["error"].partition("known")[2]


async def a_drain_in_the_midst_of_submissions(api: Api, name: str) -> None:
    """What was given before goes on, what is submitted behind the answer waits, and nothing is lost."""
    before = [await shell(api, name, "echo up; sleep 300")]
    await wrote(api, before[0], "up\n")
    around = asyncio.gather(*(shell(api, name, f"echo {n}") for n in range(20)))
    drained, during = await asyncio.gather(api.http.post(f"/api/v1/agents/{name}/drain"), around)
    assert drained.status_code == 200, drained.text
    behind = [await shell(api, name, f"echo {n}") for n in range(5)]
    gates = await eventually(lambda: ready_gates(api, behind))
    assert all(gates)
    assert not any(["ATTEMPT_STARTED" in await api.types(task_id) for task_id in behind])
    assert (await api.task(before[0]))["state"] == "running"
    assert (await api.http.post(f"/api/v1/agents/{name}/undrain")).status_code == 200
    for task_id in during + behind:
        assert (await api.until(task_id, "completed", timeout_s=60))["executor_id"] == name
    assert (await api.control(before[0], "cancel")).status_code < 300
    await api.until(before[0], "cancelled", timeout_s=60)


async def ready_gates(api: Api, task_ids: list[str]) -> list[list[Json]]:
    """What holds each of them; fails while one is with an executor."""
    for task_id in task_ids:
        assert (await api.task(task_id))["state"] == "ready"
    return [(await api.get(f"/tasks/{task_id}/why"))["gates"] for task_id in task_ids]


async def cut_and_mend(api: Api, network: Network, agent: str, *, cut_s: float) -> None:
    """While the network is cut a task ends, and another is cancelled: both are known afterwards, with all output."""
    writes = await shell(api, agent, LINES.format(n=20, s=0.1))
    stays = await shell(api, agent, "echo up; sleep 300")
    await wrote(api, writes, "line 3\n")
    await wrote(api, stays, "up\n")
    network.cut()
    cancelled = await api.control(stays, "cancel")
    assert cancelled.status_code < 300, cancelled.text
    await asyncio.sleep(cut_s)
    assert (await api.task(stays))["state"] not in ("completed", "cancelled")
    network.mend()
    await api.until(writes, "completed", timeout_s=60)
    await api.until(stays, "cancelled", timeout_s=60)
    assert await text_of(api, writes) == lines(20)
    for task_id in (writes, stays):
        types = await api.types(task_id)
        assert types.count("ATTEMPT_ASSIGNED") == 1, types


async def test_an_agent_with_a_wrong_clock_runs_what_names_it_and_outlives_a_cut_of_the_network(
    running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    name = named()
    token = await enroll(api, name)
    async with Network(running_system.url) as network:
        app = {"apps": "tests.e2e.data.machine_app:app", "queues": f"default,{name}"}
        agent = Agent(running_system, tmp_path, name, token, "http://127.0.0.1:9", network.url, hours=1, **app)
        async with running_agent(agent):
            machine = (await api.get(f"/agents/{name}"))["machine"]
            seen = datetime.fromisoformat(machine["last_seen_at"])
            assert abs(datetime.now(UTC) - seen) < timedelta(minutes=1)
            assert machine["metrics"]["memory_total_bytes"] > 0

            plain = await api.submit(kind="shell", input={"cmd": "echo plain"})
            task_id = await shell(api, name, 'echo out; echo err >&2; echo "${TASKLOOM_AGENT_TOKEN:-none}"')
            task = await api.until(task_id, "completed")
            assert (task["executor_id"], task["result"]) == (name, "out\nnone")
            chunks = (await api.get(f"/tasks/{task_id}/output"))["chunks"]
            assert abs(datetime.now(UTC) - datetime.fromisoformat(chunks[0]["at"])) < timedelta(minutes=1)
            large = await api.submit(kind="echo", input={"big": "x" * 200_000}, executor_id=name)
            assert len((await api.until(large, "completed"))["response"]["big"]) == 200_000
            assert (await api.until(plain, "completed"))["executor_id"] != name

            await its_kinds_are_its_tenants(running_system, api, name)
            await a_drain_in_the_midst_of_submissions(api, name)
            await cut_and_mend(api, network, name, cut_s=2.5)


async def test_a_second_process_takes_over_and_a_revoked_one_is_cut_off(
    running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    name, marker = named(), f"marker-{uuid.uuid4().hex}"
    token = await enroll(api, name)
    first = Agent(running_system, tmp_path, name, token)
    second = Agent(running_system, tmp_path, name, token, drain_timeout_s=2)
    async with running_agent(first):
        task_id = await shell(api, name, f"echo up; sleep 300 # {marker}", retry={"max_attempts": 1})
        await wrote(api, task_id, "up\n")
        async with running_agent(second):
            await eventually(lambda: first.exit_code() is not None)
            assert first.exit_code() == 2
            assert "another process connected" in first.log_path.read_text()
            await all_processes_gone(marker)
            lost = await api.ended(task_id)
            assert (lost["state"], await losses(api, task_id)) == ("failed", 1)

            again = await shell(api, name, f"echo up; sleep 300 # {marker}")
            await wrote(api, again, "up\n")
            assert (await api.http.delete(f"/api/v1/agents/{name}/token")).status_code == 200
            await eventually(lambda: second.exit_code() is not None)
            assert second.exit_code() == 2
            await all_processes_gone(marker)
            assert (await api.http.get(f"/api/v1/agents/{name}")).status_code == 404


async def test_a_killed_agent_leaves_nothing_running_and_its_attempts_are_retried(
    running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    name, marker = named(), f"marker-{uuid.uuid4().hex}"
    token = await enroll(api, name)
    agent = Agent(running_system, tmp_path, name, token)
    async with running_agent(agent):
        cmd = f"echo up; [ -e {tmp_path}/gate ] || sleep 300; echo done # {marker}"
        task_id = await shell(api, name, cmd, retry={"max_attempts": 2, "initial_s": 0.1})
        await wrote(api, task_id, "up\n")
        assert processes_with(marker)
        assert agent.pid is not None
        os.kill(agent.pid, signal.SIGKILL)
        await all_processes_gone(marker)
    (tmp_path / "gate").touch()
    async with running_agent(Agent(running_system, tmp_path, name, token)):
        done = await api.until(task_id, "completed", timeout_s=60)
        assert (done["result"], await losses(api, task_id)) == ("up\ndone", 1)


@pytest.mark.chaos
async def test_a_killed_gateway_is_left_for_another(running_system: RunningSystem, api: Api, tmp_path: Path) -> None:
    name = named()
    token = await enroll(api, name)
    async with (
        further_gateway(running_system, tmp_path, f"gateway-{name}") as gateway,
        running_agent(Agent(running_system, tmp_path, name, token, gateway.url, running_system.url)),
    ):
        task_id = await shell(api, name, LINES.format(n=30, s=0.1))
        await wrote(api, task_id, "line 3\n")
        assert (await api.get(f"/agents/{name}"))["machine"]["gateway"] == f"gateway-{name}"
        gateway.kill()
        await api.until(task_id, "completed", timeout_s=60)
        assert await text_of(api, task_id) == lines(30)
        assert (await api.types(task_id)).count("ATTEMPT_ASSIGNED") == 1
        assert (await api.get(f"/agents/{name}"))["machine"]["gateway"] != f"gateway-{name}"


@pytest.mark.chaos
@pytest.mark.parametrize("cut_s", [12.0, 30.0])
async def test_a_long_cut_loses_leases_but_no_output_of_what_goes_on(
    running_system: RunningSystem, api: Api, tmp_path: Path, cut_s: float
) -> None:
    """12 s is within the lease. After 30 s the attempt is lost and begins anew; the old one is stopped."""
    name, marker = named(), f"marker-{uuid.uuid4().hex}"
    token = await enroll(api, name)
    async with (
        Network(running_system.url) as network,
        running_agent(Agent(running_system, tmp_path, name, token, network.url)),
    ):
        retry = {"max_attempts": 2, "initial_s": 0.1}
        task_id = await shell(api, name, f"{LINES.format(n=40, s=1)} # {marker}", retry=retry)
        await wrote(api, task_id, "line 2\n")
        network.cut()
        await asyncio.sleep(cut_s)
        network.mend()
        await api.until(task_id, "completed", timeout_s=120)
        assert await losses(api, task_id) == (0 if cut_s < 20 else 1)
        if cut_s < 20:
            assert await text_of(api, task_id) == lines(40)
        await all_processes_gone(marker, 20.0)


@pytest.mark.chaos
async def test_output_beyond_the_bound_on_disk_holds_the_command_back(
    running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    name = named()
    token = await enroll(api, name)
    async with Network(running_system.url) as network:
        agent = Agent(running_system, tmp_path, name, token, network.url, spill_mb=2)
        async with running_agent(agent):
            task_id = await shell(api, name, "echo up; sleep 1; seq 4000000; echo wrote > " + str(tmp_path / "end"))
            await wrote(api, task_id, "up\n")
            network.cut()
            await asyncio.sleep(6)
            assert not (tmp_path / "end").exists()
            network.mend()
            await api.until(task_id, "completed", timeout_s=120)
            assert await text_of(api, task_id) == "up\n" + "".join(f"{n}\n" for n in range(1, 4_000_001))


@pytest.mark.chaos
async def test_an_agent_that_is_stopped_politely_finishes_and_says_good_bye(
    running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    name = named()
    agent = Agent(running_system, tmp_path, name, await enroll(api, name))
    async with running_agent(agent):
        task_id = await shell(api, name, "echo up; sleep 2; echo done")
        await wrote(api, task_id, "up\n")
        assert agent.pid is not None
        os.kill(agent.pid, signal.SIGTERM)
        await api.until(task_id, "completed", timeout_s=60)
        await eventually(lambda: agent.exit_code() == 0)

    async def offline() -> bool:
        return bool((await api.get(f"/agents/{name}"))["machine"]["status"] == "offline")

    await eventually(offline)
