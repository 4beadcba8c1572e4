"""Executors: who is there, what they run, how busy they are. They serve all tenants, so no task of anyone is named;
agents serve one, and are shown to no other."""

from datetime import datetime
from typing import Final

from litestar import get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from services.gateway import figures
from services.gateway.agents import executor_called
from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound
from taskloom.domain.values import Resources
from taskloom.views.executors.query import Executor

_STATISTICS: Final = {
    "executor_id": "executor-1",
    "type": "executor",
    "active": True,
    "running_tasks": 6,
    "total_executions": 30241,
    "successful_executions": 30120,
    "failed_executions": 121,
    "success_rate": 99.6,
    "average_duration_seconds": 1.281,
    "capabilities": ["linux"],
    "registered_at": "2026-11-21T08:00:00Z",
    "last_seen_at": "2026-11-21T11:59:58Z",
}


MAX_MOVED: Final = 1_000


class ExecutorInfo(Struct, frozen=True):
    """``status``: ready, draining, stopped, or lost when it was not heard for 20 s. ``load``: held by slots."""

    executor_id: str
    status: str
    kinds: tuple[str, ...]
    queues: tuple[str, ...]
    capabilities: tuple[str, ...]
    labels: dict[str, str]
    slots: int
    held: int
    load: float
    resources: Resources
    host: str
    pid: int
    version: str
    started_at: datetime | None
    last_heartbeat_at: datetime


class ExecutorList(Struct, frozen=True):
    executors: list[ExecutorInfo]
    total_count: int


def info_of(executor: Executor) -> ExecutorInfo:
    beat = executor.heartbeat
    return ExecutorInfo(
        executor_id=beat.executor_id,
        status=executor.status,
        kinds=beat.kinds,
        queues=beat.queues,
        capabilities=beat.capabilities,
        labels=beat.labels,
        slots=beat.slots,
        held=len(beat.live),
        load=round(executor.load, 4),
        resources=beat.resources,
        host=beat.host,
        pid=beat.pid,
        version=beat.version,
        started_at=beat.started_at,
        last_heartbeat_at=beat.at,
    )


@get(
    "/api/v1/executors",
    opt=documented(
        Doc(summary="All executors, by id", tag="Executors", answers={200: Answered("Executors", ExecutorList)})
    ),
)
async def list_executors(request: AnyRequest) -> ASGIApp:
    gateway, tenant_id = gateway_of(request), caller_in(request).tenant_id
    found = [info_of(executor) for executor in await gateway.reader.views.executors(tenant_id)]
    return json_answer(ExecutorList(found, len(found)), headers=gateway.lag.header())


@get(
    "/api/v1/executors/{executor_id:str}",
    opt=documented(
        Doc(summary="An executor", tag="Executors", answers={200: Answered("It", ExecutorInfo)}, errors=(400, 404))
    ),
)
async def get_executor(request: AnyRequest, executor_id: FromPath[str]) -> ASGIApp:
    gateway, tenant_id = gateway_of(request), caller_in(request).tenant_id
    executor = await executor_called(gateway.reader.views, tenant_id, checked_id(executor_id, "executor_id"))
    if executor is None:
        raise NotFound("Executor not found", executor_id=executor_id)
    return json_answer(info_of(executor), headers=gateway.lag.header())


@get(
    ["/api/v1/executors/stats", "/api/v1/agents/stats"],
    opt=documented(
        Doc(
            summary="What each executor has run for the tenant, by id",
            tag="Executors",
            answers={
                200: Answered("Statistics", figures.ExecutorStatsList, {"executors": [_STATISTICS], "total_count": 1})
            },
            errors=(503,),
        )
    ),
)
async def list_executor_statistics(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    found = await figures.executor_statistics(gateway.reader.views, caller_in(request).tenant_id)
    return json_answer(found, headers=gateway.lag.header())


@get(
    ["/api/v1/executors/{executor_id:str}/stats", "/api/v1/agents/{executor_id:str}/stats"],
    opt=documented(
        Doc(
            summary="What an executor has run for the tenant",
            tag="Executors",
            answers={200: Answered("Statistics", figures.ExecutorStats, _STATISTICS)},
            errors=(400, 404, 503),
        )
    ),
)
async def get_executor_statistics(request: AnyRequest, executor_id: FromPath[str]) -> ASGIApp:
    gateway, tenant_id = gateway_of(request), caller_in(request).tenant_id
    found = await figures.statistics_of(gateway.reader.views, tenant_id, checked_id(executor_id, "executor_id"))
    if found is None:
        raise NotFound("Executor not found", executor_id=executor_id)
    return json_answer(found, headers=gateway.lag.header())


@post(
    ["/api/v1/executors/rebalance", "/api/v1/agents/rebalance"],
    status_code=200,
    opt=documented(
        Doc(
            summary="Move work that has not started to executors that are free",
            tag="Executors",
            details="The answer lists the caller's tasks that were called back from the reserve of a full executor, by "
            "the one that has a free slot for them; lower priorities first, at most 1,000. What has started stays.",
            answers={200: Answered("Task ids by executor", dict[str, list[str]], {"executor-1": ["task-1", "task-2"]})},
            errors=(503,),
        )
    ),
)
async def rebalance(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    origin = origin_of(request, gateway)
    assigned = await gateway.reader.views.assigned(origin.caller.tenant_id, MAX_MOVED)
    return json_answer(await gateway.controller.rebalance(assigned, origin))


HANDLERS: Final = [list_executors, get_executor, list_executor_statistics, get_executor_statistics, rebalance]
