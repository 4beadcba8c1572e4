"""Queues: how deep, how long tasks wait, by priority and state; of the caller's tenant."""

from typing import Final

from litestar import get
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct, field, structs

from services.gateway import figures
from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound
from taskloom.views.queues.query import QueueStats

_STATISTICS: Final = {
    "total_tasks": 120976,
    "pending_tasks": 31,
    "running_tasks": 11,
    "completed_tasks": 120430,
    "failed_tasks": 480,
    "cancelled_tasks": 24,
    "queue_length": 27,
    "priority_distribution": {"LOW": 2, "NORMAL": 20, "HIGH": 4, "URGENT": 0, "CRITICAL": 1},
    "agent_workloads": {"executor-1": 6, "executor-2": 5},
    "overdue_tasks": 1,
}


class QueueInfo(QueueStats):
    """``agent_workloads``: attempts that each ready executor of the queue holds, of all queues and tenants."""

    agent_workloads: dict[str, int] = field(default_factory=dict)


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
            answers={200: Answered("The queue", QueueInfo)},
            errors=(400, 404),
        )
    ),
)
async def get_queue(request: AnyRequest, name: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    views = gateway.reader.views
    stats = await views.queue(caller_in(request).tenant_id, checked_id(name, "name"))
    if stats is None:
        if name not in (await views.known()).of(caller_in(request).tenant_id).queues | {"default"}:
            raise NotFound("Queue not found: no executor serves it and no open or recent task is in it", name=name)
        stats = QueueStats(name)
    serving = [each for each in await views.executors(caller_in(request).tenant_id) if name in each.heartbeat.queues]
    info = QueueInfo(**structs.asdict(stats), agent_workloads=figures.workloads(serving))
    return json_answer(info, headers=gateway.lag.header())


@get(
    "/api/v1/queue/stats",
    opt=documented(
        Doc(
            summary="All queues together: counts, priorities, workloads, overdue tasks",
            tag="Queues",
            answers={200: Answered("The statistics", figures.QueueStatistics, _STATISTICS)},
            errors=(503,),
        )
    ),
)
async def get_queue_statistics(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    found = await figures.queue_statistics(gateway.reader.views, caller_in(request).tenant_id)
    return json_answer(found, headers=gateway.lag.header())


HANDLERS: Final = [list_queues, get_queue, get_queue_statistics]
