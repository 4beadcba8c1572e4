"""What the caller's tenant used, by time, session or key."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.problems import BadRequest
from services.gateway.queries import Limit1000, Offset, Time
from services.gateway.readside import Views
from services.gateway.security import Caller
from taskloom.domain.scheduling.quotas import day_of, hour_of
from taskloom.domain.values import Identifier
from taskloom.views.usage.query import By, Ended, Sum, UsageFilter

MOST_DAYS: Final = 92
MOST_HOURS: Final = 31 * 24
_USUAL: Final = {"day": timedelta(days=30), "hour": timedelta(hours=24), "session": timedelta(days=30)}


class UsageQuery(Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """``from`` and ``to`` are rounded to whole days or hours of UTC, ``to`` up."""

    by: Annotated[By, Meta(description="What each entry is of")] = "day"
    since: Annotated[Time | None, Meta(description="Begin; else 30 days, by hour 24 hours, before the end")] = None
    until: Annotated[Time | None, Meta(description="End; else now")] = None
    session_id: Annotated[Identifier | None, Meta(description="By day or hour: of this session alone, by day")] = None
    key_id: Annotated[Identifier | None, Meta(description="By day: of what was submitted with this key alone")] = None
    limit: Limit1000 = 100
    offset: Offset = 0


class UsageEntry(Struct, frozen=True, kw_only=True):
    """Of a ``period`` (a day, an hour), session or key. ``attempts``: those that used something and have ended;
    ``tasks`` and ``completed``: of the tenant's tasks, those that ended."""

    period: str | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    total_tokens: int
    cost_usd: float
    estimated_cost: float
    attempts: int
    tasks: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET


class UsageSeen(Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """``usage``: by time in order, every period of the range; sessions and keys the dearest first, ``total_count`` of
    them. ``total``: of the entries that are shown."""

    tenant_id: str
    by: str
    since: datetime
    until: datetime
    usage: list[UsageEntry]
    total: UsageEntry
    total_count: int


class Usage:
    def __init__(self, views: Views) -> None:
        self._views = views

    async def read(self, caller: Caller, query: UsageQuery) -> UsageSeen:
        """
        Raises:
            BadRequest: the range is empty or too long, or the parameters do not go together.
        """
        chosen = _chosen(query, datetime.now(UTC))
        tenant = caller.tenant_id
        if chosen.by in ("session", "key"):
            sums, count = await self._views.usage_by_scope(tenant, chosen)
            entries = [_entry(each, **{f"{chosen.by}_id": each.name}) for each in sums]
        else:
            found = {each.name: each for each in await self._views.usage_series(tenant, chosen)}
            ended = {} if chosen.scope else await self._views.usage_ended(tenant, chosen)
            entries = [_of_period(chosen, at, found, ended) for at in _periods(chosen)]
            count = len(entries)
        return UsageSeen(
            tenant_id=tenant,
            by=chosen.by,
            since=chosen.since,
            until=chosen.until,
            usage=entries,
            total=_total(entries),
            total_count=count,
        )


def _chosen(query: UsageQuery, now: datetime) -> UsageFilter:
    named = [name for name in ("session_id", "key_id") if getattr(query, name) is not None]
    if named and query.by != "day":
        raise BadRequest(f"{named[0]} narrows what is told by day; leave it out, or send by=day", field=named[0])
    if len(named) > 1:
        raise BadRequest("usage is kept of sessions and of keys, not of a session by key; send one", field="key_id")
    step, most = (timedelta(hours=1), MOST_HOURS) if query.by == "hour" else (timedelta(days=1), MOST_DAYS)
    until = _floor((query.until or now).astimezone(UTC) + step - timedelta(microseconds=1), step)
    since = _floor((query.since or until - _USUAL.get(query.by, _USUAL["day"])).astimezone(UTC), step)
    if since >= until:
        raise BadRequest("the range is empty: from has to be before to", field="from")
    if (until - since) / step > most:
        raise BadRequest(f"the range has {(until - since) // step} {query.by}s, {most} are allowed", field="from")
    return UsageFilter(query.by, since, until, query.session_id or "", query.key_id or "", query.limit, query.offset)


def _floor(at: datetime, step: timedelta) -> datetime:
    whole = at.replace(minute=0, second=0, microsecond=0)
    return whole if step == timedelta(hours=1) else whole.replace(hour=0)


def _periods(chosen: UsageFilter) -> list[datetime]:
    step = timedelta(hours=1) if chosen.by == "hour" else timedelta(days=1)
    return [chosen.since + number * step for number in range((chosen.until - chosen.since) // step)]


def _of_period(chosen: UsageFilter, at: datetime, found: dict[str, Sum], ended: dict[datetime, Ended]) -> UsageEntry:
    name = hour_of(at) if chosen.by == "hour" else day_of(at)
    of = ended.get(at, Ended(0, 0))
    tasks = {} if chosen.scope else {"tasks": of.ended, "completed": of.completed}
    return _entry(found.get(name, Sum(name, 0, 0.0, 0)), period=name, **tasks)


def _entry(each: Sum, **named: Any) -> UsageEntry:
    return UsageEntry(
        total_tokens=each.tokens,
        cost_usd=each.cost_usd,
        estimated_cost=each.cost_usd,
        attempts=each.attempts,
        **named,
    )


def _total(entries: list[UsageEntry]) -> UsageEntry:
    cost = sum(each.cost_usd for each in entries)
    known = [each for each in entries if each.tasks is not UNSET]
    counts = {name: sum(getattr(each, name) for each in known) for name in ("tasks", "completed")} if known else {}
    return UsageEntry(
        total_tokens=sum(each.total_tokens for each in entries),
        cost_usd=cost,
        estimated_cost=cost,
        attempts=sum(each.attempts for each in entries),
        **counts,
    )
