"""Submissions of who has used up what it may are refused, with a word that says which limit it was."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest

from services.gateway.app import create_app
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from taskloom.domain.scheduling.quotas import Use, periods_of
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"
QUOTAS = {
    "red": {"tokens_per_day": 100, "session": {"cost_usd": 1.0}},
    "green": {"open_tasks": 3},
}


@pytest.fixture
async def client(system: MemorySystem, settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    limited = GatewaySettings.model_validate({**settings.model_dump(), "quotas": QUOTAS})
    app = create_app(Parts(limited, system, system, system, system, system, system.tail))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url="http://127.0.0.1") as client:
        yield client


def of(tenant: str) -> dict[str, str]:
    return {"X-Tenant-Id": tenant}


async def test_a_budget_that_is_used_up_refuses_submissions(client: httpx.AsyncClient, system: MemorySystem) -> None:
    system.used.append(Use("red", "", periods_of(datetime.now(UTC))[0], 100, 0.0))
    answer = await client.post(TASKS, json={"query": "x"}, headers=of("red"))
    assert answer.status_code == 429
    body = answer.json()
    assert (body["code"], body["error"]) == ("BUDGET_EXCEEDED", "tenant red has used 100 of 100 tokens today")
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert (await client.post(TASKS, json={"query": "x"}, headers=of("blue"))).status_code == 200


async def test_a_sessions_budget_refuses_its_own_tasks_only(client: httpx.AsyncClient, system: MemorySystem) -> None:
    system.used.append(Use("red", "s", "", 0, 1.5))
    bodies = [{"query": "x", "session_id": "s"}, {"query": "x", "session_id": "t"}]
    answer = await client.post(f"{TASKS}/batch", json={"tasks": bodies}, headers=of("red"))
    [refused, taken] = answer.json()["tasks"]
    assert refused["error"] == "session s has used 1.5 of 1 USD in all"
    assert taken["status"] == "STATUS_CODE_OK"


async def test_no_more_open_tasks_are_taken_than_a_tenant_may_have(client: httpx.AsyncClient) -> None:
    answers = [await client.post(TASKS, json={"query": "x"}, headers=of("green")) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "QUOTA_EXCEEDED"
