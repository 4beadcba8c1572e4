"""What a tenant used, by day, hour, session and key."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import AsyncClient as Client

from taskloom.domain.scheduling.quotas import uses_of
from tests.component.gateway.memory import MemorySystem

USAGE = "/api/v1/usage"
NOW = datetime.now(UTC)
DAY = {"from": "2026-03-01T10:00:00Z", "to": "2026-03-03T10:00:00+01:00"}


@pytest.fixture
def system() -> MemorySystem:
    made = MemorySystem()
    at = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
    made.used += uses_of("default", "s", at, 10, 0.5, "key_1")
    made.used += uses_of("default", "t", at + timedelta(days=1), 20, 2.0)
    made.used += uses_of("red", "s", at, 99, 9.0, "key_9")
    made.used += uses_of("default", "now", NOW, 7, 0.25)
    return made


async def read(client: Client, **params: Any) -> dict[str, Any]:
    answer = await client.get(USAGE, params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_every_day_of_the_range_is_there_rounded_to_whole_days(client: Client) -> None:
    seen = await read(client, **DAY)
    assert [(each["period"], each["total_tokens"], each["attempts"]) for each in seen["usage"]] == [
        *(("2026-03-01", 0, 0), ("2026-03-02", 10, 1), ("2026-03-03", 20, 1)),
    ]
    assert (seen["from"], seen["to"]) == ("2026-03-01T00:00:00Z", "2026-03-04T00:00:00Z")
    assert (seen["total"]["total_tokens"], seen["total"]["cost_usd"], seen["total"]["estimated_cost"]) == (30, 2.5, 2.5)
    assert (seen["total_count"], seen["usage"][0]["tasks"]) == (3, 0)


async def test_the_usual_range_ends_now(client: Client) -> None:
    days, hours = await read(client), await read(client, by="hour")
    assert (len(days["usage"]), days["usage"][-1]["total_tokens"]) == (30, 7)
    assert len(hours["usage"]) == 24
    assert hours["usage"][-1]["period"] in {f"{at:%Y-%m-%dT%H}" for at in (NOW, datetime.now(UTC))}
    assert hours["total"]["total_tokens"] == 7


async def test_sessions_and_keys_are_told_apart_the_dearest_first(client: Client) -> None:
    sessions = await read(client, by="session", **DAY)
    assert [(each["session_id"], each["cost_usd"]) for each in sessions["usage"]] == [("t", 2.0), ("s", 0.5)]
    assert "tasks" not in sessions["usage"][0]
    keys = await read(client, by="key", **DAY)
    assert [(each["key_id"], each["total_tokens"]) for each in keys["usage"]] == [("key_1", 10)]
    second = await read(client, by="session", limit=1, offset=1, **DAY)
    assert ([each["session_id"] for each in second["usage"]], second["total_count"]) == (["s"], 2)
    assert (await read(client, session_id="s", **DAY))["total"]["total_tokens"] == 10
    assert (await read(client, key_id="key_1", **DAY))["total"]["total_tokens"] == 10
    assert (await read(client, key_id="key_9", **DAY))["total"]["total_tokens"] == 0, "another tenant's"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"by": "month"}, "by"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-03-02T00:00:00"}, "from"),
        ({"from": "2026-03-03T00:00:00Z", "to": "2026-03-02T00:00:00Z"}, "from"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}, "from"),
        ({"by": "hour", "from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "from"),
        ({"by": "hour", "session_id": "s"}, "session_id"),
        ({"session_id": "s", "key_id": "k"}, "key_id"),
        ({"limit": 0}, "limit"),
    ],
)
async def test_a_range_that_cannot_be_is_named(client: Client, params: dict[str, Any], field: str) -> None:
    answer = await client.get(USAGE, params=params)
    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
