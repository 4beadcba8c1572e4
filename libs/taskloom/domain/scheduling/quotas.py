"""What tenants and sessions may use, what they have used, and whether they may start more.

What was used is counted from the ends of attempts, in the transaction that stores them (``usage_ledger``). An owner
knows its own ends at once and those of others as of its last look; what is unknown yet may not start.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from msgspec import Struct

EVERYBODY: Final = "*"
"""The name under which stands what holds for tenants that are not named."""

TOTAL: Final = ""
KEY_SCOPE: Final = "@key/"
KEPT_S: Final = 60.0
NEAR_FULL: Final = 0.9


class SessionQuota(Struct, frozen=True):
    """For each session of a tenant, over all its life; None: as much as it likes."""

    tokens: int | None = None
    cost_usd: float | None = None
    parallel: int | None = None


class Quota(Struct, frozen=True):
    """For a tenant. ``parallel``: attempts at once; ``open_tasks``: tasks that have not ended,
    above which none is taken."""

    tokens_per_day: int | None = None
    cost_usd_per_day: float | None = None
    tokens_per_month: int | None = None
    cost_usd_per_month: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    parallel: int | None = None
    open_tasks: int | None = None
    session: SessionQuota = SessionQuota()


class Scope(NamedTuple):
    """A tenant, or with ``session_id`` one of its sessions."""

    tenant_id: str
    session_id: str = ""


class Use(NamedTuple):
    """What a scope used in a period: a day ``2026-11-21``, a month ``2026-11``, an hour ``2026-11-21T15``, ``TOTAL``.

    In the ledger ``session_id`` may also be a key's, behind ``KEY_SCOPE``. ``attempts``: how many this sums."""

    tenant_id: str
    session_id: str
    period: str
    tokens: int
    cost_usd: float
    attempts: int = 0


class Exhausted(Struct, frozen=True):
    """A budget that is used up. ``until``: when its period ends; None: only a larger budget helps."""

    detail: str
    until: datetime | None = None


def day_of(at: datetime) -> str:
    return at.strftime("%Y-%m-%d")


