"""``client.webhooks``: who is told of tasks' ends, and what became of it."""

from __future__ import annotations

from typing import Protocol, TypeVar, Unpack

from taskloom.client import webhook_calls as calls
from taskloom.client.answers import Controlled
from taskloom.client.calls import Call
from taskloom.client.webhook_calls import WebhookChanges, WebhookWish

T = TypeVar("T")


class Calls(Protocol):
    async def call(self, call: Call[T]) -> T: ...


class AsyncWebhooks:
    """Every call may raise ``Unreachable`` or a kind of ``Refused``, whose ``field`` is the one at fault."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    async def create(self, **wish: Unpack[WebhookWish]) -> calls.Webhook:
        """The answer alone has the ``secret`` that signs its deliveries, as in Standard Webhooks."""
        return await self._client.call(calls.create(wish))

    async def all(self) -> list[calls.Webhook]:
        """Oldest first."""
        return (await self._client.call(calls.list_webhooks())).webhooks

    async def get(self, webhook_id: str) -> calls.Webhook:
        return await self._client.call(calls.get(webhook_id))

    async def update(self, webhook_id: str, **changes: Unpack[WebhookChanges]) -> calls.Webhook:
        return await self._client.call(calls.update(webhook_id, changes))

    async def pause(self, webhook_id: str) -> calls.Webhook:
        """Ends of tasks are not told until it is resumed, nor later."""
        return await self.update(webhook_id, enabled=False)

    async def resume(self, webhook_id: str) -> calls.Webhook:
        return await self.update(webhook_id, enabled=True)

    async def remove(self, webhook_id: str) -> None:
        """Deliveries that are due already go on."""
        await self._client.call(calls.remove(webhook_id))

    async def test(self, webhook_id: str) -> Controlled:
        """Sends the event webhook.test; ``task_id`` of the answer is the delivery."""
        return await self._client.call(calls.test(webhook_id))

    async def deliveries(self, webhook_id: str, *, limit: int = 20, offset: int = 0) -> calls.WebhookDeliveries:
        """One page, newest first."""
        return await self._client.call(calls.deliveries(webhook_id, limit=limit, offset=offset))

    async def deliveries_of_task(self, task_id: str, *, limit: int = 20, offset: int = 0) -> calls.WebhookDeliveries:
        """What a task's end led to, its ``callback_url`` included; one page, newest first."""
        return await self._client.call(calls.deliveries_of_task(task_id, limit=limit, offset=offset))

    async def redeliver(self, delivery_id: str) -> Controlled:
        """Sends one again that was delivered, or given up.

        Raises:
            Conflict: it is still being delivered.
        """
        return await self._client.call(calls.redeliver(delivery_id))

    async def callback_secret(self) -> str:
        """What signs the deliveries to the ``callback_url`` of tasks."""
        return (await self._client.call(calls.callback_secret())).secret
