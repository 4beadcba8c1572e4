"""What a tenant may use: read by the tenant, changed by the owner of the installation while the system runs.

This gateway holds a change at once; others, and the orchestrators, within two seconds: they look once a second.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType
from psycopg import OperationalError

from services.gateway.entities import Entities
from services.gateway.problems import BadRequest, Forbidden
from services.gateway.quotas import Quotas
from services.gateway.rate_windows import Plan
from services.gateway.readside import Views
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.throttle import USUAL_TIER, Plans
from taskloom import telemetry
from taskloom.domain.entities.commands import ClearLimits, SetLimits
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.limits import ENTITY, KIND, TenantLimits
from taskloom.domain.scheduling.overrides import Overrides
from taskloom.domain.scheduling.quotas import TOTAL, Quota, Scope, day_of, month_of
from taskloom.tenant_limits import LOOK_EVERY_S, LimitsBook
from taskloom.views.reading import TooSlow

_log = telemetry.get_logger(__name__)


class LimitsRows(Protocol):
    """Part of ``readside.Views``."""

    async def tenant_limits(self, since: str) -> list[tuple[str, str | None, bytes | None]]: ...


class LimitsFollower:
    """Keeps ``book`` as it is now."""

    def __init__(self, book: LimitsBook, views: LimitsRows) -> None:
        self.book = book
        self._views = views
        self._one_by_one = asyncio.Lock()

    async def refresh(self) -> None:
        """Raises OperationalError or TooSlow: PostgreSQL is away or slow."""
        async with self._one_by_one:  # an answer that was overtaken must not have the last word
            self.book.learn(await self._views.tenant_limits(self.book.since))

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks once a second until ``stopping``; while PostgreSQL is away what is known holds."""
        while not stopping.is_set():
            try:
                await self.refresh()
            except (OperationalError, TooSlow) as error:
                _log.debug("changed limits of tenants are not seen yet", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await stopping.wait()


class Spent(Struct, frozen=True):
    tokens: int
    cost_usd: float


class RatePlan(Struct, frozen=True):
    """Requests by each key, or user without one; null: without limit."""

    minute: int | None
    hour: int | None
    day: int | None


class QuotasSeen(Struct, frozen=True, kw_only=True):
    """``quota`` and ``rate_limits`` hold now; ``set``: what was changed, absent where the settings hold. ``used``: by
    day, month and in all. ``version`` counts the changes."""

    tenant_id: str
    tier: str
    rate_limits: RatePlan
    quota: Quota
    used: dict[str, Spent]
    set: Overrides | UnsetType = UNSET
    version: int = 0
    changed_at: datetime | UnsetType = UNSET
    changed_by: str | UnsetType = UNSET


class LimitsDesk:
    """``tiers``: plans of requests by name."""

    def __init__(
        self,
        entities: Entities,
        follower: LimitsFollower,
        quotas: Quotas,
        plans: Plans,
        views: Views,
        tiers: Mapping[str, Plan],
    ) -> None:
        self._entities = entities
        self._follower = follower
        self._quotas = quotas
        self._plans = plans
        self._views = views
        self._tiers = tiers

    async def refresh(self) -> None:
        """Raises OperationalError or TooSlow: PostgreSQL is away or slow."""
        await self._follower.refresh()

    def of(self, caller: Caller) -> tuple[str, Quota, RatePlan]:
        """Tier, what the tenant may use, and what the caller may send, as this gateway last heard."""
        plan, tenant = self._plans.plan_of(caller), caller.tenant_id
        return self._plans.tier_of(tenant), self._quotas.quota_of(tenant), _told(plan)

    async def get(self, caller: Caller) -> QuotasSeen:
        """As of now: this gateway looks before it answers."""
        tenant, now = caller.tenant_id, datetime.now(UTC)
        await self._follower.refresh()
        entity = await self._entities.find(KIND, caller, ENTITY)
        version = await self._views.entity_version(entity_id(KIND, tenant, ENTITY))
        uses = {use.period: Spent(use.tokens, use.cost_usd) for use in await self._views.used_by([Scope(tenant)], now)}
        plan = self._plans.of_tenant(tenant)
        periods = {"today": day_of(now), "this_month": month_of(now), "in_all": TOTAL}
        changed = entity.value if entity is not None and isinstance(entity.value, TenantLimits) else None
        return QuotasSeen(
            tenant_id=tenant,
            tier=self._plans.tier_of(tenant),
            rate_limits=_told(plan),
            quota=self._quotas.quota_of(tenant),
            used={name: uses.get(period, Spent(0, 0.0)) for name, period in periods.items()},
            set=self._follower.book.of(tenant) or UNSET,
            version=version,
            changed_at=UNSET if changed is None or entity is None else entity.changed_at,
            changed_by=UNSET if changed is None else changed.changed_by,
        )

    async def put(self, wish: Overrides, expected_version: int | None, origin: Origin) -> QuotasSeen:
        """
        Raises:
            Forbidden: the caller is not the installation's owner.
            BadRequest: there is no such tier.
            Conflict: it is at another version.
        """
        _check_owner(origin.caller)
        if wish.tier is not UNSET and wish.tier not in (USUAL_TIER, *self._tiers):
            known = ", ".join([USUAL_TIER, *self._tiers])
            raise BadRequest(f"there is no tier {wish.tier!r}; known are {known}", field="tier")
        await self._entities.change(ENTITY, SetLimits(wish, expected_version), origin)
        return await self.get(origin.caller)

    async def clear(self, reason: str, origin: Origin) -> QuotasSeen:
        """Raises as ``put``; nothing to clear is no fault."""
        _check_owner(origin.caller)
        await self._entities.change(ENTITY, ClearLimits(reason), origin)
        return await self.get(origin.caller)


def _told(plan: Plan) -> RatePlan:
    return RatePlan(plan.minute, plan.hour, plan.day)


def _check_owner(caller: Caller) -> None:
    if caller.role != "owner":
        raise Forbidden("only the role owner changes what tenants may use; it names the tenant in X-Tenant-Id")
