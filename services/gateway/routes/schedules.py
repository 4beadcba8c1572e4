"""Schedules: cron, interval or once; paused, resumed, run now, filled in, previewed; and the runs they led to."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import TaskListQuery, read_query
from services.gateway.schedules import (
    RUN_OF,
    Backfill,
    Changed,
    Created,
    CreateSchedule,
    Preview,
    Reasoned,
    ScheduleList,
    ScheduleSeen,
    UpdateSchedule,
    preview_of,
    seen_of,
)
from services.gateway.shapes import Usage, usage_of
from taskloom.domain.entities.due import Timing
from taskloom.views.task_executions.row import Row

SCHEDULES: Final = "/api/v1/schedules"
SCHEDULE: Final = f"{SCHEDULES}/{{schedule_id:str}}"
TAG: Final = "Schedules"
STATUSES: Final = ("ACTIVE", "PAUSED", "ALL")

_EXAMPLE: Final[dict[str, Any]] = {
    "name": "Nightly report",
    "cron_expression": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "task_query": "Write the report of the day before",
    "overlap": "skip",
    "catch_up": "last",
}
_HEADERS: Final = {"Idempotency-Key": "A repeat under the same key changes nothing and is answered like the first"}


class ScheduleRun(Struct, frozen=True, kw_only=True):
    """``task_id`` is the same id, usable everywhere; ``triggered_at`` when the run was submitted."""

    workflow_id: str
    task_id: str
    query: str
    status: str
    result: str | UnsetType = UNSET
    error_message: str | UnsetType = UNSET
    model_used: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    total_tokens: int
    total_cost_usd: float
    usage: Usage
    duration_ms: int | UnsetType = UNSET
    scheduled_for: str | UnsetType = UNSET
    triggered_at: datetime
    started_at: datetime | UnsetType = UNSET
    completed_at: datetime | UnsetType = UNSET


class RunList(Struct, frozen=True):
    """Newest first."""

    runs: list[ScheduleRun]
    total_count: int
    page: int
    page_size: int


class PreviewQuery(Struct, frozen=True):
    count: Annotated[int, Meta(ge=1, le=100)] = 5


class AnyPreviewQuery(Struct, frozen=True):
    """Of a schedule that does not exist yet."""

    cron_expression: str = ""
    timezone: str = "UTC"
    interval_s: Annotated[float, Meta(ge=1, le=366 * 86_400)] | None = None
    count: Annotated[int, Meta(ge=1, le=100)] = 5


def _id(schedule_id: str) -> str:
    return checked_id(schedule_id, "schedule_id")


def _page(request: AnyRequest, size: int) -> tuple[int, int]:
    """Page from 1 and its size; what is no such number falls back, as in Shannon."""
    given = dict(pairs_of(request))
    page, page_size = given.get("page", ""), given.get("page_size", "")
    number = int(page) if page.isascii() and page.isdigit() and 1 <= int(page) <= 10_000 else 1
    most = int(page_size) if page_size.isascii() and page_size.isdigit() and 1 <= int(page_size) <= 100 else size
    return number, most


@post(
    SCHEDULES,
    opt=documented(
        Doc(
            summary="Create a schedule",
            tag=TAG,
            details="Each due time leads to exactly one run, or to a recorded reason why not. Cron is that of Debian: "
            "a time that the clock skips runs right after the skip, one that comes twice runs once.",
            body=CreateSchedule,
            examples={
                "every night": _EXAMPLE,
                "every minute": {"name": "ping", "interval_s": 60, "task": {"kind": "echo"}},
            },
            headers=_HEADERS,
            answers={201: Answered("Created", Created)},
            errors=(400, 409, 429, 503),
        )
    ),
)
async def create_schedule(request: AnyRequest) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(CreateSchedule).decode, await request.body())
    gateway = gateway_of(request)
    return json_answer(await gateway.schedules.create(wish, origin_of(request, gateway)), status=201)


@get(
    SCHEDULES,
    opt=documented(
        Doc(
            summary="List schedules, newest first",
            tag=TAG,
            details="page (from 1), page_size (1 to 100), status (ACTIVE, PAUSED, ALL).",
            answers={200: Answered("One page", ScheduleList)},
            errors=(),
        )
    ),
)
async def list_schedules(request: AnyRequest) -> ASGIApp:
    gateway, (page, size) = gateway_of(request), _page(request, 50)
    status = dict(pairs_of(request)).get("status", "ALL").upper()
    found = await gateway.schedules.page(caller_in(request), page, size, status if status in STATUSES else "ALL")
    return json_answer(found, headers=gateway.lag.header())


@get(
    f"{SCHEDULES}/preview",
    opt=documented(
        Doc(
            summary="When a schedule would run",
            tag=TAG,
            query=AnyPreviewQuery,
            answers={200: Answered("The next due times", Preview)},
            errors=(400,),
        )
    ),
)
async def preview_any(request: AnyRequest) -> ASGIApp:
    query = read_query(pairs_of(request), AnyPreviewQuery)
    timing = Timing(query.cron_expression, query.timezone, query.interval_s)
    return json_answer(preview_of(timing, "preview", query.count))


@get(
    SCHEDULE,
    opt=documented(
        Doc(summary="A schedule", tag=TAG, answers={200: Answered("The schedule", ScheduleSeen)}, errors=(400, 404))
    ),
)
async def get_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    entity, schedule = await gateway.schedules.get(caller_in(request), _id(schedule_id))
    return json_answer(seen_of(entity, schedule), headers=gateway.lag.header())


@put(
    SCHEDULE,
    opt=documented(
        Doc(
            summary="Change a schedule",
            tag=TAG,
            details="What is absent stays. The next run follows the new timing from now on.",
            body=UpdateSchedule,
            examples={"later": {"cron_expression": "0 4 * * *"}},
            headers=_HEADERS,
            answers={200: Answered("Changed", Changed)},
            errors=(400, 404, 409, 503),
        )
    ),
)
async def update_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(UpdateSchedule).decode, await request.body())
    gateway = gateway_of(request)
    return json_answer(await gateway.schedules.update(_id(schedule_id), wish, origin_of(request, gateway)))


_REASON: Final = {"with a reason": {"reason": "the source is down"}}
_BACKFILL: Final = {"a day": {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}}


def _control(
    summary: str, details: str = "", body: type[Struct] = Reasoned, examples: dict[str, Any] = _REASON
) -> dict[str, Any]:
    return documented(
        Doc(
            summary=summary,
            tag=TAG,
            details=details,
            body=body,
            body_required=body is not Reasoned,
            examples=examples,
            headers=_HEADERS,
            answers={200: Answered("Done", Changed)},
            errors=(400, 404, 503),
        )
    )


async def _reason(request: AnyRequest) -> str:
    return decoded(msgspec.json.Decoder(Reasoned).decode, await request.body() or b"{}").reason


@post(f"{SCHEDULE}/pause", status_code=200, opt=_control("Pause a schedule", "Due times of the pause never run."))
async def pause_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    gateway, reason = gateway_of(request), await _reason(request)
    return json_answer(await gateway.schedules.pause(_id(schedule_id), reason, origin_of(request, gateway)))


@post(f"{SCHEDULE}/resume", status_code=200, opt=_control("Resume a schedule"))
async def resume_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    gateway, reason = gateway_of(request), await _reason(request)
    return json_answer(await gateway.schedules.resume(_id(schedule_id), reason, origin_of(request, gateway)))


@post(f"{SCHEDULE}/run", status_code=200, opt=_control("Run a schedule now", "Whatever else of it runs."))
async def run_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    await _reason(request)
    return json_answer(await gateway.schedules.trigger(_id(schedule_id), origin_of(request, gateway)))


@post(
    f"{SCHEDULE}/backfill",
    status_code=200,
    opt=_control("Run a schedule for due times past", body=Backfill, examples=_BACKFILL),
)
async def backfill_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(Backfill).decode, await request.body())
    gateway = gateway_of(request)
    return json_answer(await gateway.schedules.backfill(_id(schedule_id), wish, origin_of(request, gateway)))


@delete(
    SCHEDULE,
    status_code=200,
    opt=documented(
        Doc(
            summary="Delete a schedule",
            tag=TAG,
            details="Open runs go on, and its history stays.",
            answers={200: Answered("Deleted", Changed)},
            errors=(400, 404, 503),
        )
    ),
)
async def delete_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.schedules.remove(_id(schedule_id), "", origin_of(request, gateway)))


@get(
    f"{SCHEDULE}/next",
    opt=documented(
        Doc(
            summary="When a schedule runs next",
            tag=TAG,
            query=PreviewQuery,
            answers={200: Answered("The next due times", Preview)},
            errors=(400, 404),
        )
    ),
)
async def preview_schedule(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    query = read_query(pairs_of(request), PreviewQuery)
    return json_answer(await gateway_of(request).schedules.preview(caller_in(request), _id(schedule_id), query.count))


@get(
    f"{SCHEDULE}/runs",
    opt=documented(
        Doc(
            summary="Runs of a schedule, newest first",
            tag=TAG,
            details="page (from 1), page_size (1 to 100).",
            answers={200: Answered("One page", RunList)},
            errors=(400, 404),
        )
    ),
)
async def list_schedule_runs(request: AnyRequest, schedule_id: FromPath[str]) -> ASGIApp:
    gateway, caller, name = gateway_of(request), caller_in(request), _id(schedule_id)
    await gateway.schedules.get(caller, name)
    page, size = _page(request, 20)
    query = TaskListQuery(limit=size, offset=(page - 1) * size)
    found = await gateway.reader.tasks(caller, query, {RUN_OF: name})
    body = RunList([_run(row) for row in found.rows], found.total_count, page, size)
    return json_answer(body, headers=gateway.lag.header())


def _run(row: Row) -> ScheduleRun:
    started, ended = row.started_at or row.created_at, row.completed_at
    return ScheduleRun(
        workflow_id=row.task_id,
        task_id=row.task_id,
        query=row.query,
        status=row.status,
        result=row.result or UNSET,
        error_message=row.error or UNSET,
        model_used=row.model_used or UNSET,
        provider=row.provider or UNSET,
        total_tokens=row.total_tokens,
        total_cost_usd=row.cost_usd,
        usage=usage_of(row),
        duration_ms=UNSET if ended is None else round((ended - started).total_seconds() * 1000),
        scheduled_for=row.context.get("scheduled_for", UNSET),
        triggered_at=row.created_at,
        started_at=row.started_at or UNSET,
        completed_at=ended or UNSET,
    )


HANDLERS: Final = [
    *(create_schedule, list_schedules, preview_any, get_schedule, update_schedule, delete_schedule),
    *(pause_schedule, resume_schedule, run_schedule, backfill_schedule, preview_schedule, list_schedule_runs),
]
