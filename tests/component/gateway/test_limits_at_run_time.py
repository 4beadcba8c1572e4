"""Quotas and rate tiers of tenants, changed while the gateways run."""

import asyncio
from typing import Any

import httpx
import pytest
from litestar import Litestar

from services.gateway.app import create_app
from services.gateway.parts import Parts
from taskloom.domain.entities.limits import KIND
from taskloom.domain.scheduling.quotas import Use
from taskloom.testing.eventually import eventually
from tests.component.gateway.access import client_of, issued, settings_with_keys
from tests.component.gateway.memory import MemorySystem
from tests.unit.gateway.test_rates import Windows

QUOTAS, TASKS, ME = "/api/v1/quotas", "/api/v1/tasks", "/api/v1/auth/me"
RED = {"X-Tenant-Id": "red"}


def app_of(system: MemorySystem, windows: Windows) -> Litestar:
    settings = settings_with_keys(
        quotas={"*": {"tokens_per_day": 1000}}, rate_per_minute=500, rate_per_hour=0, rate_per_day=0
    )
    return create_app(Parts(settings, system, system, system, system, system, system.tail, rates=windows))


@pytest.fixture
def windows() -> Windows:
    return Windows()


@pytest.fixture
def app(system: MemorySystem, windows: Windows) -> Litestar:
    return app_of(system, windows)


@pytest.fixture
async def owner(system: MemorySystem) -> str:
    return (await issued(system, "root", "owner"))[1]


@pytest.fixture
async def red(system: MemorySystem) -> str:
    return (await issued(system, "red", "admin"))[1]


async def submit(client: httpx.AsyncClient) -> int:
    return (await client.post(TASKS, json={"query": "x"})).status_code


async def test_the_owner_changes_a_tenants_limits_and_the_tenant_sees_them(
    app: Litestar, system: MemorySystem, owner: str, red: str
) -> None:
    system.used.append(Use("red", "", "", 7, 0.5))
    async with client_of(app, owner) as boss, client_of(app, red) as client:
        before = (await client.get(QUOTAS)).json()
        assert (before["tenant_id"], before["tier"], before["quota"]["tokens_per_day"]) == ("red", "default", 1000)
        assert (before["version"], "set" in before, before["used"]["in_all"]["tokens"]) == (0, False, 7)
        assert before["rate_limits"] == {"minute": 500, "hour": None, "day": None}
        wish = {"tokens": 7, "tokens_per_day": None, "tier": "pro", "rate": {"minute": 3}}
        changed = await boss.put(QUOTAS, json=wish, headers=RED)
        assert changed.status_code == 200, changed.text
        seen = (await client.get(QUOTAS)).json()
        assert changed.json() == seen
        assert (seen["tier"], seen["rate_limits"]) == ("pro", {"minute": 3, "hour": 5000, "day": 50000})
        assert (seen["quota"]["tokens"], seen["quota"]["tokens_per_day"]) == (7, None)
        me = (await client.get(ME)).json()
        assert [me[name] for name in ("tier", "quotas", "rate_limits")] == [
            seen[name] for name in ("tier", "quota", "rate_limits")
        ]
        assert seen["set"] == {**wish, "session": {}}
        assert (seen["version"], seen["changed_by"]) == (1, "ann")
        assert await submit(client) == 429
        cleared = (await boss.delete(f"{QUOTAS}?reason=enough", headers=RED)).json()
        assert (cleared["tier"], cleared["quota"]["tokens_per_day"], cleared["version"]) == ("default", 1000, 2)
        assert await submit(client) == 200
        again = await boss.put(f"{QUOTAS}?expected_version=1", json={}, headers=RED)
        assert again.status_code == 409
        assert (await boss.put(f"{QUOTAS}?expected_version=2", json={}, headers=RED)).status_code == 200


async def test_tenants_change_nothing_and_see_nobody_elses(
    app: Litestar, system: MemorySystem, owner: str, red: str
) -> None:
    _, user = await issued(system, "red", "user")
    async with client_of(app, red) as admin, client_of(app, user) as reader, client_of(app, owner) as boss:
        assert (await admin.put(QUOTAS, json={"tokens": None})).status_code == 403
        assert (await admin.delete(QUOTAS)).status_code == 403
        assert (await reader.get(QUOTAS)).status_code == 200
        assert (await reader.put(QUOTAS, json={})).status_code == 403
        assert (await boss.put(QUOTAS, json={"tokens": 3}, headers={"X-Tenant-Id": "blue"})).status_code == 200
        assert (await admin.get(QUOTAS, headers={"X-Tenant-Id": "blue"})).status_code == 403
        assert (await admin.get(QUOTAS)).json()["version"] == 0
    assert not [name for name in system.streams if name.startswith(f"@{KIND}/red")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tier": "gold"}, "tier"),
        ({"tokens": -1}, "tokens"),
        ({"session": {"parallel": 0}}, "session.parallel"),
        ({"tokns": 1}, "tokns"),
        ({"rate": {"minute": "many"}}, "rate.minute"),
    ],
)
async def test_what_is_no_limit_is_named(app: Litestar, owner: str, body: dict[str, Any], field: str) -> None:
    async with client_of(app, owner) as boss:
        answer = await boss.put(QUOTAS, json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_requests_are_counted_by_the_new_plan_at_once(
    app: Litestar, owner: str, red: str, windows: Windows
) -> None:
    async with client_of(app, owner) as boss, client_of(app, red) as client:
        first = await client.get(TASKS)
        assert first.headers["X-RateLimit-Limit-Minute"] == "500"
        await boss.put(QUOTAS, json={"rate": {"minute": 2}}, headers=RED)
        statuses = [(await client.get(TASKS)).status_code for _ in range(3)]
        assert statuses == [200, 429, 429], "the one before counts"
        await boss.put(QUOTAS, json={"rate": {"minute": 100}}, headers=RED)
        assert (await client.get(TASKS)).headers["X-RateLimit-Limit-Minute"] == "100"
        await boss.put(QUOTAS, json={"rate": {"minute": None}}, headers=RED)
        assert "X-RateLimit-Limit-Minute" not in (await client.get(TASKS)).headers


async def test_another_gateway_holds_it_without_being_asked(
    app: Litestar, system: MemorySystem, owner: str, red: str, windows: Windows
) -> None:
    other, stopping = app_of(system, windows), asyncio.Event()
    loops = [asyncio.create_task(loop(stopping)) for loop in other.state["background"]]
    async with client_of(app, owner) as boss, client_of(other, red) as client:
        assert await submit(client) == 200
        await boss.put(QUOTAS, json={"tokens": 0}, headers=RED)

        async def refused() -> bool:
            return await submit(client) == 429

        await eventually(refused)
    stopping.set()
    await asyncio.gather(*loops)


async def test_while_the_views_are_away_known_limits_hold(
    app: Litestar, system: MemorySystem, owner: str, red: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(app, owner) as boss, client_of(app, red) as client:
        await boss.put(QUOTAS, json={"tokens": 0}, headers=RED)

        async def away(_since: str) -> Any:
            raise ConnectionError("nothing there")

        monkeypatch.setattr(system, "tenant_limits", away)
        assert await submit(client) == 429
