"""Idempotency keys on every kind of write: the first answer again, or a 409 that names the key."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import httpx
import psycopg
import pytest

from services.gateway.app import create_app
from services.gateway.first_answers import Busy, Claimed, Found, OtherBody, Stored
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"
SCHEDULES = "/api/v1/schedules"
Client = httpx.AsyncClient


class Answers:
    """First answers in memory, as two gateways would share them. ``away``: PostgreSQL is not there."""

    def __init__(self) -> None:
        self.rows: dict[bytes, tuple[bytes, UUID, Stored | None]] = {}
        self.away = False

    async def claim(self, scope: bytes, body_hash: bytes, claim: UUID) -> Found:
        if self.away:
            raise psycopg.OperationalError("no connection")
        await asyncio.sleep(0)
        row = self.rows.setdefault(scope, (body_hash, claim, None))
        if row[1] == claim:
            return Claimed(claim)
        return OtherBody() if row[0] != body_hash else Busy() if row[2] is None else row[2]

    async def keep(self, scope: bytes, claim: UUID, answer: Stored) -> None:
        self.rows[scope] = (self.rows[scope][0], claim, answer)

    async def release(self, scope: bytes, claim: UUID) -> None:
        del self.rows[scope]

    async def forget_old(self) -> None:
        self.rows.clear()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def gateways(system: MemorySystem, settings: GatewaySettings, answers: Answers) -> AsyncIterator[list[Client]]:
    """Two gateways over the same surroundings."""
    made = []
    for _ in range(2):
        app = create_app(Parts(settings, system, system, system, system, system, system.tail, answers=answers))
        made.append(Client(transport=httpx.ASGITransport(cast(Any, app)), base_url="http://127.0.0.1"))
    yield made
    for each in made:
        await each.aclose()


def of_the_answer(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Status, body, and the headers that the route set."""
    own = ("content-type", "x-workflow-id", "x-session-id", "link")
    return answer.status_code, answer.content, {name: answer.headers[name] for name in own if name in answer.headers}


WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", TASKS, {"query": "x"}),
    ("POST", f"{TASKS}/stream", {"query": "x"}),
    ("POST", f"{TASKS}/batch", {"tasks": [{"query": "a"}, {"query": "b"}]}),
    ("POST", f"{TASKS}/mine/cancel", {"reason": "enough"}),
    ("POST", f"{TASKS}/mine/pause", {"reason": "later"}),
    ("PATCH", f"{TASKS}/mine", {"name": "renamed"}),
    ("DELETE", f"{TASKS}/mine", {"reason": "by mistake"}),
    ("POST", f"{TASKS}/batch/cancel", {"filter": {"task_ids": ["mine"]}}),
    ("POST", SCHEDULES, {"name": "n", "cron_expression": "0 3 * * *", "task_query": "tidy up"}),
    ("PUT", f"{SCHEDULES}/nightly", {"description": "tidier"}),
    ("POST", f"{SCHEDULES}/nightly/pause", {"reason": "holiday"}),
    ("POST", f"{SCHEDULES}/nightly/resume", {"reason": "back"}),
    ("DELETE", f"{SCHEDULES}/nightly", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=[f"{method} {path}" for method, path, _ in WRITES])
async def test_fifty_at_once_on_two_gateways_get_one_answer_and_another_body_a_409(
    gateways: list[Client], system: MemorySystem, method: str, path: str, body: dict[str, Any]
) -> None:
    await gateways[0].post(TASKS, json={"query": "first", "task_id": "mine"})
    nightly = {"schedule_id": "nightly", "name": "n", "cron_expression": "0 3 * * *", "task_query": "tidy up"}
    assert (await gateways[0].post(SCHEDULES, json=nightly)).status_code == 201
    system.sent.clear()

    async def write(number: int, sent: dict[str, Any]) -> httpx.Response:
        return await gateways[number % 2].request(method, path, json=sent, headers={"Idempotency-Key": "k-1"})

    answers = await asyncio.gather(*(write(number, body) for number in range(50)))
    assert answers[0].is_success, answers[0].text
    assert all(of_the_answer(answer) == of_the_answer(answers[0]) for answer in answers)
    cached = [answer for answer in answers if answer.headers.get("x-idempotency-cached") == "true"]
    assert len(cached) == 49
    assert {answer.headers["x-idempotency-key"] for answer in cached} == {"k-1"}
    assert len(system.sent) == len(body.get("tasks", [1])), "carried out once"

    other = await write(1, {**body, "reason": "another"})
    assert other.status_code == 409
    assert "'k-1'" in other.json()["error"]
    assert other.json()["field"] == "Idempotency-Key"


async def test_users_and_tenants_and_routes_do_not_share_keys(gateways: list[Client], system: MemorySystem) -> None:
    ids = set()
    for tenant, user in (("red", "ann"), ("red", "ben"), ("blue", "ann")):
        headers = {"Idempotency-Key": "k", "X-Tenant-Id": tenant, "X-User-Id": user}
        answer = await gateways[0].post(TASKS, json={"query": user}, headers=headers)
        assert answer.status_code == 200
        assert "x-idempotency-cached" not in answer.headers
        ids.add(answer.json()["task_id"])
    assert len(ids) == 3
    streamed = await gateways[0].post(f"{TASKS}/stream", json={"query": "ann"}, headers=headers)
    assert streamed.status_code == 201
    assert streamed.json()["task_id"] in ids, "the same key and body is the same task by either route"


async def test_what_was_refused_can_be_sent_again_with_the_fault_mended(gateways: list[Client]) -> None:
    key = {"Idempotency-Key": "k"}
    assert (await gateways[0].post(TASKS, json={"query": ""}, headers=key)).status_code == 400
    assert (await gateways[1].post(TASKS, json={"query": "x"}, headers=key)).status_code == 200


async def test_losing_all_answers_or_postgresql_makes_no_second_task(
    gateways: list[Client], system: MemorySystem, answers: Answers
) -> None:
    key = {"Idempotency-Key": "k"}
    first = await gateways[0].post(TASKS, json={"query": "x"}, headers=key)
    answers.rows.clear()
    lost = await gateways[1].post(TASKS, json={"query": "x"}, headers=key)
    answers.away = True
    away = await gateways[1].post(TASKS, json={"query": "x"}, headers=key)
    assert first.json() == lost.json() == away.json()
    assert away.headers["x-idempotency-cached"] == "true"
    refused = await gateways[0].post(TASKS, json={"query": "y"}, headers=key)
    assert (refused.status_code, "'k'" in refused.json()["error"]) == (409, True)
    assert len(system.rows) == 1
