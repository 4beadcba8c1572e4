"""The calls about quotas and usage and what they answer, as values."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict

from msgspec import Struct, field

from taskloom.client.calls import Call, given

QUOTAS: Final = "/api/v1/quotas"
USAGE: Final = "/api/v1/usage"


class Spent(Struct, frozen=True):
    tokens: int = 0
    cost_usd: float = 0.0


class RateLimits(Struct, frozen=True):
    """Requests by each key, or user without one; None: without limit."""

    minute: int | None = None
    hour: int | None = None
    day: int | None = None


class SessionLimits(Struct, frozen=True):
    tokens: int | None = None
    cost_usd: float | None = None
    parallel: int | None = None


class Limits(Struct, frozen=True):
    """What a tenant may use now; None: without limit."""

    tokens_per_day: int | None = None
    cost_usd_per_day: float | None = None
    tokens_per_month: int | None = None
    cost_usd_per_month: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    parallel: int | None = None
    open_tasks: int | None = None
    session: SessionLimits = SessionLimits()


class Quotas(Struct, frozen=True, kw_only=True):
    """``set``: what was changed while the system ran, None where the settings hold. ``used``: today, this_month,
    in_all."""

    tenant_id: str
    tier: str
    rate_limits: RateLimits
    quota: Limits
    used: Mapping[str, Spent]
    set: dict[str, Any] | None = None
    version: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""


class UsageEntry(Struct, frozen=True, kw_only=True):
    """Of a period, a session or a key; ``tasks`` that ended are counted for the whole tenant alone."""

    total_tokens: int
    cost_usd: float
    attempts: int
    period: str = ""
    session_id: str = ""
    key_id: str = ""
    tasks: int | None = None
    completed: int | None = None

    @property
    def name(self) -> str:
        return self.period or self.session_id or self.key_id


class Usage(Struct, frozen=True, kw_only=True):
    tenant_id: str
    by: str
    since: datetime = field(name="from")
    until: datetime = field(name="to")
    usage: list[UsageEntry]
    total: UsageEntry
    total_count: int


class UsageChoice(TypedDict, total=False):
    """``since``: included, ``until``: not. ``limit``: 1 to 1,000 entries."""

    since: datetime
    until: datetime
    session_id: str
    key_id: str
    limit: int


def get_quotas(tenant_id: str = "") -> Call[Quotas]:
    """Of another tenant for owners alone, here and below."""
    return Call(Quotas, QUOTAS, headers=_of(tenant_id))


def put_quotas(wish: Mapping[str, Any], tenant_id: str = "", *, expected_version: int | None = None) -> Call[Quotas]:
    """``wish``: in place of what was set before; what it leaves out is as in the settings, None is without limit."""
    params = given(expected_version=expected_version)
    return Call(Quotas, QUOTAS, "PUT", params=params, headers=_of(tenant_id), body=dict(wish))


def clear_quotas(tenant_id: str = "", reason: str = "") -> Call[Quotas]:
    """The settings hold again."""
    return Call(Quotas, QUOTAS, "DELETE", params=given(reason=reason), headers=_of(tenant_id))


def usage(
    by: str = "day",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    session_id: str = "",
    key_id: str = "",
    limit: int = 100,
    tenant_id: str = "",
) -> Call[Usage]:
    """``by``: day, hour, session or key."""
    moments = {"from": "" if since is None else since.isoformat(), "to": "" if until is None else until.isoformat()}
    params = given(by=by, **moments, session_id=session_id, key_id=key_id, limit=limit)
    return Call(Usage, USAGE, params=params, headers=_of(tenant_id))


def _of(tenant_id: str) -> dict[str, str]:
    return {"X-Tenant-Id": tenant_id} if tenant_id else {}
