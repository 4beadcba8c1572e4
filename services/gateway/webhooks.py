"""Webhooks: a tenant's subscriptions, their secrets, and the deliveries that ends of tasks led to."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import uuid_utils
from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.control import Controlled, envelope_of
from services.gateway.entities import Entities
from services.gateway.ids import derived_id
from services.gateway.problems import NotFound, Unavailable, refused
from services.gateway.queries import TaskListQuery
from services.gateway.read import Reader
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.wait import Recent, ReplySource, Sender, ask, no_answer
from taskloom.domain.entities.commands import RemoveWebhook, SaveWebhook
from taskloom.domain.entities.webhooks import ENTITY, RESERVED, Webhooks
from taskloom.domain.task.webhooks import DELIVERY_OF, KIND, WEBHOOK, Delivery, submission
from taskloom.domain.values import Identifier, Text256, Webhook
from taskloom.views.task_executions.row import Row
from taskloom.webhooks import secret_of
from taskloom.wire.messages import Reply

Url = Annotated[str, Meta(max_length=2048)]
Names = Annotated[tuple[str, ...], Meta(max_length=20)]
Name = Annotated[str, Meta(max_length=128)]


class Filter(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which tasks; what is left out does not narrow."""

    kind: Name = ""
    queue: Name = ""
    tag: Text256 = ""


