"""Schedules as people see them: Shannon's fields, and beside them timing, overlap and catch-up."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
import uuid_utils
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from services.gateway.entities import Entities
from services.gateway.problems import BadRequest, Conflict, NotFound, TooMany
from services.gateway.security import Caller
from services.gateway.submission import Origin
from taskloom.domain.entities.commands import (
    BackfillSchedule,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    SaveSchedule,
    ScheduleSpec,
    TriggerSchedule,
)
from taskloom.domain.entities.due import BadTiming, Timing, begins, check, preview
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.schedules import Schedule
from taskloom.domain.runs import is_run
from taskloom.domain.task.modes import kind_in
from taskloom.domain.values import Identifier, UtcTime
from taskloom.wire.messages import Reply

KIND: Final = "schedule"
RUN_OF: Final = "schedule_id"
"""Metadata of a run: the schedule it belongs to."""

DEFAULT_TIMEOUT_S: Final = 3600.0
MOST_TRIES: Final = 3
"""Changes that lost a race against another one are applied anew so often."""

Overlap = Literal["skip", "buffer_one", "allow", "cancel_other"]
CatchUp = Literal["none", "last", "all", "window"]
Positive = Annotated[float, Meta(gt=0)]


class _Fields(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Exactly one of ``cron_expression`` (five fields), ``interval_s`` and ``at``. ``task``: fields of a submission;
    ``task_query``, ``task_context``, ``max_budget_per_run_usd`` and ``timeout_seconds`` go over them."""

    description: Annotated[str, Meta(max_length=4096)] | UnsetType = UNSET
    cron_expression: str | UnsetType = UNSET
    interval_s: Annotated[float, Meta(ge=1, le=366 * 86_400)] | UnsetType = UNSET
    at: UtcTime | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    start_at: UtcTime | UnsetType | None = UNSET
    end_at: UtcTime | UnsetType | None = UNSET
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] | UnsetType = UNSET
    task_query: str | UnsetType = UNSET
    task_context: dict[str, Any] | UnsetType = UNSET
    task: dict[str, Any] | UnsetType = UNSET
    max_budget_per_run_usd: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    timeout_seconds: Positive | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    catch_up: CatchUp | UnsetType = UNSET
    catch_up_window_s: Annotated[float, Meta(gt=0, le=366 * 86_400)] | UnsetType = UNSET