def hour_of(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H")


def month_of(at: datetime) -> str:
    return at.strftime("%Y-%m")


def periods_of(at: datetime) -> tuple[str, str, str]:
    """The periods under way, in UTC."""
    return day_of(at), month_of(at), TOTAL


def uses_of(tenant_id: str, session_id: str, at: datetime, tokens: int, cost_usd: float, key_id: str = "") -> list[Use]:
    """Where the usage of an attempt that ended then counts: the tenant's periods and hour, its session, its key."""
    places = [("", period) for period in (*periods_of(at), hour_of(at))]
    places += [(scope, period) for scope in scopes_in_ledger(session_id, key_id) for period in (day_of(at), TOTAL)]
    return [Use(tenant_id, scope, period, tokens, cost_usd, 1) for scope, period in places]


def scopes_in_ledger(session_id: str, key_id: str) -> list[str]:
    """Names under which the ledger keeps a session and a key; no id of a session begins as those of keys do."""
    return [name for name in (session_id, f"{KEY_SCOPE}{key_id}" if key_id else "") if name]


def quota_of(quotas: Mapping[str, Quota], tenant_id: str) -> Quota | None:
    found = quotas.get(tenant_id)
    return quotas.get(EVERYBODY) if found is None else found


Limit = tuple[str, str, float | None, float | None]
"""A period's name and key, and the tokens and money that it has."""


def limits_of(quota: Quota, scope: Scope, at: datetime) -> list[Limit]:
    if scope.session_id:
        return [("in all", TOTAL, quota.session.tokens, quota.session.cost_usd)]
    return [
        ("today", day_of(at), quota.tokens_per_day, quota.cost_usd_per_day),
        ("this month", month_of(at), quota.tokens_per_month, quota.cost_usd_per_month),
        ("in all", TOTAL, quota.tokens, quota.cost_usd),
    ]


def is_budgeted(quota: Quota, scope: Scope) -> bool:
    """Whether tokens or money of the scope are limited."""
    limits = limits_of(quota, scope, datetime(2026, 1, 1, tzinfo=UTC))
    return any(tokens is not None or cost is not None for _, _, tokens, cost in limits)


def exhausted(quota: Quota, scope: Scope, used: Mapping[str, tuple[int, float]], at: datetime) -> Exhausted | None:
    """The budget of the scope that is used up, with ``used`` by period; the one that is open last, if several are."""
    who = f"session {scope.session_id}" if scope.session_id else f"tenant {scope.tenant_id}"
    found = None
    for name, period, tokens, cost in limits_of(quota, scope, at):
        spent_tokens, spent_cost = used.get(period, (0, 0.0))
        if tokens is not None and spent_tokens >= tokens:
            found = Exhausted(f"{who} has used {spent_tokens} of {tokens} tokens {name}", _end(period))
        if cost is not None and spent_cost >= cost:
            found = Exhausted(f"{who} has used {spent_cost:g} of {cost:g} USD {name}", _end(period))
    return found


class Ledger:
    """What is known of the usage of those who want to start tasks.

    ``unknown``: scopes that were asked about and have not been looked up. A scope nobody asks about for a minute is
    forgotten, so this is bounded by the scopes that are busy.
    """

    def __init__(self, quotas: Mapping[str, Quota]) -> None:
        self.quotas = quotas
        self.unknown: set[Scope] = set()
        self._used: dict[Scope, dict[str, tuple[int, float]]] = {}
        self._asked_at: dict[Scope, float] = {}

    def of(self, tenant_id: str) -> Quota | None:
        return quota_of(self.quotas, tenant_id)

    def session_of(self, tenant_id: str, session_id: str) -> str:
        """The session, where the tenant's sessions are limited; else "": no need to keep them apart."""
        quota = self.of(tenant_id)
        return session_id if quota is not None and quota.session != SessionQuota() else ""

    def shut(self, scope: Scope, at: float) -> Exhausted | None:
        """Why the scope may start nothing now, in Unix seconds; None: its budgets, if it has any, are open."""
        quota = self.of(scope.tenant_id)
        if quota is None or not is_budgeted(quota, scope):
            return None
        self._asked_at[scope] = at
        used = self._used.get(scope)
        if used is None:
            self.unknown.add(scope)
            return Exhausted("what was used so far is being looked up")
        return exhausted(quota, scope, used, datetime.fromtimestamp(at, UTC))

    def wanted(self, at: float) -> list[Scope]:
        """Scopes to look up; those not asked about lately are forgotten."""
        for scope in [scope for scope, asked in self._asked_at.items() if at - asked > KEPT_S]:
            del self._asked_at[scope]
            self._used.pop(scope, None)
        return list(self._asked_at)

    def learn(self, scopes: Iterable[Scope], uses: Iterable[Use]) -> None:
        """What the store says of these scopes."""
        for scope in scopes:
            self._used[scope] = {}
            self.unknown.discard(scope)
        for use in uses:
            scope = Scope(use.tenant_id, use.session_id)
            if scope in self._used:
                self._used[scope][use.period] = (use.tokens, use.cost_usd)

    def add(self, uses: Iterable[Use]) -> None:
        """What has just been stored here, on top of what is known."""
        for use in uses:
            used = self._used.get(Scope(use.tenant_id, use.session_id))
            if used is not None:
                tokens, cost = used.get(use.period, (0, 0.0))
                used[use.period] = (tokens + use.tokens, cost + use.cost_usd)


def _end(period: str) -> datetime | None:
    """When a period is over; None for ``TOTAL``."""
    if period == TOTAL:
        return None
    year, month, *day = (int(part) for part in period.split("-"))
    if day:
        return datetime(year, month, day[0], tzinfo=UTC) + timedelta(days=1)
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
