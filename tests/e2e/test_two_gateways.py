"""Two gateways before one system: limits, keys and budgets hold over both."""

import asyncio
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from taskloom.local.child import ManagedProcess
from taskloom.local.ports import free_ports
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import TASKS, Json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PER_HOUR = 400


class FurtherGateway(ManagedProcess):
    """A gateway beside that of the system."""

    start_timeout_s = 30.0

    def __init__(self, system: RunningSystem, home: Path, name: str) -> None:
        super().__init__(name, home / f"{name}.log")
        self._system = system
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        """Nothing: it keeps no files."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "taskloom", "gateway"]

    def environment(self) -> dict[str, str]:
        return dict(os.environ) | {
            "TASKLOOM_INSTANCE": self.name,
            "TASKLOOM_HTTP_PORT": str(self.port),
            "TASKLOOM_KAFKA_BOOTSTRAP": self._system.bootstrap,
            "TASKLOOM_DATABASE_DSN": self._system.dsn,
            "TASKLOOM_TOPIC_PREFIX": str(self._system.run["topic_prefix"]),
            "TASKLOOM_RATE_PER_HOUR": str(PER_HOUR),
            "TASKLOOM_RATE_ROUTES": '{"POST /api/v1/tasks": {"day": 100000}}',
        }

    async def is_ready(self) -> bool:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            try:
                return (await http.get("/readiness")).status_code == 200
            except httpx.TransportError:
                return False


@asynccontextmanager
async def further_gateways(system: RunningSystem, home: Path) -> AsyncIterator[list[FurtherGateway]]:
    gateways = [FurtherGateway(system, home, f"gateway-{name}-{uuid.uuid4().hex[:6]}") for name in ("a", "b")]
    try:
        await asyncio.gather(*(gateway.start() for gateway in gateways))
        yield gateways
    finally:
        await asyncio.gather(*(gateway.stop(15.0) for gateway in gateways))


@asynccontextmanager
async def clients(gateways: list[FurtherGateway], user: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=each.url, timeout=40, trust_env=False, headers={"X-User-Id": user})
            )
            for each in gateways
        ]


async def exactly_the_limit_passes(gateways: list[FurtherGateway]) -> None:
    """By the hour, whose end is rarely near; when it is, the next one is waited for."""
    await eventually(lambda: 3600 - time.time() % 3600 > 10, 11.0)
    async with clients(gateways, f"ann-{uuid.uuid4().hex[:8]}") as doors:
        wanted = [doors[number % 2].get(TASKS, params={"limit": 1}) for number in range(PER_HOUR + 200)]
        answers = await asyncio.gather(*wanted)
        statuses = Counter(answer.status_code for answer in answers)
        assert statuses == {200: PER_HOUR, 429: 200}
        left = {int(each.headers["X-RateLimit-Remaining-Hour"]) for each in answers if each.status_code == 200}
        assert left == set(range(PER_HOUR)), "each passed as another one of the limit"
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert (refused.json()["error"], refused.json()["window"]) == ("Rate limit exceeded", "hour")
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
        single = await doors[0].get(f"{TASKS}/nothing")
        assert single.status_code == 404, "reads of one task are not counted"
        submitted = await doors[1].post(TASKS, json={"kind": "echo"})
        assert submitted.status_code == 200, "a route with a limit of its own is counted apart"


async def one_key_is_one_task(gateways: list[FurtherGateway]) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body: Json = {"kind": "echo", "input": {"n": 1}, "session_id": f"s-{uuid.uuid4().hex[:8]}"}
    async with clients(gateways, "ben") as doors:
        posts = [doors[number % 2].post(TASKS, json=body, headers=key) for number in range(50)]
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert sum("x-idempotency-cached" not in answer.headers for answer in answers) == 1
        task_id = answers[0].json()["task_id"]
        listed = (await doors[0].get(TASKS, params={"session_id": body["session_id"]})).json()
        assert [task["task_id"] for task in listed["tasks"]] == [task_id]

        victim = gateways[0]
        victim.kill()
        await victim.start()
        again = await doors[0].post(TASKS, json=body, headers=key)
        assert again.content == answers[0].content
        assert again.headers["x-idempotency-cached"] == "true"
        for door in doors:
            other = await door.post(TASKS, json={**body, "input": {"n": 2}}, headers=key)
            assert other.status_code == 409
            assert key["Idempotency-Key"] in other.json()["error"]

        cancel = {"Idempotency-Key": uuid.uuid4().hex}
        nap = await doors[0].post(TASKS, json={"kind": "sleep", "input": {"seconds": 60}})
        path = f"{TASKS}/{nap.json()['task_id']}"
        cancels = await asyncio.gather(
            *(doors[n % 2].post(f"{path}/cancel", json={"reason": "enough"}, headers=cancel) for n in range(20))
        )
        assert {(answer.status_code, answer.content) for answer in cancels} == {(202, cancels[0].content)}


async def test_limits_and_keys_hold_over_two_gateways(running_system: RunningSystem, tmp_path: Path) -> None:
    async with further_gateways(running_system, tmp_path) as gateways:
        await exactly_the_limit_passes(gateways)
        await one_key_is_one_task(gateways)
