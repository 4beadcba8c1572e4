"""The calls about schedules and what they answer, as values."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict
from urllib.parse import quote

from msgspec import Struct

from taskloom.client.calls import Call

SCHEDULES: Final = "/api/v1/schedules"


class ScheduleChanges(TypedDict, total=False):
    """Exactly one of ``cron_expression``, ``interval_s`` and ``at``. Times are RFC 3339 texts. ``task`` holds fields of
    a submission; ``task_query`` and ``task_context`` go over them."""

    name: str
    description: str
    cron_expression: str
    interval_s: float
    at: str
    timezone: str
    start_at: str | None
    end_at: str | None
    jitter_s: float
    task: Mapping[str, Any]
    task_query: str
    task_context: Mapping[str, Any]
    max_budget_per_run_usd: float
    timeout_seconds: float
    overlap: str
    catch_up: str
    catch_up_window_s: float
    clear_task_context: bool


class ScheduleWish(ScheduleChanges, total=False):
    """``schedule_id``: made by the server when it is left out."""

    schedule_id: str


class CreatedSchedule(Struct, frozen=True):
    schedule_id: str
    message: str = ""
    next_run_at: datetime | None = None


class ChangedSchedule(Struct, frozen=True):
    success: bool
    message: str = ""
    next_run_at: datetime | None = None


class Schedule(Struct, frozen=True, kw_only=True):
    """``status``: ACTIVE or PAUSED. ``open_runs`` are task ids."""

    schedule_id: str
    name: str
    description: str = ""
    user_id: str = ""
    status: str
    cron_expression: str = ""
    interval_s: float | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter_s: float = 0.0
    task: dict[str, Any] = {}
    overlap: str
    catch_up: str
    created_at: datetime
    updated_at: datetime
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    paused_at: datetime | None = None
    pause_reason: str = ""
    total_runs: int = 0
    successful_runs: int = 0
    failed_runs: int = 0
    skipped_runs: int = 0
    open_runs: tuple[str, ...] = ()


class SchedulePage(Struct, frozen=True):
    schedules: list[Schedule]
    total_count: int


class ScheduleRun(Struct, frozen=True, kw_only=True):
    task_id: str
    status: str
    scheduled_for: datetime | None = None
    triggered_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None
    error_message: str = ""


class ScheduleRuns(Struct, frozen=True):
    runs: list[ScheduleRun]
    total_count: int


class Preview(Struct, frozen=True):
    """``begins`` is ``due`` with the jitter in it."""

    due: list[datetime]
    begins: list[datetime]


def of(schedule_id: str, part: str = "") -> str:
    return f"{SCHEDULES}/{quote(schedule_id, safe='')}" + (f"/{part}" if part else "")


def create(wish: ScheduleWish, *, idempotency_key: str = "") -> Call[CreatedSchedule]:
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    return Call(CreatedSchedule, SCHEDULES, "POST", headers=headers, body=wish)


def list_schedules(page: int = 1, page_size: int = 50, status: str = "ALL") -> Call[SchedulePage]:
    return Call(SchedulePage, SCHEDULES, params={"page": page, "page_size": page_size, "status": status})


def get(schedule_id: str) -> Call[Schedule]:
    return Call(Schedule, of(schedule_id))


def update(schedule_id: str, wish: ScheduleChanges) -> Call[ChangedSchedule]:
    return Call(ChangedSchedule, of(schedule_id), "PUT", body=wish)


def control(schedule_id: str, verb: str, reason: str = "") -> Call[ChangedSchedule]:
    """``verb``: pause, resume or run."""
    return Call(ChangedSchedule, of(schedule_id, verb), "POST", body={"reason": reason})


def backfill(schedule_id: str, start: str, end: str) -> Call[ChangedSchedule]:
    return Call(ChangedSchedule, of(schedule_id, "backfill"), "POST", body={"start": start, "end": end})


def remove(schedule_id: str) -> Call[ChangedSchedule]:
    return Call(ChangedSchedule, of(schedule_id), "DELETE")


def runs(schedule_id: str, page: int = 1, page_size: int = 20) -> Call[ScheduleRuns]:
    return Call(ScheduleRuns, of(schedule_id, "runs"), params={"page": page, "page_size": page_size})


def upcoming(schedule_id: str, count: int = 5) -> Call[Preview]:
    return Call(Preview, of(schedule_id, "next"), params={"count": count})


def preview(cron_expression: str, timezone: str = "UTC", count: int = 5) -> Call[Preview]:
    params: dict[str, str | int] = {"cron_expression": cron_expression, "timezone": timezone, "count": count}
    return Call(Preview, f"{SCHEDULES}/preview", params=params)