class CreateSchedule(_Fields, frozen=True, kw_only=True):
    """``schedule_id``: made when it is left out."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    schedule_id: Identifier | None = None


class UpdateSchedule(_Fields, frozen=True, kw_only=True):
    """What is absent stays. ``clear_task_context`` empties it."""

    name: Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType = UNSET
    clear_task_context: bool = False


class Reasoned(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=4096)] = ""


class Backfill(Struct, frozen=True, forbid_unknown_fields=True):
    """Due times from ``start`` until before ``end``; at most 100."""

    start: UtcTime
    end: UtcTime


class Created(Struct, frozen=True):
    schedule_id: str
    message: str
    next_run_at: str | None


class Changed(Struct, frozen=True, omit_defaults=True):
    success: bool
    message: str
    next_run_at: str | None = None


class ScheduleSeen(Struct, frozen=True, kw_only=True):
    """``next_run_at`` is absent while it is paused or when nothing is due any more."""

    schedule_id: str
    name: str
    description: str
    user_id: str
    status: str
    cron_expression: str
    interval_s: float | UnsetType = UNSET
    at: datetime | UnsetType = UNSET
    timezone: str
    start_at: datetime | UnsetType = UNSET
    end_at: datetime | UnsetType = UNSET
    jitter_s: float
    task_query: str
    task_context: dict[str, str]
    task: dict[str, Any]
    max_budget_per_run_usd: float
    timeout_seconds: float
    overlap: str
    catch_up: str
    catch_up_window_s: float
    created_at: datetime
    updated_at: datetime
    last_run_at: datetime | UnsetType = UNSET
    next_run_at: datetime | UnsetType = UNSET
    paused_at: datetime | UnsetType = UNSET
    pause_reason: str | UnsetType = UNSET
    total_runs: int
    successful_runs: int
    failed_runs: int
    skipped_runs: int
    open_runs: list[str]


class ScheduleList(Struct, frozen=True):
    """Newest first."""

    schedules: list[ScheduleSeen]
    total_count: int
    page: int
    page_size: int


class Preview(Struct, frozen=True):
    """``due`` are the next due times, ``begins`` when each run begins: the jitter is in it."""

    due: list[datetime]
    begins: list[datetime]


class Schedules:
    """All of a tenant's schedules. ``at_most``: how many a tenant may have."""

    def __init__(self, entities: Entities, *, at_most: int) -> None:
        self._entities = entities
        self._at_most = at_most

    async def create(self, wish: CreateSchedule, origin: Origin) -> Created:
        """
        Raises:
            BadRequest: names the field.
            Conflict: its id is taken.
            TooMany: the tenant has as many as it may have.
        """
        _, total = await self._entities.page(KIND, origin.caller, after="", limit=1)
        if total >= self._at_most:
            raise TooMany(f"there are {total} schedules, {self._at_most} are allowed; remove one", retry_after_s=60)
        name = wish.schedule_id or _new_id(origin)
        spec = _merged(ScheduleSpec(wish.name, Timing(), {}), wish)
        reply = await self._entities.change(name, SaveSchedule(spec), origin)
        return Created(name, "Schedule created", reply.data.get("next_run_at"))

    async def update(self, name: str, wish: UpdateSchedule, origin: Origin) -> Changed:
        """Raises as ``create``, and NotFound. Two changes at once are applied one after the other."""
        for left in reversed(range(MOST_TRIES)):
            entity, schedule = await self.get(origin.caller, name)
            spec = _merged(schedule.spec, wish)
            command = SaveSchedule(spec, new=False, expected_version=entity.version)
            try:
                reply = await self._entities.change(name, command, origin)
            except Conflict as conflict:
                if conflict.field != "expected_version" or not left:
                    raise
                continue
            return _changed("Schedule updated", reply)
        raise AssertionError

    async def pause(self, name: str, reason: str, origin: Origin) -> Changed:
        """A repeat changes nothing. Raises NotFound."""
        await self._entities.change(name, PauseSchedule(reason), origin)
        return Changed(True, "Schedule paused")

    async def resume(self, name: str, reason: str, origin: Origin) -> Changed:
        """A repeat changes nothing. Raises NotFound."""
        return _changed("Schedule resumed", await self._entities.change(name, ResumeSchedule(reason), origin))

    async def remove(self, name: str, reason: str, origin: Origin) -> Changed:
        """Raises NotFound, also the second time."""
        await self._entities.change(name, RemoveSchedule(reason), origin)
        return Changed(True, "Schedule deleted")

    async def trigger(self, name: str, origin: Origin) -> Changed:
        """One run now. Raises NotFound."""
        return _changed("Run triggered", await self._entities.change(name, TriggerSchedule(), origin))

    async def backfill(self, name: str, wish: Backfill, origin: Origin) -> Changed:
        """Raises BadRequest, NotFound."""
        reply = await self._entities.change(name, BackfillSchedule(wish.start, wish.end), origin)
        return _changed("Runs triggered", reply)

    async def get(self, caller: Caller, name: str) -> tuple[Entity, Schedule]:
        """Raises NotFound: unknown, removed, or another tenant's."""
        entity = await self._entities.find(KIND, caller, name)
        if entity is None or not isinstance(entity.value, Schedule):
            raise NotFound("Schedule not found", schedule_id=name)
        return entity, entity.value

    async def page(self, caller: Caller, page: int, page_size: int, status: str) -> ScheduleList:
        found, _ = await self._entities.page(KIND, caller, after="", limit=self._at_most)
        seen = [seen_of(entity, entity.value) for entity in found if isinstance(entity.value, Schedule)]
        wanted = [each for each in seen if status in ("ALL", each.status)]
        wanted.sort(key=lambda each: (each.created_at, each.schedule_id), reverse=True)
        start = (page - 1) * page_size
        return ScheduleList(wanted[start : start + page_size], len(wanted), page, page_size)

    async def preview(self, caller: Caller, name: str, count: int) -> Preview:
        """Raises NotFound."""
        _, schedule = await self.get(caller, name)
        return preview_of(schedule.spec.timing, name, count)


