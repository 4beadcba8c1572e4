"""Two of each service: partitions and work are shared, and go from one to the other while tasks are under way."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from taskloom.domain.task.events import AttemptAssigned
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.wire.recorded import chain_fault, unseal
from taskloom.wire.topics import partition_of
from tests.e2e.support import Api, door

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PARTITIONS = 8
TASKS = 300
LIMITED = 40
TASK_ENDS = {"taskloom.task.completed.v1", "taskloom.task.failed.v1", "taskloom.task.cancelled.v1"}


@pytest.fixture
async def system(
    tmp_path: Path, kafka_bootstrap: str, database_dsn: str, topic_prefix: str
) -> AsyncIterator[RunningSystem]:
    """Two of each behind one door, over the test run's own broker and database."""
    running = RunningSystem(
        tmp_path / "home",
        {
            "TASKLOOM_ORCHESTRATORS": "2",
            "TASKLOOM_EXECUTORS": "2",
            "TASKLOOM_PROJECTIONS": "2",
            "TASKLOOM_SESSION_TIMEOUT_S": "6",
            "TASKLOOM_BEAT_S": "1",
            "TASKLOOM_LOST_AFTER_S": "6",
            "TASKLOOM_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "TASKLOOM_DATABASE_DSN": database_dsn,
            "TASKLOOM_TOPIC_PREFIX": topic_prefix,
        },
    )
    try:
        await running.start()
        yield running
    finally:
        await running.stop(20.0)


