"""Webhooks over REST: kept by tenant, secrets shown once, deliveries read back."""

import httpx
import pytest
from pydantic import SecretStr

from services.gateway.settings import GatewaySettings
from taskloom.domain.task.webhooks import Delivery
from tests.component.gateway.memory import MemorySystem

WEBHOOKS = "/api/v1/webhooks"
URL = "https://example.com/hook"


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.5, webhook_key=SecretStr("k" * 32))


async def test_a_secret_is_shown_when_it_is_new_and_never_again(client: httpx.AsyncClient) -> None:
    made = (await client.post(WEBHOOKS, json={"url": URL, "webhook_id": "a"})).json()
    assert made["secret"].startswith("whsec_")
    assert "secret" not in (await client.get(f"{WEBHOOKS}/a")).json()
    changed = (await client.put(f"{WEBHOOKS}/a", json={"enabled": False})).json()
    assert (changed["enabled"], changed["url"], "secret" in changed) == (False, URL, False)
    renewed = (await client.put(f"{WEBHOOKS}/a", json={"rotate_secret": True})).json()
    assert (renewed["secret_serial"], renewed["secret"] != made["secret"]) == (2, True)


async def test_a_repeat_under_its_key_adds_no_second_webhook_and_shows_the_same_secret(
    client: httpx.AsyncClient,
) -> None:
    """Also where no first answer is kept, as of every answer with a secret in it."""
    key = {"Idempotency-Key": "k"}
    first, again = [await client.post(WEBHOOKS, json={"url": URL}, headers=key) for _ in range(2)]
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first.headers["cache-control"] == again.headers["cache-control"] == "no-store"
    assert (await client.get(WEBHOOKS)).json()["total_count"] == 1


async def test_no_secret_is_in_an_event(client: httpx.AsyncClient, system: MemorySystem) -> None:
    made = (await client.post(WEBHOOKS, json={"url": URL, "webhook_id": "a"})).json()
    await client.post(f"{WEBHOOKS}/a/test")
    stored = b"".join(recorded.body for stream in system.streams.values() for recorded in stream)
    assert URL.encode() in stored
    assert made["secret"].removeprefix("whsec_").encode() not in stored


async def test_webhooks_are_their_tenants_alone(client: httpx.AsyncClient) -> None:
    await client.post(WEBHOOKS, json={"url": URL, "webhook_id": "a"})
    other = {"X-Tenant-Id": "other"}
    assert (await client.get(WEBHOOKS, headers=other)).json() == {"webhooks": [], "total_count": 0}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test")):
        assert (await client.request(method, f"{WEBHOOKS}/a{path}", headers=other)).status_code == 404
    ours = (await client.get("/api/v1/callbacks/secret")).json()["secret"]
    assert (await client.get("/api/v1/callbacks/secret", headers=other)).json()["secret"] != ours


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"url": "http://example.com"}, 400, "url"),
        ({"url": URL, "events": ["task.born"]}, 400, "events[0]"),
        ({"url": URL, "webhook_id": "there"}, 409, "webhook_id"),
        ({"url": URL, "secret": "mine"}, 400, "secret"),
    ],
)
async def test_what_is_refused_names_the_field(
    client: httpx.AsyncClient, body: dict[str, object], status: int, field: str
) -> None:
    await client.post(WEBHOOKS, json={"url": URL, "webhook_id": "there"})
    answer = await client.post(WEBHOOKS, json=body)
    assert answer.status_code == status, answer.text
    assert field in (answer.json().get("field") or answer.json()["error"])


async def test_a_test_is_a_delivery_in_the_log_and_can_be_sent_again(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    await client.post(WEBHOOKS, json={"url": URL, "webhook_id": "a"})
    sent = (await client.post(f"{WEBHOOKS}/a/test")).json()
    assert set(system.rows[sent["task_id"]].input) == set(Delivery.__struct_fields__)
    [delivery] = (await client.get(f"{WEBHOOKS}/a/deliveries")).json()["deliveries"]
    assert (delivery["delivery_id"], delivery["event"]) == (sent["task_id"], "webhook.test")
    refused = await client.post(f"/api/v1/deliveries/{sent['task_id']}/redeliver")
    assert refused.status_code == 409  # it is under way
    assert (await client.post("/api/v1/deliveries/none/redeliver")).status_code == 404


class TestWithoutAKey:
    @pytest.fixture
    def settings(self) -> GatewaySettings:
        return GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.5)

    async def test_webhooks_are_answered_503_that_says_why(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(WEBHOOKS, json={"url": URL})
        assert answer.status_code == 503
        assert "TASKLOOM_WEBHOOK_KEY" in answer.json()["error"]
