"""Webhooks: subscriptions to the ends of tasks, and the log of deliveries."""

from typing import Any, Final

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.control import Controlled
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import PageQuery, read_query
from services.gateway.webhooks import (
    CreateWebhook,
    DeliveryList,
    Secret,
    UpdateWebhook,
    WebhookList,
    WebhookSeen,
    seen_of,
)
from taskloom.domain.task.commands import RetryTask
from taskloom.domain.task.webhooks import DELIVERY_OF, WEBHOOK

WEBHOOKS: Final = "/api/v1/webhooks"
WEBHOOK_PATH: Final = f"{WEBHOOKS}/{{webhook_id:str}}"
TAG: Final = "Webhooks"
_NEVER_KEPT: Final = [("Cache-Control", "no-store")]
"""For answers with a secret: neither caches nor the table of first answers may have it."""

_SEEN: Final[dict[str, Any]] = {
    "webhook_id": "wh-1",
    "url": "https://example.com/hooks",
    "events": ["task.failed"],
    "filter": {"queue": "default"},
    "enabled": True,
    "secret_serial": 1,
}
_NEW: Final = {**_SEEN, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_DELIVERIES: Final = {
    "deliveries": [
        {
            "delivery_id": "delivery-7c1e",
            "task_id": "task-1",
            "webhook_id": "wh-1",
            "event": "task.failed",
            "status": "COMPLETED",
            "state": "completed",
            "attempts": 2,
            "created_at": "2026-11-21T12:00:00Z",
            "delivered_at": "2026-11-21T12:00:06Z",
        }
    ],
    "total_count": 1,
}
_TAKEN: Final = {"success": True, "message": "Test sent", "task_id": "delivery-7c1e", "state": "ready"}
_SIGNED: Final = (
    "Deliveries are signed as in Standard Webhooks: headers webhook-id, webhook-timestamp, webhook-signature. The body "
    "is {type, timestamp, data}. At least once: webhook-id is the same in every try. A change counts for tasks "
    "that end a second later or after."
)


def _name(webhook_id: str) -> str:
    return checked_id(webhook_id, "webhook_id")


@post(
    WEBHOOKS,
    opt=documented(
        Doc(
            summary="Add a webhook",
            tag=TAG,
            details=f"{_SIGNED} The secret is shown in this answer only.",
            body=CreateWebhook,
            examples={"failures": {"url": "https://example.com/hooks", "events": ["task.failed"]}},
            answers={201: Answered("Added", WebhookSeen, _NEW)},
            errors=(400, 409, 503),
        )
    ),
)
async def create_webhook(request: AnyRequest) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(CreateWebhook).decode, await request.body())
    gateway = gateway_of(request)
    made = await gateway.webhooks.create(wish, origin_of(request, gateway))
    return json_answer(made, status=201, headers=_NEVER_KEPT)


