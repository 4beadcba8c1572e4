"""Limits and order through the doors: what was set, and what executors then really did."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.conftest import LIMITED_RATE
from tests.e2e.support import Api, Json, door, further_executor

pytestmark = pytest.mark.e2e

QUEUES = ("limits", "limits-rate", "limits-one")
Run = tuple[datetime, datetime, str]
"""Start, end and executor of an attempt."""


@asynccontextmanager
async def two_executors(system: RunningSystem, home: Path) -> AsyncIterator[None]:
    """``near`` in zone a with two cores, ``far`` in zone b with one."""
    async with AsyncExitStack() as stack:
        opened = [
            stack.enter_async_context(
                further_executor(
                    system, home, f"limits-{zone}",
                    queues=",".join(QUEUES), slots=40, prefetch=0,
                    labels=json.dumps({"zone": zone}), cpu_cores=cores,
                )
            )
            for zone, cores in (("a", 2), ("b", 1))
        ]  # fmt: skip
        await asyncio.gather(*opened)
        yield


async def submit_all(api: Api, bodies: Sequence[Json]) -> list[str]:
    answer = await api.http.post("/api/v1/tasks/batch", json={"tasks": bodies})
    assert answer.status_code == 200, answer.text
    return [str(each["task_id"]) for each in answer.json()["tasks"]]


async def runs(api: Api, task_ids: Sequence[str]) -> list[Run]:
    """The last attempt of each task, once all have completed."""
    found = []
    for task_id in task_ids:
        assert (await api.ended(task_id))["state"] == "completed"
        attempt = (await api.get(f"/tasks/{task_id}/executions"))["executions"][-1]
        times = [datetime.fromisoformat(attempt[name]) for name in ("started_at", "completed_at")]
        found.append((times[0], times[1], attempt["executor_id"]))
    return found


def most_at_once(intervals: Sequence[Run]) -> int:
    """Ends count before starts of the same moment."""
    steps = sorted([(start, 1) for start, _, _ in intervals] + [(end, -1) for _, end, _ in intervals])
    at_once, most = 0, 0
    for _, step in steps:
        at_once += step
        most = max(most, at_once)
    return most


def sleeping(seconds: float, **fields: Any) -> Json:
    return {"kind": "sleep", "input": {"seconds": seconds}, "queue": "limits", **fields}


async def a_key_holds_over_all_executors(api: Api) -> None:
    key = {"key": "printer", "limit": 2}
    bodies = [sleeping(0.2, concurrency=key, executor_id=f"limits-{'ab'[n % 2]}") for n in range(8)]
    ran = await runs(api, await submit_all(api, bodies))
    assert most_at_once(ran) == 2
    assert {executor for _, _, executor in ran} == {"limits-a", "limits-b"}


async def a_rate_is_kept_within_a_tenth(api: Api) -> None:
    bodies: list[Json] = [{"kind": "echo", "queue": "limits-rate"} for _ in range(3 * LIMITED_RATE)]
    for _ in range(5):
        ids = await submit_all(api, bodies)
        await runs(api, ids)
        # When they were handed out, not when the executor came to start them.
        events = [
            event for task_id in ids for event in await api.events(task_id) if event["type"] == "ATTEMPT_ASSIGNED"
        ]
        starts = sorted(datetime.fromisoformat(event["timestamp"]) for event in events)
        rate = (len(starts) - 1) / (starts[-1] - starts[0]).total_seconds()
        assert rate < 1.1 * LIMITED_RATE
        if rate > 0.9 * LIMITED_RATE:
            return
    raise AssertionError("it was never reached, not even once in five times on a machine that is busy")


async def tenants_take_turns_where_one_runs_at_a_time(api: Api, other: Api) -> None:
    first = await api.submit(**sleeping(3600, queue="limits-one"))
    await api.until(first, "running")
    flood = await submit_all(api, [sleeping(0.05, queue="limits-one") for _ in range(12)])
    few = await submit_all(other, [sleeping(0.05, queue="limits-one") for _ in range(3)])
    await cancelled(api, [first])
    many, late = await runs(api, flood), await runs(other, few)
    assert most_at_once([*many, *late]) == 1
    before_last = sum(start < max(late)[0] for start, _, _ in many)
    assert before_last <= 9, "the flood went first"


async def resources_labels_and_deadlines(api: Api) -> None:
    zone_a = {"zone": "a"}
    cores = [sleeping(0.2, labels=zone_a, resources={"cpu_cores": 1}) for _ in range(5)]
    labelled = [sleeping(0.01, labels={"zone": "b"}) for _ in range(3)]
    ids = [await submit_all(api, bodies) for bodies in (cores, labelled)]
    cores_ran, labels_ran = [await runs(api, each) for each in ids]
    assert most_at_once(cores_ran) == 2
    assert {executor for _, _, executor in labels_ran} == {"limits-b"}

    whole: Json = {"labels": zone_a, "resources": {"cpu_cores": 2}}
    first = await api.submit(**sleeping(3600, **whole))
    await api.until(first, "running")
    patient = await submit_all(api, [sleeping(0.01, **whole) for _ in range(3)])
    soon = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    urgent = await api.submit(**sleeping(0.01, deadline=soon, **whole))
    [held] = [gate for gate in (await api.get(f"/tasks/{patient[0]}/why"))["gates"] if gate["gate"] == "resources"]
    assert first in held["held_by"]
    await cancelled(api, [first])
    [hurried] = await runs(api, [urgent])
    assert all(hurried[0] < start for start, _, _ in await runs(api, patient))

    never = await api.submit(**sleeping(0, resources={"cpu_cores": 64}))
    assert "which no executor" in (await api.get(f"/tasks/{never}/why"))["gates"][0]["detail"]
    assert (await api.control(never, "cancel")).status_code == 202


async def test_limits_hold_through_the_doors(running_system: RunningSystem, tmp_path: Path) -> None:
    async with two_executors(running_system, tmp_path), door(running_system) as api:
        async with door(running_system, "neighbour") as other:
            await asyncio.gather(
                a_key_holds_over_all_executors(api), a_rate_is_kept_within_a_tenth(api),
                tenants_take_turns_where_one_runs_at_a_time(api, other),
            )  # fmt: skip
        await resources_labels_and_deadlines(api)


async def filled_reserve(api: Api, queue: str, slots: int) -> tuple[set[str], list[str]]:
    """Attempts of an executor of ``queue`` that wait there while all its slots are taken, and all the tasks it was
    filled with. None of them ends by itself.

    Many short tasks make the executor ask for a reserve, which the long ones behind them fill. Should it have thought
    better of it by then, the long ones are cancelled and it is tried again.
    """
    for _ in range(20):
        short = await submit_all(api, [{"kind": "echo", "queue": queue} for _ in range(400)])
        long = await submit_all(api, [sleeping(3600, queue=queue) for _ in range(slots + 4)])
        await api.ended(short[-1], 60)
        await eventually(partial(has_many, api, "running", long, slots), 60.0)
        try:
            await eventually(partial(has_many, api, "assigned", long, 1), 2.0)
        except AssertionError:
            await cancelled(api, long)
            continue
        states = {task_id: (await api.task(task_id))["state"] for task_id in long}
        return {task_id for task_id, state in states.items() if state == "assigned"}, long
    raise AssertionError("the executor never asked for a reserve")


async def has_many(api: Api, state: str, task_ids: Sequence[str], at_least: int) -> bool:
    states = [(await api.task(task_id))["state"] for task_id in task_ids]
    return states.count(state) >= at_least


async def cancelled(api: Api, task_ids: Sequence[str]) -> None:
    for task_id in task_ids:
        assert (await api.control(task_id, "cancel")).status_code == 202
    for task_id in task_ids:
        assert (await api.ended(task_id, 60))["state"] == "cancelled"


@pytest.mark.timeout(400)
async def test_what_waits_in_a_full_executors_reserve_moves_to_one_that_joins(
    running_system: RunningSystem, tmp_path: Path
) -> None:
    crowd: Json = {"queues": "crowd", "slots": 2, "heartbeat_s": 0.5}
    async with further_executor(running_system, tmp_path, "crowded", **crowd), door(running_system) as api:
        waiting, tasks = await filled_reserve(api, "crowd", 2)
        async with further_executor(running_system, tmp_path, "joining", **(crowd | {"slots": 40})):

            async def have_moved() -> bool:
                for task_id in tasks:
                    tries = (await api.get(f"/tasks/{task_id}/executions"))["executions"]
                    assert tries[-1]["started_at"], f"{task_id} has not started"
                    moved = (tries[0]["executor_id"], tries[-1]["executor_id"]) == ("crowded", "joining")
                    assert moved or task_id not in waiting
                return True

            await eventually(have_moved, 60.0, 0.2)
            answer = await api.http.post("/api/v1/agents/rebalance")
            assert answer.status_code == 200
            assert not {*tasks} & {task_id for moved in answer.json().values() for task_id in moved}, (
                "what runs does not move"
            )
            await cancelled(api, tasks)


async def test_a_tenant_with_a_quota_runs_so_many_at_once_and_stops_when_its_budget_is_used_up(
    running_system: RunningSystem,
) -> None:
    async with door(running_system, "budgeted") as api:
        both = await submit_all(api, [{"kind": "sleep", "input": {"seconds": 3600}}] * 2)
        await eventually(partial(has_many, api, "running", both, 2))
        naps: list[Json] = [{"kind": "sleep", "input": {"seconds": 0.8}, "session_id": f"s-{n}"} for n in range(4)]
        naps.append({**naps[0]})
        ids = await submit_all(api, naps)

        async def told() -> bool:
            held = [gate["detail"] for task_id in ids for gate in await gates_of(api, task_id, "parallel")]
            return "tenant budgeted is limited to 2 attempts at once" in held

        await eventually(told)
        await cancelled(api, both)
        assert most_at_once(await runs(api, ids)) == 2
        of_session = await runs(api, [ids[0], ids[4]])
        assert most_at_once(of_session) == 1

        held = await api.submit(kind="echo", executor_id="nobody")
        spent = await api.ended(await api.submit(query="how many tokens are these"))
        usage = spent["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 1
        assert (usage["input_tokens"], usage["estimated_cost"]) == (usage["prompt_tokens"], usage["cost_usd"])
        assert (await api.http.patch(f"/api/v1/tasks/{held}", json={"assigned_to": None})).status_code == 202
        [gate] = await eventually(lambda: gates_of(api, held, "budget"))
        assert gate["detail"] == f"tenant budgeted has used {usage['total_tokens']} of 1 tokens today"

        async def refused() -> Json | None:
            answer = await api.http.post("/api/v1/tasks", json={"kind": "echo"})
            return answer.json() if answer.status_code == 429 else None

        assert (await eventually(refused, 30.0) or {})["code"] == "BUDGET_EXCEEDED"
        assert (await api.control(held, "cancel")).status_code == 202
    async with door(running_system) as other:
        assert (await other.ended(await other.submit(kind="echo")))["state"] == "completed"


async def gates_of(api: Api, task_id: str, name: str) -> list[Json]:
    gates: list[Json] = (await api.get(f"/tasks/{task_id}/why"))["gates"]
    return [gate for gate in gates if gate["gate"] == name]