class CreateWebhook(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``events``: task.completed, task.failed, task.timed_out, task.cancelled; none for all. ``webhook_id``: made when
    left out."""

    url: Url
    events: Names = ()
    filter: Filter = Filter()
    webhook_id: Identifier | None = None


class UpdateWebhook(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is absent stays. ``rotate_secret``: the answer has a new one, which signs from then on."""

    url: Url | UnsetType = UNSET
    events: Names | UnsetType = UNSET
    filter: Filter | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    rotate_secret: bool = False


class WebhookSeen(Struct, frozen=True, kw_only=True):
    """``secret`` is there only when it is new. ``secret_serial`` counts them."""

    webhook_id: str
    url: str
    events: tuple[str, ...]
    filter: Filter
    enabled: bool
    secret_serial: int
    secret: str | UnsetType = UNSET


class WebhookList(Struct, frozen=True):
    webhooks: list[WebhookSeen]
    total_count: int


class Secret(Struct, frozen=True):
    """What signs the deliveries to the ``callback_url`` of tasks."""

    secret: str


class DeliverySeen(Struct, frozen=True, kw_only=True):
    """``state``: the fine state of its task; the attempts are under /tasks/{delivery_id}/executions. ``webhook_id`` is
    callback for a task's own callback_url."""

    delivery_id: str
    task_id: str
    webhook_id: str
    event: str
    status: str
    state: str
    attempts: int
    created_at: datetime
    delivered_at: datetime | UnsetType = UNSET
    next_attempt_at: datetime | UnsetType = UNSET
    error: str | UnsetType = UNSET


class DeliveryList(Struct, frozen=True):
    """Newest first."""

    deliveries: list[DeliverySeen]
    total_count: int


def seen_of(webhook: Webhook, secret: str | UnsetType = UNSET) -> WebhookSeen:
    return WebhookSeen(
        webhook_id=webhook.name,
        url=webhook.url,
        events=webhook.events,
        filter=Filter(webhook.kind, webhook.queue, webhook.tag),
        enabled=webhook.enabled,
        secret_serial=webhook.serial,
        secret=secret,
    )


def delivery_of(row: Row) -> DeliverySeen:
    return DeliverySeen(
        delivery_id=row.task_id,
        task_id=str(row.metadata.get(DELIVERY_OF, "")),
        webhook_id=str(row.metadata.get(WEBHOOK, "")),
        event=row.name or "",
        status=row.status,
        state=row.state,
        attempts=row.attempt,
        created_at=row.created_at,
        delivered_at=row.completed_at if row.status == "COMPLETED" and row.completed_at else UNSET,
        next_attempt_at=row.retry_at or UNSET,
        error=row.error or UNSET,
    )


class WebhookDesk:
    """``key`` is what secrets follow from, "" where webhooks are not set up."""

    def __init__(
        self, entities: Entities, reader: Reader, sender: Sender, replies: ReplySource, recent: Recent, key: str
    ) -> None:
        self._entities = entities
        self._reader = reader
        self._sender = sender
        self._replies = replies
        self._recent = recent
        self._key = key

    def secret(self, caller: Caller, webhook: str = RESERVED, serial: int = 1) -> str:
        """
        Raises:
            Unavailable: there is no key.
        """
        if not self._key:
            raise Unavailable("webhooks are not set up here: TASKLOOM_WEBHOOK_KEY is not set", retry_after_s=60)
        return secret_of(self._key, caller.tenant_id, webhook, serial)

    async def all(self, caller: Caller) -> tuple[Webhook, ...]:
        entity = await self._entities.find("webhook", caller, ENTITY)
        return entity.value.items if entity is not None and isinstance(entity.value, Webhooks) else ()

    async def get(self, caller: Caller, name: str) -> Webhook:
        """Raises NotFound."""
        found = next((each for each in await self.all(caller) if each.name == name), None)
        if found is None:
            raise NotFound("Webhook not found", webhook_id=name)
        return found

    async def create(self, wish: CreateWebhook, origin: Origin) -> WebhookSeen:
        self.secret(origin.caller)
        name = wish.webhook_id or _new_id(origin)
        narrow = wish.filter
        command = SaveWebhook(name, wish.url, wish.events, narrow.kind, narrow.queue, narrow.tag)
        reply = await self._entities.change(ENTITY, command, origin)
        return self._new(await self._saved(origin.caller, name, reply), origin.caller)

    async def update(self, name: str, wish: UpdateWebhook, origin: Origin) -> WebhookSeen:
        before = await self.get(origin.caller, name)
        narrow = Filter(before.kind, before.queue, before.tag) if wish.filter is UNSET else wish.filter
        command = SaveWebhook(
            name,
            before.url if wish.url is UNSET else wish.url,
            before.events if wish.events is UNSET else wish.events,
            *(narrow.kind, narrow.queue, narrow.tag),
            enabled=before.enabled if wish.enabled is UNSET else wish.enabled,
            new=False,
            rotate=wish.rotate_secret,
        )
        reply = await self._entities.change(ENTITY, command, origin)
        after = await self._saved(origin.caller, name, reply)
        return self._new(after, origin.caller) if wish.rotate_secret else seen_of(after)

    async def remove(self, name: str, origin: Origin) -> None:
        await self._entities.change(ENTITY, RemoveWebhook(name), origin)

    def _new(self, webhook: Webhook, caller: Caller) -> WebhookSeen:
        return seen_of(webhook, self.secret(caller, webhook.name, webhook.serial))

    async def _saved(self, caller: Caller, name: str, reply: Reply) -> Webhook:
        """As it is now. The reply counts, should the read side not show it yet."""
        entity = await self._entities.find("webhook", caller, ENTITY)
        found = entity.value.find(name) if entity is not None and isinstance(entity.value, Webhooks) else None
        if found is None or found.serial != reply.data.get("serials", {}).get(name):
            raise Unavailable("it is saved, but not shown yet; read it in a moment")
        return found

    async def deliveries(self, caller: Caller, metadata: dict[str, str], limit: int, offset: int) -> DeliveryList:
        page = await self._reader.tasks(caller, TaskListQuery(kind=KIND, limit=limit, offset=offset), metadata)
        return DeliveryList([delivery_of(row) for row in page.rows], page.total_count)

    async def delivery(self, caller: Caller, name: str) -> Row:
        """Raises NotFound: there is no such task, or it is no delivery."""
        row = await self._reader.row(caller, name)
        if row.kind != KIND:
            raise NotFound("Delivery not found", delivery_id=name)
        return row

    async def test(self, webhook: Webhook, origin: Origin) -> Controlled:
        """Submits a delivery of the event webhook.test."""
        self.secret(origin.caller)
        name, tenant = f"delivery-{uuid_utils.uuid7()}", origin.caller.tenant_id
        data: dict[str, Any] = {"task_id": name, "webhook_id": webhook.name}
        told = Delivery(webhook.url, webhook.name, tenant, "webhook.test", datetime.now(UTC), data, webhook.serial)
        envelope = envelope_of(name, submission(told, name), origin)
        awaited = envelope.attributes.id
        replies = await ask(self._sender, self._replies, [envelope], awaited=[awaited], within_s=_REPLY_S)
        reply = replies.get(awaited)
        if reply is None:
            raise no_answer("the test may still be sent; look at the deliveries")
        if reply.refusal is not None:
            raise refused(reply.refusal, name)
        self._recent.add(tenant, name, reply.version)
        return Controlled(True, "Test sent", name, reply.state)


def _new_id(origin: Origin) -> str:
    """The same for a repeat under its key, whose answer is not kept, for the secret that is in it."""
    if not origin.key:
        return f"wh-{uuid_utils.uuid7()}"
    return derived_id("wh", origin.caller.tenant_id, origin.caller.user_id, origin.key)


_REPLY_S: Final = 5.0