@get(
    WEBHOOKS,
    opt=documented(
        Doc(
            summary="List webhooks",
            tag=TAG,
            answers={200: Answered("All, oldest first", WebhookList, {"webhooks": [_SEEN], "total_count": 1})},
        )
    ),
)
async def list_webhooks(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    found = [seen_of(each) for each in await gateway.webhooks.all(caller_in(request))]
    return json_answer(WebhookList(found, len(found)), headers=gateway.lag.header())


@get(
    WEBHOOK_PATH,
    opt=documented(
        Doc(summary="A webhook", tag=TAG, answers={200: Answered("It", WebhookSeen, _SEEN)}, errors=(400, 404))
    ),
)
async def get_webhook(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(seen_of(await gateway.webhooks.get(caller_in(request), _name(webhook_id))))


@put(
    WEBHOOK_PATH,
    opt=documented(
        Doc(
            summary="Change a webhook",
            tag=TAG,
            body=UpdateWebhook,
            examples={"off": {"enabled": False}, "a new secret": {"rotate_secret": True}},
            answers={200: Answered("Changed", WebhookSeen, _SEEN)},
            errors=(400, 404, 503),
        )
    ),
)
async def update_webhook(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(UpdateWebhook).decode, await request.body())
    gateway = gateway_of(request)
    changed = await gateway.webhooks.update(_name(webhook_id), wish, origin_of(request, gateway))
    return json_answer(changed, headers=_NEVER_KEPT if wish.rotate_secret else ())


@delete(
    WEBHOOK_PATH,
    status_code=200,
    opt=documented(
        Doc(
            summary="Remove a webhook",
            tag=TAG,
            details="Deliveries that are due already go on.",
            answers={200: Answered("Removed", example={"success": True})},
            errors=(400, 404, 503),
        )
    ),
)
async def delete_webhook(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    await gateway.webhooks.remove(_name(webhook_id), origin_of(request, gateway))
    return json_answer({"success": True})


@post(
    f"{WEBHOOK_PATH}/test",
    status_code=202,
    opt=documented(
        Doc(
            summary="Send a delivery of the event webhook.test",
            tag=TAG,
            answers={202: Answered("Submitted; task_id is the delivery", Controlled, _TAKEN)},
            errors=(400, 404, 503),
        )
    ),
)
async def send_test(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    webhook = await gateway.webhooks.get(caller_in(request), _name(webhook_id))
    return json_answer(await gateway.webhooks.test(webhook, origin_of(request, gateway)), status=202)


async def _deliveries(request: AnyRequest, metadata: dict[str, str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), PageQuery)
    found = await gateway.webhooks.deliveries(caller_in(request), metadata, query.limit, query.offset)
    return json_answer(found, headers=gateway.lag.header())


def _log_of(summary: str) -> dict[str, Any]:
    answers = {200: Answered("One page", DeliveryList, _DELIVERIES)}
    return documented(Doc(summary=summary, tag=TAG, query=PageQuery, answers=answers, errors=(400, 404)))


@get(f"{WEBHOOK_PATH}/deliveries", opt=_log_of("Deliveries of a webhook, newest first"))
async def list_webhook_deliveries(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    return await _deliveries(request, {WEBHOOK: _name(webhook_id)})


@get("/api/v1/tasks/{task_id:str}/deliveries", opt=_log_of("Deliveries that a task's end led to, newest first"))
async def list_task_deliveries(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    await gateway_of(request).reader.row(caller_in(request), checked_id(task_id))
    return await _deliveries(request, {DELIVERY_OF: task_id})


@post(
    "/api/v1/deliveries/{delivery_id:str}/redeliver",
    status_code=202,
    opt=documented(
        Doc(
            summary="Send a delivery again",
            tag=TAG,
            details="Of one that was delivered, or that was given up; its tries are counted anew.",
            answers={202: Answered("It is sent again", Controlled, {**_TAKEN, "message": "The task begins anew"})},
            errors=(400, 404, 409, 503),
        )
    ),
)
async def redeliver(request: AnyRequest, delivery_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    row = await gateway.webhooks.delivery(caller_in(request), checked_id(delivery_id, "delivery_id"))
    command = RetryTask("redelivered")
    return json_answer(await gateway.controller.control(row.task_id, command, origin_of(request, gateway)), status=202)


@get(
    "/api/v1/callbacks/secret",
    opt=documented(
        Doc(
            summary="The secret of callback_url",
            tag=TAG,
            details="Deliveries to the callback_url of any of the tenant's tasks are signed with it.",
            answers={200: Answered("The secret", Secret, {"secret": _NEW["secret"]})},
            errors=(503,),
        )
    ),
)
async def callback_secret(request: AnyRequest) -> ASGIApp:
    return json_answer(Secret(gateway_of(request).webhooks.secret(caller_in(request))), headers=_NEVER_KEPT)


HANDLERS: Final = [
    *(create_webhook, list_webhooks, get_webhook, update_webhook, delete_webhook, send_test),
    *(list_webhook_deliveries, list_task_deliveries, redeliver, callback_secret),
]
