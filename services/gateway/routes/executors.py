"""Executors: who is there, what they run, how busy they are. They serve all tenants, so no task of anyone is named."""

from datetime import datetime
from typing import Final

from litestar import get
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, checked_id, gateway_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound
from taskloom.domain.values import Resources
from taskloom.views.executors.query import Executor


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
    gateway = gateway_of(request)
    found = [info_of(executor) for executor in await gateway.reader.views.executors()]
    return json_answer(ExecutorList(found, len(found)), headers=gateway.lag.header())


@get(
    "/api/v1/executors/{executor_id:str}",
    opt=documented(
        Doc(summary="An executor", tag="Executors", answers={200: Answered("It", ExecutorInfo)}, errors=(400, 404))
    ),
)
async def get_executor(request: AnyRequest, executor_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    executor = await gateway.reader.views.executor(checked_id(executor_id, "executor_id"))
    if executor is None:
        raise NotFound("Executor not found", executor_id=executor_id)
    return json_answer(info_of(executor), headers=gateway.lag.header())


HANDLERS: Final = [list_executors, get_executor]
