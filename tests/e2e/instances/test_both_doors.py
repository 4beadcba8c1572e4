"""Two gateways, orchestrators, projections, executors are one system: limits, keys, tenants, quotas hold over all."""

import asyncio
import re
import time
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from taskloom.testing.eventually import eventually
from tests.e2e.instances.pair import (
    KEY_CACHE_S,
    PER_HOUR,
    QUEUES_PER_HOUR,
    STREAM,
    Follower,
    Pair,
    followed,
    hour_has,
    token,
    turns,
)
from tests.e2e.instances.ticking import most_at_once
from tests.e2e.support import TASKS, Api, Json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LAG_S = 20.0
"""What the read tables may be behind, on top of what is said of keys."""


def limits_of(answer: httpx.Response) -> tuple[int, int]:
    """Limit and what is left."""
    assert int(answer.headers["X-RateLimit-Reset"]) % 3600 == 0
    return int(answer.headers["X-RateLimit-Limit-Hour"]), int(answer.headers["X-RateLimit-Remaining-Hour"])


async def test_a_keys_limit_and_a_routes_are_exact_over_both_gateways(pair: Pair) -> None:
    north, south, second = await asyncio.gather(pair.key("north"), pair.key("south"), pair.key("north"))
    await hour_has(15)
    async with pair.doors(north["api_key"]) as apis:
        answers = await turns(apis, PER_HOUR + 60, "/tasks", limit=1)
        assert Counter(answer.status_code for answer in answers) == {200: PER_HOUR, 429: 60}
        passed = [limits_of(answer) for answer in answers if answer.status_code == 200]
        assert sorted(passed) == [(PER_HOUR, left) for left in range(PER_HOUR)], "each passed as another one"
        for of_gateway in (answers[0::2], answers[1::2]):
            assert {answer.status_code for answer in of_gateway} == {200, 429}
        for refused in (answer for answer in answers if answer.status_code == 429):
            assert limits_of(refused) == (PER_HOUR, 0)
            assert 0 < int(refused.headers["Retry-After"]) <= 3600
            assert (refused.json()["error"], refused.json()["window"]) == ("Rate limit exceeded", "hour")
        assert [(await api.http.get(f"{TASKS}/nothing")).status_code for api in apis] == [404, 404], "not counted"
        # A route with a limit of its own is counted apart, for each caller.
        queues = await turns(apis, QUEUES_PER_HOUR + 10, "/queues")
        assert Counter(answer.status_code for answer in queues) == {200: QUEUES_PER_HOUR, 429: 10}
    for key in (south, second):
        async with pair.doors(key["api_key"]) as apis:
            others = [limits_of((await turns([api], 1, path))[0]) for api in apis for path in ("/tasks", "/queues")]
        assert others == [
            *((PER_HOUR, PER_HOUR - 1), (QUEUES_PER_HOUR, QUEUES_PER_HOUR - 1)),
            *((PER_HOUR, PER_HOUR - 2), (QUEUES_PER_HOUR, QUEUES_PER_HOUR - 2)),
        ]


async def refused_within(pair: Pair, api: Api, since: float) -> None:
    """The other gateway believes a key no longer than it says."""
    await eventually(partial(pair.status, api, 401), KEY_CACHE_S + LAG_S - (time.monotonic() - since), 0.02)


async def test_rotation_revocation_and_expiry_of_a_key_reach_the_other_gateway(pair: Pair) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=4)
    issued, brief = await asyncio.gather(pair.key("north"), pair.key("north", expires_at=soon.isoformat()))
    key_id, old = issued["id"], issued["api_key"]
    async with AsyncExitStack() as stack:
        boss, _ = await stack.enter_async_context(pair.doors(token("north")))
        before = await stack.enter_async_context(pair.doors(old))
        rotated = (await before[0].http.post("/api/v1/auth/refresh-key")).json()["api_key"]
        changed = time.monotonic()
        assert await pair.status(before[0], 401), "the gateway that changed it knows at once"
        await refused_within(pair, before[1], changed)
        after = await stack.enter_async_context(pair.doors(rotated))
        for api in after:
            await eventually(partial(pair.status, api, 404), LAG_S)
        made = (await after[1].http.post("/api/v1/auth/token")).json()["access_token"]
        by_token = await stack.enter_async_context(pair.doors(made))
        assert await pair.status(by_token[0], 404)

        follower, by_socket = Follower(rotated, all="true"), Follower(rotated, socket=True, all="true")
        async with followed(pair.urls[1], follower, by_socket) as reading:
            assert (await boss.http.delete(f"/api/v1/auth/api-keys/{key_id}")).status_code == 200
            changed = time.monotonic()
            for api in (after[1], by_token[1], after[0], by_token[0]):
                await refused_within(pair, api, changed)
            async with asyncio.timeout(2 * KEY_CACHE_S + LAG_S):
                await asyncio.gather(*reading)
            assert follower.cut is not None, "cut, and not finished as if there were no more"
            assert by_socket.cut is not None

        short = await stack.enter_async_context(pair.doors(brief["api_key"]))
        await eventually(lambda: datetime.now(UTC) > soon, 5.0)
        assert [await pair.status(api, 401) for api in short] == [True, True]


