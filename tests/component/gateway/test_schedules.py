"""Schedules over REST: Shannon's shapes, and what goes beyond them."""

from typing import Any

import httpx
import pytest

SCHEDULES = "/api/v1/schedules"
OTHER = {"X-Tenant-Id": "other"}
NIGHTLY: dict[str, Any] = {"name": "Nightly", "cron_expression": "30 2 * * *", "task_query": "report"}


async def created(client: httpx.AsyncClient, **fields: Any) -> str:
    answer = await client.post(SCHEDULES, json={**NIGHTLY, **fields}, headers={"X-User-Id": "ann"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["schedule_id"])


async def test_a_schedule_is_seen_as_it_was_made(client: httpx.AsyncClient) -> None:
    fields = {
        "timezone": "Europe/Berlin",
        "task_context": {"n": 1},
        "max_budget_per_run_usd": 2.5,
        "timeout_seconds": 60,
    }
    name = await created(client, **fields, overlap="buffer_one", jitter_s=5)
    seen = (await client.get(f"{SCHEDULES}/{name}")).json()
    wanted = {
        "schedule_id": name,
        "name": "Nightly",
        "cron_expression": "30 2 * * *",
        "task_query": "report",
        "timezone": "Europe/Berlin",
        "task_context": {"n": "1"},
        "max_budget_per_run_usd": 2.5,
        "timeout_seconds": 60.0,
        "status": "ACTIVE",
        "user_id": "ann",
        "total_runs": 0,
        "overlap": "buffer_one",
    }
    assert wanted.items() <= seen.items()
    assert seen["next_run_at"] > seen["created_at"]


async def test_what_an_update_leaves_out_stays(client: httpx.AsyncClient) -> None:
    name = await created(client, task_context={"n": "1"}, description="old")
    answer = await client.put(f"{SCHEDULES}/{name}", json={"interval_s": 90, "description": "new"})
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    seen = (await client.get(f"{SCHEDULES}/{name}")).json()
    assert (seen["interval_s"], seen["cron_expression"], seen["description"]) == (90.0, "", "new")
    assert (seen["task_query"], seen["task_context"], seen["timeout_seconds"]) == ("report", {"n": "1"}, 3600.0)
    await client.put(f"{SCHEDULES}/{name}", json={"clear_task_context": True})
    assert (await client.get(f"{SCHEDULES}/{name}")).json()["task_context"] == {}


async def test_pause_keeps_its_reason_and_both_ways_can_be_repeated(client: httpx.AsyncClient) -> None:
    name = await created(client)
    for _ in range(2):
        paused = await client.post(f"{SCHEDULES}/{name}/pause", json={"reason": "holidays"})
        assert (paused.status_code, paused.json()["success"]) == (200, True)
    seen = (await client.get(f"{SCHEDULES}/{name}")).json()
    assert (seen["status"], seen["pause_reason"], "next_run_at" in seen) == ("PAUSED", "holidays", False)
    for _ in range(2):
        resumed = await client.post(f"{SCHEDULES}/{name}/resume")
        assert resumed.json()["next_run_at"]
    assert (await client.get(f"{SCHEDULES}/{name}")).json()["status"] == "ACTIVE"


async def test_lists_hold_the_tenants_own_newest_first_and_fall_back_on_bad_pages(client: httpx.AsyncClient) -> None:
    names = [await created(client, name=f"s{number}") for number in range(3)]
    await client.post(f"{SCHEDULES}/{names[0]}/pause")
    await client.delete(f"{SCHEDULES}/{names[1]}")
    await client.post(SCHEDULES, json=NIGHTLY, headers=OTHER)
    listed = (await client.get(SCHEDULES, params={"page": "x", "page_size": "0", "status": "what"})).json()
    assert [each["schedule_id"] for each in listed["schedules"]] == [names[2], names[0]]
    assert (listed["total_count"], listed["page"], listed["page_size"]) == (2, 1, 50)
    active = (await client.get(SCHEDULES, params={"status": "active"})).json()
    assert [each["schedule_id"] for each in active["schedules"]] == [names[2]]


async def test_a_deleted_foreign_or_unknown_schedule_is_not_found(client: httpx.AsyncClient) -> None:
    name = await created(client)
    assert (await client.get(f"{SCHEDULES}/{name}", headers=OTHER)).status_code == 404
    assert (await client.delete(f"{SCHEDULES}/{name}", headers=OTHER)).status_code == 404
    assert (await client.delete(f"{SCHEDULES}/{name}")).status_code == 200
    calls = [
        client.delete(f"{SCHEDULES}/{name}"),
        client.get(f"{SCHEDULES}/{name}"),
        client.get(f"{SCHEDULES}/{name}/runs"),
        client.get(f"{SCHEDULES}/{name}/next"),
        client.put(f"{SCHEDULES}/{name}", json={"name": "n"}),
        client.post(f"{SCHEDULES}/{name}/pause"),
        client.post(f"{SCHEDULES}/nobody/run"),
    ]
    assert [(await call).status_code for call in calls] == [404] * len(calls)


async def test_the_same_key_makes_the_same_schedule(client: httpx.AsyncClient) -> None:
    answers = [await client.post(SCHEDULES, json=NIGHTLY, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["schedule_id"] == answers[1].json()["schedule_id"]
    assert (await client.get(SCHEDULES)).json()["total_count"] == 1


async def test_the_next_runs_are_shown_before_and_after_it_exists(client: httpx.AsyncClient) -> None:
    name = await created(client, jitter_s=600)
    after = (await client.get(f"{SCHEDULES}/{name}/next", params={"count": 3})).json()
    before = (await client.get(f"{SCHEDULES}/preview", params={"cron_expression": "30 2 * * *", "count": 3})).json()
    assert after["due"] == before["due"]
    assert all(due <= begins for due, begins in zip(after["due"], after["begins"], strict=True))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron_expression": "61 * * * *"}, "cron_expression"),
        ({"cron_expression": "@daily"}, "cron_expression"),
        ({"interval_s": 60}, "cron_expression"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"task_query": " "}, "task.query"),
        ({"task": {"priority": 9}}, "task.priority"),
        ({"max_budget_per_run_usd": -1}, "max_budget_per_run_usd"),
        ({"overlap": "sometimes"}, "overlap"),
        ({"jitter": 1}, "jitter"),
    ],
)
async def test_a_bad_schedule_names_its_field(client: httpx.AsyncClient, fields: dict[str, Any], field: str) -> None:
    answer = await client.post(SCHEDULES, json={**NIGHTLY, **fields})
    assert (answer.status_code, answer.json()["field"]) == (400, field)