def preview_of(timing: Timing, name: str, count: int) -> Preview:
    """
    Raises:
        BadRequest: names the field of the timing.
    """
    try:
        check(timing)
    except BadTiming as bad:
        raise BadRequest(bad.message, field=bad.field) from bad
    due = preview(timing, datetime.now(UTC), count)
    return Preview(due, [begins(timing, name, each) for each in due])


def seen_of(entity: Entity, schedule: Schedule) -> ScheduleSeen:
    spec, timing = schedule.spec, schedule.spec.timing
    paused = schedule.paused_at is not None
    return ScheduleSeen(
        schedule_id=parts_of(entity.entity_id).name,
        name=spec.name,
        description=spec.description,
        user_id=schedule.saved_by,
        status="PAUSED" if paused else "ACTIVE",
        cron_expression=timing.cron_expression,
        interval_s=UNSET if timing.interval_s is None else timing.interval_s,
        at=timing.at or UNSET,
        timezone=timing.timezone,
        start_at=timing.start_at or UNSET,
        end_at=timing.end_at or UNSET,
        jitter_s=timing.jitter_s,
        task_query=spec.task.get("query", ""),
        task_context={name: _text(value) for name, value in (spec.task.get("context") or {}).items()},
        task=spec.task,
        max_budget_per_run_usd=(spec.task.get("budget") or {}).get("cost_usd") or 0.0,
        timeout_seconds=(spec.task.get("timeouts") or {}).get("start_to_close_s", DEFAULT_TIMEOUT_S),
        overlap=spec.overlap,
        catch_up=spec.catch_up,
        catch_up_window_s=spec.catch_up_window_s,
        created_at=entity.created_at,
        updated_at=entity.changed_at,
        last_run_at=schedule.last_run_at or UNSET,
        next_run_at=UNSET if paused or schedule.next_at is None else schedule.next_at,
        paused_at=schedule.paused_at or UNSET,
        pause_reason=schedule.pause_reason if paused else UNSET,
        total_runs=schedule.total_runs,
        successful_runs=schedule.successful_runs,
        failed_runs=schedule.failed_runs,
        skipped_runs=schedule.skipped_runs,
        open_runs=list(schedule.open_runs),
    )


def _merged(spec: ScheduleSpec, wish: CreateSchedule | UpdateSchedule) -> ScheduleSpec:
    given = {name: value for name, value in structs.asdict(wish).items() if value is not UNSET}
    own = ("name", "description", "overlap", "catch_up", "catch_up_window_s")
    changes: dict[str, Any] = {name: given[name] for name in own if name in given}
    return structs.replace(spec, timing=_timing(spec.timing, given), task=_task(spec.task, given), **changes)


_WHEN: Final = ("cron_expression", "interval_s", "at")


def _timing(timing: Timing, given: dict[str, Any]) -> Timing:
    """Another way of saying when takes the place of the one before."""
    if any(name in given for name in _WHEN):
        timing = structs.replace(timing, cron_expression="", interval_s=None, at=None, anchor=None)
    names = (*_WHEN, "timezone", "start_at", "end_at", "jitter_s")
    return structs.replace(timing, **{name: given[name] for name in names if name in given})


def _task(task: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    task = dict(given.get("task", task))
    if "task_query" in given:
        task["query"] = given["task_query"]
    if "task_context" in given:
        task["context"] = given["task_context"]
    if given.get("clear_task_context"):
        task.pop("context", None)
    if "max_budget_per_run_usd" in given:
        task["budget"] = {**(task.get("budget") or {}), "cost_usd": given["max_budget_per_run_usd"]}
    timeouts = dict(task.get("timeouts") or {})
    timeouts.setdefault("start_to_close_s", DEFAULT_TIMEOUT_S)
    if "timeout_seconds" in given:
        timeouts["start_to_close_s"] = given["timeout_seconds"]
    return task if is_run(kind_in(task)) else {**task, "timeouts": timeouts}


def _new_id(origin: Origin) -> str:
    """A UUID; a repeat under the same Idempotency-Key gets the same."""
    if not origin.key:
        return str(uuid_utils.uuid4())
    whose = f"{origin.caller.tenant_id}/{origin.caller.user_id}/{origin.key}"
    return str(UUID(hashlib.sha256(whose.encode()).hexdigest()[:32], version=4))


def _changed(message: str, reply: Reply) -> Changed:
    return Changed(True, message, reply.data.get("next_run_at"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
