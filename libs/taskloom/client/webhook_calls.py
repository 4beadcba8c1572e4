"""The calls about webhooks and what they answer, as values."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Required, TypedDict
from urllib.parse import quote

from msgspec import Struct

from taskloom.client.answers import Controlled
from taskloom.client.calls import Call
from taskloom.client.calls import of as task_path

WEBHOOKS: Final = "/api/v1/webhooks"


class WebhookFilter(TypedDict, total=False):
    """Which tasks; what is left out does not narrow."""

    kind: str
    queue: str
    tag: str


class WebhookWish(TypedDict, total=False):
    """``events``: task.completed, task.failed, task.timed_out, task.cancelled; none for all. ``webhook_id``: made by
    the server when it is left out."""

    url: Required[str]
    events: Sequence[str]
    filter: WebhookFilter
    webhook_id: str


class WebhookChanges(TypedDict, total=False):
    """What is not given stays. ``rotate_secret``: the answer has a new secret, which signs from then on."""

    url: str
    events: Sequence[str]
    filter: WebhookFilter
    enabled: bool
    rotate_secret: bool


class Narrowed(Struct, frozen=True):
    """A webhook's filter as the server has it; "" does not narrow."""

    kind: str = ""
    queue: str = ""
    tag: str = ""


class Webhook(Struct, frozen=True, kw_only=True):
    """``events``: none stands for all. ``secret`` is there only where it is new."""

    webhook_id: str
    url: str
    events: tuple[str, ...] = ()
    filter: Narrowed = Narrowed()
    enabled: bool = True
    secret_serial: int = 1
    secret: str = ""


class Webhooks(Struct, frozen=True):
    webhooks: list[Webhook]
    total_count: int


class WebhookDelivery(Struct, frozen=True, kw_only=True):
    """``webhook_id`` is callback for a task's own callback_url. ``status``: a word of the API without prefix."""

    delivery_id: str
    task_id: str
    webhook_id: str
    event: str
    status: str
    state: str
    attempts: int
    created_at: datetime
    delivered_at: datetime | None = None
    next_attempt_at: datetime | None = None
    error: str = ""


class WebhookDeliveries(Struct, frozen=True):
    deliveries: list[WebhookDelivery]
    total_count: int


class CallbackSecret(Struct, frozen=True):
    secret: str


class _Done(Struct, frozen=True):
    success: bool


def of(webhook_id: str, part: str = "") -> str:
    return f"{WEBHOOKS}/{quote(webhook_id, safe='')}" + (f"/{part}" if part else "")


def create(wish: WebhookWish) -> Call[Webhook]:
    return Call(Webhook, WEBHOOKS, "POST", body=wish)


def list_webhooks() -> Call[Webhooks]:
    return Call(Webhooks, WEBHOOKS)


def get(webhook_id: str) -> Call[Webhook]:
    return Call(Webhook, of(webhook_id))


def update(webhook_id: str, changes: WebhookChanges) -> Call[Webhook]:
    return Call(Webhook, of(webhook_id), "PUT", body=changes)


def remove(webhook_id: str) -> Call[_Done]:
    return Call(_Done, of(webhook_id), "DELETE")


def test(webhook_id: str) -> Call[Controlled]:
    return Call(Controlled, of(webhook_id, "test"), "POST")


def deliveries(webhook_id: str, *, limit: int = 20, offset: int = 0) -> Call[WebhookDeliveries]:
    return Call(WebhookDeliveries, of(webhook_id, "deliveries"), params={"limit": limit, "offset": offset})


def deliveries_of_task(task_id: str, *, limit: int = 20, offset: int = 0) -> Call[WebhookDeliveries]:
    return Call(WebhookDeliveries, task_path(task_id, "deliveries"), params={"limit": limit, "offset": offset})


def redeliver(delivery_id: str) -> Call[Controlled]:
    return Call(Controlled, f"/api/v1/deliveries/{quote(delivery_id, safe='')}/redeliver", "POST")


def callback_secret() -> Call[CallbackSecret]:
    return Call(CallbackSecret, "/api/v1/callbacks/secret")
