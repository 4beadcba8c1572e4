"""Submissions of tenants and sessions that have used up what they may are refused here, before anything is stored.

What comes by Kafka, from schedules or as steps is not seen here: the orchestrator holds it before dispatch. So this may
be a second old: nothing is spent that should not be.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from psycopg import OperationalError

from services.gateway.problems import TooMany
from taskloom import telemetry
from taskloom.domain.scheduling.quotas import Quota, Scope, SessionQuota, Use, exhausted, is_budgeted, quota_of
from taskloom.tenant_limits import LimitsBook
from taskloom.views.reading import TooSlow

FRESH_S: Final = 1.0
KEPT: Final = 10_000
"""Tenants and sessions whose usage is remembered; the one not asked for longest goes first."""

_OPEN_STATUSES: Final = ("QUEUED", "RUNNING", "PAUSED")
_LONGEST_PAUSE_S: Final = 3600

_refused = telemetry.counter("gateway_quota_refused", "Submissions refused by a quota", ["code"])
_log = telemetry.get_logger(__name__)

Used = Mapping[str, tuple[int, float]]


class UsageViews(Protocol):
    """Part of ``readside.Views``."""

    async def used_by(self, scopes: Sequence[Scope], at: datetime) -> list[Use]: ...

    async def count_by_status(self, tenant_id: str) -> dict[str, int]: ...


class Quotas:
    """``book``: what holds now; without any quota nothing is looked up."""

    def __init__(self, book: LimitsBook, views: UsageViews) -> None:
        self._book = book
        self._views = views
        self._used: OrderedDict[Scope, tuple[float, Used]] = OrderedDict()
        self._open: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def check(self, tenant_id: str, session_id: str) -> None:
        """Counts one submission. While PostgreSQL does not answer it passes: the orchestrator holds what may not run.

        Raises:
            TooMany: the tenant has as many open tasks as it may, or a budget is used up; ``code`` says which.
        """
        quota = quota_of(self._book.quotas, tenant_id) if self._book.quotas else None
        if quota is None:
            return
        now = datetime.now(UTC)
        try:
            if quota.open_tasks is not None:
                await self._check_open(tenant_id, quota.open_tasks)
            scopes = [Scope(tenant_id), *([Scope(tenant_id, session_id)] if session_id else [])]
            for scope in scopes:
                if is_budgeted(quota, scope):
                    await self._check_budget(quota, scope, now)
        except (OperationalError, TooSlow) as error:
            _log.warning("quotas were not looked at", reason=str(error))

    def quota_of(self, tenant_id: str) -> Quota:
        """What the tenant may use."""
        return quota_of(self._book.quotas, tenant_id) or Quota(session=SessionQuota())

    async def _check_open(self, tenant_id: str, most: int) -> None:
        seen = self._open.get(tenant_id)
        if seen is None or time.monotonic() - seen[0] > FRESH_S:
            counts = await self._views.count_by_status(tenant_id)
            seen = (time.monotonic(), sum(counts.get(status, 0) for status in _OPEN_STATUSES))
        if seen[1] >= most:
            raise _refusal("QUOTA_EXCEEDED", f"tenant {tenant_id} has {seen[1]} open tasks, {most} are allowed", 1)
        self._open[tenant_id] = (seen[0], seen[1] + 1)
        self._open.move_to_end(tenant_id)
        if len(self._open) > KEPT:
            self._open.popitem(last=False)

    async def _check_budget(self, quota: Quota, scope: Scope, now: datetime) -> None:
        spent = exhausted(quota, scope, await self._used_by(scope, now), now)
        if spent is not None:
            left_s = _LONGEST_PAUSE_S if spent.until is None else (spent.until - now).total_seconds()
            raise _refusal("BUDGET_EXCEEDED", spent.detail, max(1, min(_LONGEST_PAUSE_S, round(left_s))))

    async def _used_by(self, scope: Scope, now: datetime) -> Used:
        seen = self._used.get(scope)
        if seen is None or time.monotonic() - seen[0] > FRESH_S:
            uses = await self._views.used_by([scope], now)
            seen = (time.monotonic(), {use.period: (use.tokens, use.cost_usd) for use in uses})
            self._used[scope] = seen
        self._used.move_to_end(scope)
        if len(self._used) > KEPT:
            self._used.popitem(last=False)
        return seen[1]


def _refusal(code: str, detail: str, retry_after_s: int) -> TooMany:
    _refused.labels(code).inc()
    return TooMany(detail, retry_after_s=retry_after_s, code=code, message=detail)
