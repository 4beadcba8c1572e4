"""Both clients' webhooks, keys and audit against the gateway's own answers."""

import inspect
from typing import Any

import httpx
import pytest
from litestar import Litestar

from taskloom.client import AsyncClient, Conflict, NotFound, Refused
from taskloom.client.keys import Keys
from taskloom.client.keys_async import AsyncKeys
from taskloom.client.webhooks import Webhooks
from taskloom.client.webhooks_async import AsyncWebhooks
from taskloom.domain.task import events as e
from tests.component.gateway.access import BASE_URL, app_with_keys, issued
from tests.component.gateway.memory import MemorySystem

URL = "https://example.com/hook"


@pytest.fixture
def keyed(system: MemorySystem) -> Litestar:
    return app_with_keys(system)


def taskloom(app: Any, key: str) -> AsyncClient:
    return AsyncClient(BASE_URL, api_key=key, transport=httpx.ASGITransport(app))


async def test_webhooks_are_added_changed_tried_and_removed(keyed: Litestar, system: MemorySystem) -> None:
    _, key = await issued(system, "red")
    async with taskloom(keyed, key) as client:
        made = await client.webhooks.create(url=URL, events=["task.failed"], filter={"queue": "default"})
        assert (made.secret[:6], made.filter.queue, made.enabled) == ("whsec_", "default", True)
        assert not (await client.webhooks.pause(made.webhook_id)).enabled
        assert (await client.webhooks.resume(made.webhook_id)).events == ("task.failed",)
        assert (await client.webhooks.update(made.webhook_id, rotate_secret=True)).secret != made.secret
        assert [each.secret for each in await client.webhooks.all()] == [""]
        test = await client.webhooks.test(made.webhook_id)
        [delivery] = (await client.webhooks.deliveries(made.webhook_id)).deliveries
        assert (delivery.delivery_id, delivery.event, delivery.delivered_at) == (test.task_id, "webhook.test", None)
        assert (await client.webhooks.deliveries_of_task(test.task_id)).total_count == 1
        with pytest.raises(Conflict):
            await client.webhooks.redeliver(test.task_id)
        system.record(test.task_id, [e.TaskCancelled()], tenant_id="red")
        assert (await client.webhooks.redeliver(test.task_id)).state == "ready"
        assert (await client.webhooks.callback_secret()).startswith("whsec_")
        await client.webhooks.remove(made.webhook_id)
        with pytest.raises(NotFound):
            await client.webhooks.get(made.webhook_id)


async def test_keys_are_made_renewed_and_revoked_and_the_audit_tells_who_did_it(
    keyed: Litestar, system: MemorySystem
) -> None:
    admin_id, admin = await issued(system, "red")
    async with taskloom(keyed, admin) as client:
        me = await client.me()
        assert (me.tenant_id, me.role, me.authenticated_by, me.key_id) == ("red", "admin", "key", admin_id)
        quotas = await client.quotas()
        assert (me.tier, me.quotas, me.rate_limits) == (quotas.tier, quotas.quota, quotas.rate_limits)
        assert (await client.usage("session", limit=5)).tenant_id == "red"
        made = await client.keys.create(name="ci", scopes=["workflows:read"], expires_at="2099-01-01T00:00:00Z")
        assert [each.id for each in (await client.keys.page()).keys] == sorted([admin_id, made.id])
        async with taskloom(keyed, made.api_key) as reader:
            with pytest.raises(Refused, match="workflows:write"):
                await reader.submit(kind="echo")
        renewed = await client.keys.rotate(made.id)
        assert (renewed.id, renewed.api_key != made.api_key) == (made.id, True)
        assert (await client.keys.get(made.id)).rotated_at is not None
        await client.keys.revoke(made.id, "no longer needed")
        assert (await client.keys.page()).total == 1
        await keyed.state["gateway"].auditor.close()
        refused = await client.audit(refused=True)
        assert [(each.key_id, each.status, each.method) for each in refused.entries] == [(made.id, 403, "POST")]
        first = await client.audit(limit=1)
        assert first.entries[0].route.endswith("/api-keys/{key_id}")
        rest = await client.audit(cursor=str(first.next_cursor), key_id=admin_id)
        assert [each.method for each in rest.entries] == ["POST", "POST"]


@pytest.mark.parametrize("kinds", [(Keys, AsyncKeys), (Webhooks, AsyncWebhooks)])
def test_both_clients_have_the_same_calls(kinds: tuple[type, type]) -> None:
    blocking, asynchronous = (
        {name: str(inspect.signature(member)) for name, member in inspect.getmembers(kind, inspect.isfunction)}
        for kind in kinds
    )
    assert blocking == asynchronous
