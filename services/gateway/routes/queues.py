"""Queues: how deep, how long tasks wait, by priority and state; of the caller's tenant."""

from typing import Final

from litestar import get
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound
from taskloom.views.queues.query import QueueStats


class QueueList(Struct, frozen=True):
    queues: list[QueueStats]
    total_count: int


@get(
    "/api/v1/queues",
    opt=documented(
        Doc(
            summary="Statistics of all queues with open or recent tasks",
            tag="Queues",
            answers={200: Answered("Queues, by name", QueueList)},
        )
    ),
)
async def list_queues(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    found = await gateway.reader.views.queues(caller_in(request).tenant_id)
    return json_answer(QueueList(found, len(found)), headers=gateway.lag.header())


@get(
    "/api/v1/queues/{name:str}",
    opt=documented(
        Doc(
            summary="Statistics of a queue: depth, waits, priorities",
            tag="Queues",
            answers={200: Answered("The queue", QueueStats)},
            errors=(400, 404),
        )
    ),
)
async def get_queue(request: AnyRequest, name: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    views = gateway.reader.views
    stats = await views.queue(caller_in(request).tenant_id, checked_id(name, "name"))
    if stats is None:
        if name not in (await views.known()).queues | {"default"}:
            raise NotFound("Queue not found: no executor serves it and no open or recent task is in it", name=name)
        stats = QueueStats(name)
    return json_answer(stats, headers=gateway.lag.header())


HANDLERS: Final = [list_queues, get_queue]