async def test_a_tenant_sees_nothing_of_another_on_either_gateway(pair: Pair) -> None:
    north, south = await asyncio.gather(pair.key("north"), pair.key("south"))
    name = f"s-{uuid.uuid4().hex[:8]}"
    mine: Json = {"kind": "echo", "session_id": name, "tags": [name]}
    async with pair.doors(north["api_key"]) as ours, pair.doors(south["api_key"]) as theirs:
        task_id = await ours[0].submit(**mine)
        await ours[1].ended(task_id)
        their_id = await theirs[1].submit(**mine)
        await theirs[0].ended(their_id)
        whole = Follower(north["api_key"], session_id=name)
        async with followed(pair.urls[0], whole):
            await eventually(partial(whole.told_of, 5))
        for api, url in zip(theirs, pair.urls, strict=True):
            for path in ("", "/events", "/timeline", "/output", "/executions", "/why", "/control-state"):
                answer = await api.http.get(f"{TASKS}/{task_id}{path}")
                assert answer.status_code == 404, path
            for verb in ("cancel", "pause", "retry"):
                assert (await api.control(task_id, verb)).status_code == 404
            assert (await api.http.get(STREAM, params={"workflow_id": task_id})).status_code == 404
            taken = await api.http.post(TASKS, json={**mine, "task_id": task_id})
            assert taken.status_code == 409
            assert name not in taken.text
            listed = await api.get("/tasks", tag=name)
            assert [task["task_id"] for task in listed["tasks"]] == [their_id]
            assert listed["total_count"] == 1
            assert (await api.get(f"/sessions/{name}/history"))["total"] == 1
            followers = [Follower(south["api_key"], socket=n == 1, session_id=name) for n in range(2)]
            async with followed(url, *followers):
                for follower in followers:
                    await eventually(partial(follower.told_of, 5))
                    assert {told[0] for told in follower.told} == {their_id}
            foreign = await api.http.get(STREAM, params={"session_id": name}, headers={"Last-Event-ID": whole.last_id})
            assert (foreign.status_code, foreign.json()["field"]) == (400, "last_event_id")


async def refused(api: Api, code: str) -> Json | None:
    answer = await api.http.post(TASKS, json={"kind": "echo"})
    told: Json = answer.json()
    if answer.status_code != 429:
        return None
    assert told["code"] == code
    assert int(answer.headers["Retry-After"]) > 0
    return told


async def held_gates(api: Api, task_id: str) -> list[str]:
    """Once it is not only its executor that holds the task."""
    gates = [each["gate"] for each in (await api.get(f"/tasks/{task_id}/why"))["gates"]]
    return [] if gates == ["executor"] else gates


async def test_quotas_hold_over_both_gateways_and_orchestrators(pair: Pair, tmp_path: Path) -> None:
    async with pair.doors(token("green", "ann")) as apis:
        gate = tmp_path / "gate"
        nap = {"cmd": f"until [ -e {gate} ]; do sleep 0.05; done; sleep 0.5"}
        naps = [await apis[n % 2].submit(kind="shell", input=nap) for n in range(6)]
        for told in await asyncio.gather(*(eventually(partial(refused, api, "QUOTA_EXCEEDED")) for api in apis)):
            assert told is not None
            assert re.fullmatch(r"tenant green has \d+ open tasks, 6 are allowed", told["error"])
        gate.touch()
        intervals = []
        for number, task_id in enumerate(naps):
            await apis[number % 2].ended(task_id)
            [tried] = (await apis[number % 2].get(f"/tasks/{task_id}/executions"))["executions"]
            intervals.append(tuple(datetime.fromisoformat(tried[at]) for at in ("started_at", "completed_at")))
        assert most_at_once(intervals) == 2
    async with pair.doors(token("gold", "gus")) as apis:
        held = [await apis[n % 2].submit(kind="echo", executor_id="nobody") for n in range(8)]
        spent = await apis[0].ended(await apis[1].submit(query="how many tokens are these"))
        used = spent["usage"]["total_tokens"]
        for api in apis:
            told = await eventually(partial(refused, api, "BUDGET_EXCEEDED"))
            assert told is not None
            assert told["error"] == f"tenant gold has used {used} of 1 tokens today"
        for number, task_id in enumerate(held):
            changed = await apis[number % 2].http.patch(f"{TASKS}/{task_id}", json={"assigned_to": None})
            assert changed.status_code == 202
            gates = await eventually(partial(held_gates, apis[number % 2], task_id))
            assert gates[0] == "budget", "held before dispatch, whichever orchestrator has it"
            tries = (await apis[0].get(f"/tasks/{task_id}/executions"))["executions"]
            assert [tried["executor_id"] for tried in tries] == [""]
            assert (await apis[1].control(task_id, "cancel")).status_code == 202