async def gauge(system: RunningSystem, name: str, metric: str) -> float:
    """Value of a metric of one process; -1 while it does not answer."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            text = (await http.get(f"{system.run['processes'][name]['url']}/metrics")).text
    except (httpx.HTTPError, KeyError):
        return -1.0
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{metric} ")]
    return float(values[0]) if values else -1.0


async def applied(system: RunningSystem, name: str) -> float:
    """Events and pieces of output that a projection wrote; partitions of the two are given out regardless of topic."""
    events = await gauge(system, name, "taskloom_projection_events_applied_total")
    return events + await gauge(system, name, "taskloom_projection_chunks_stored_total")


async def owned(system: RunningSystem) -> list[float]:
    names = ("orchestrator-1", "orchestrator-2")
    return [await gauge(system, name, "taskloom_owned_partitions") for name in names]


async def shares_partitions(system: RunningSystem) -> bool:
    counts = await owned(system)
    return sum(counts) == PARTITIONS and min(counts) > 0


async def submit_all(api: Api, first: int, tasks: int) -> list[str]:
    bodies: list[dict[str, Any]] = []
    for number in range(first, first + tasks):
        match number % 4:
            case 0:
                bodies.append({"kind": "sleep", "input": {"seconds": 1}})
            case 1:
                bodies.append({"kind": "shell", "input": {"cmd": "sleep 0.2; echo done"}})
            case 2:
                bodies.append({"kind": "echo", "input": {"fail_times": 1}, "retry": {"initial_s": 0.3}})
            case _:
                bodies.append({"kind": "echo", "input": {"n": number}})
    return await submit_bodies(api, [body | {"task_id": f"t-{n}"} for n, body in enumerate(bodies, start=first)])


async def submit_bodies(api: Api, bodies: list[dict[str, Any]]) -> list[str]:
    async def taken() -> list[str]:
        answer = await api.http.post("/api/v1/tasks/batch", json={"tasks": bodies})
        assert answer.status_code == 200, answer.text
        assert answer.json()["rejected"] == 0, [each for each in answer.json()["tasks"] if "error" in each][:3]
        return [entry["task_id"] for entry in answer.json()["tasks"]]

    return await eventually(taken, 40, 0.2)


async def all_completed(api: Api, tasks: int) -> bool:
    return bool((await api.get("/tasks", status="COMPLETED"))["total_count"] == tasks)


def stored(dsn: str) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    with psycopg.connect(dsn) as connection:
        for shard in (0, 1):
            rows = connection.execute(
                f"SELECT originator_id, state FROM events_{shard} ORDER BY originator_id, originator_version"
            )
            for task_id, state in rows:
                found.setdefault(task_id, []).append(bytes(state))
    return found


def leases(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM leases").fetchall()
        return int(count)


def check(histories: dict[str, list[bytes]], task_ids: list[str]) -> Counter[str]:
    """Each task ended once, no two attempts at once, no broken chain; gives how often each executor was assigned."""
    assert histories.keys() == set(task_ids)
    by_executor: Counter[str] = Counter()
    for task_id, bodies in histories.items():
        assert chain_fault(bodies) is None
        events = [unseal(body) for body in bodies]
        types = [event.type for event in events]
        assert [kind for kind in types if kind in TASK_ENDS] == ["taskloom.task.completed.v1"], (task_id, types)
        live = 0
        for recorded in events:
            if isinstance(recorded.event, AttemptAssigned):
                by_executor[recorded.event.executor_id] += 1
                live += 1
            elif recorded.type in ENDS_OF_ATTEMPTS:
                live -= 1
            assert live in (0, 1), (task_id, types)
        assert live == 0, (task_id, types)
    return by_executor


ENDS_OF_ATTEMPTS = {
    "taskloom.attempt.declined.v1",
    "taskloom.attempt.failed.v1",
    "taskloom.attempt.timed-out.v1",
    "taskloom.attempt.lost.v1",
    "taskloom.task.completed.v1",
}


async def verify(dsn: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskloom", "verify", "--timeout", "30",
        env={**os.environ, "TASKLOOM_DATABASE_DSN": dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


def under_keys(log: Path, tasks: int = LIMITED) -> list[dict[str, Any]]:
    """One task that holds the only place of a key until there is a file, and tasks of all partitions that want it, or
    one of the two of another key. Each writes down when it runs: lines are appended in the order of time."""
    bodies: list[dict[str, Any]] = []
    for key, places, seconds in (("one", 1, 0.03), ("two", 2, 0.1)):
        for number in range(tasks // 2):
            wait = f"sleep {seconds}" if number or key == "two" else f"until [ -e {log}.go ]; do sleep 0.05; done"
            cmd = f"echo {key} 1 >> {log}; {wait}; echo {key} -1 >> {log}"
            name, concurrency = f"limited-{key}-{number}", {"key": key, "limit": places}
            bodies.append({"task_id": name, "kind": "shell", "input": {"cmd": cmd}, "concurrency": concurrency})
    return bodies


def most_at_once(log: Path) -> dict[str, int]:
    """Of each key, from what its tasks wrote."""
    running: Counter[str] = Counter()
    most: dict[str, int] = {}
    for line in log.read_text().splitlines():
        key, step = line.split()
        running[key] += int(step)
        most[key] = max(most.get(key, 0), running[key])
    assert not any(running.values())
    return most


async def why_names_the_holder(api: Api, holder: str, waiting: list[str]) -> None:
    """Also to tasks of the other orchestrator: there are some in all partitions."""
    assert len({partition_of(name, PARTITIONS) for name in waiting}) == PARTITIONS

    async def named(task_id: str) -> bool:
        gates = [gate for gate in (await api.get(f"/tasks/{task_id}/why"))["gates"] if gate["gate"] == "concurrency"]
        return [[lease["task_id"] for lease in gate.get("leases", [])] for gate in gates] == [[holder]]

    for task_id in waiting:
        await eventually(partial(named, task_id), 10.0, 0.05)


async def test_partitions_go_from_orchestrator_to_orchestrator_while_tasks_run_and_nothing_is_lost_or_doubled(
    system: RunningSystem, tmp_path: Path
) -> None:
    """One test, since the services take their time: share, kill -9 of one, SIGTERM of the other, and join again."""
    log = tmp_path / "ran.log"
    limited = under_keys(log)
    assert len({partition_of(f"t-{number}", PARTITIONS) for number in range(TASKS)}) == PARTITIONS
    async with door(system) as api:
        await eventually(partial(shares_partitions, system), 60.0, 0.2)
        ids = await submit_bodies(api, limited[:1])
        await api.until(ids[0], "running")
        ids += await submit_bodies(api, limited[1:])
        await why_names_the_holder(api, ids[0], ids[1 : LIMITED // 2])
        Path(f"{log}.go").touch()
        ids += await submit_all(api, 0, 100)
        killed = system.kill_process("orchestrator-1")
        ids += await submit_all(api, 100, 100)
        await system.wait_replaced("orchestrator-1", killed, 60)
        await eventually(partial(shares_partitions, system), 60, 0.2)

        stopped = system.kill_process("orchestrator-2", signal.SIGTERM)
        ids += await submit_all(api, 200, 100)
        await system.wait_replaced("orchestrator-2", stopped, 60)
        await eventually(partial(shares_partitions, system), 60, 0.2)
        await eventually(partial(all_completed, api, TASKS + LIMITED), 60, 0.2)
        assert most_at_once(log) == {"one": 1, "two": 2}
        assert leases(system.dsn) == 0

        decided = [await gauge(system, f"orchestrator-{n}", "taskloom_events_total") for n in (1, 2)]
        after = await submit_all(api, TASKS, 40)
        await eventually(partial(all_completed, api, TASKS + LIMITED + 40), 60.0, 0.1)
        more = [await gauge(system, f"orchestrator-{n}", "taskloom_events_total") for n in (1, 2)]
        assert all(later > before for before, later in zip(decided, more, strict=True)), "one of the two did nothing"

        by_executor = check(stored(system.dsn), ids + after)
        assert set(by_executor) == {"executor-1", "executor-2"}
        assert min(by_executor.values()) > (TASKS + LIMITED + 40) / 5, f"work is not shared: {by_executor}"
        assert min([await applied(system, f"projection-{n}") for n in (1, 2)]) > 0, "a projection did nothing"
    await verify(system.dsn)


@pytest.mark.chaos
async def test_limits_hold_while_orchestrators_are_killed_again_and_again(
    system: RunningSystem, tmp_path: Path
) -> None:
    """The long form of what the first test does under keys: four deaths, each in the middle of hundreds of tasks."""
    log, tasks = tmp_path / "ran.log", 600
    async with door(system) as api:
        await eventually(partial(shares_partitions, system), 60.0, 0.2)
        await submit_bodies(api, under_keys(log, tasks))
        Path(f"{log}.go").touch()
        for number in range(4):
            name = f"orchestrator-{1 + number % 2}"
            await system.wait_replaced(name, system.kill_process(name), 60)
            await eventually(partial(shares_partitions, system), 60, 0.2)
            assert len(log.read_text().splitlines()) < 2 * tasks, "all were done before the last death"
        await eventually(partial(all_completed, api, tasks), 150, 0.5)
    assert most_at_once(log) == {"one": 1, "two": 2}
    assert leases(system.dsn) == 0


@pytest.mark.chaos
async def test_an_executor_that_dies_or_leaves_hands_its_work_to_the_other(system: RunningSystem) -> None:
    async with door(system) as api:
        retry = {"initial_s": 0.1}
        ids = [await api.submit(kind="sleep", input={"seconds": 2}, retry=retry) for _ in range(20)]
        for task_id in ids:
            await api.until(task_id, "running")
        killed = system.kill_process("executor-1")
        ended = [await api.ended(task_id, 60) for task_id in ids]
        assert {task["state"] for task in ended} == {"completed"}
        assert {1, 2} == {task["attempt"] for task in ended}
        lost = [kind for task_id in ids for kind in await api.types(task_id) if kind == "ERROR_OCCURRED"]
        assert len(lost) == sum(task["attempt"] - 1 for task in ended)
        await system.wait_replaced("executor-1", killed, 60)

        # In a system of this home an executor's drain has 3 s, half of them for what runs.
        drained = [await api.submit(kind="sleep", input={"seconds": 1}) for _ in range(10)]
        for task_id in drained:
            await api.until(task_id, "running")
        left = system.kill_process("executor-2", signal.SIGTERM)
        ended = [await api.ended(task_id, 60) for task_id in drained]
        assert {(task["state"], task["attempt"]) for task in ended} == {("completed", 1)}, "a drain cut work off"
        await system.wait_replaced("executor-2", left, 60)
    await verify(system.dsn)
