"""Which requests are counted, for whom and by which plan; refused ones do not reach a route."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import UNSET, structs

from services.gateway.addresses import address_of, networks_of
from services.gateway.paths import is_api
from services.gateway.rate_windows import Plan
from services.gateway.rates import RateLimiter
from services.gateway.security import Caller, caller_of
from taskloom.domain.scheduling.overrides import Overrides

UNLIMITED: Final = re.compile(
    r"/api/v1/(tasks/[^/]+(/stream|/timeline|/review)?|stream/.+|sessions/[^/]+(/history|/events)?"
    r"|schedules/[^/]+(/runs)?|agents(/.+)?|skills(/.+)?|models(/.+)?|auth/me|openapi\.json)|/tasks/[^/]+|/stream"
)
"""Reads that are not counted: those that clients poll, and streams."""


USUAL_TIER: Final = "default"
"""The plan of the settings, for tenants without a tier."""


class Route(NamedTuple):
    """A route with a plan of its own: requests to it are counted apart from all others."""

    name: str
    method: str
    path: re.Pattern[str]
    plan: Plan


class Plans:
    """Who may send how much: ``usual``, unless the key or user has a plan of its own; ``routes`` by ``METHOD /path``.

    A route with a plan of its own has it for every caller, counted for each apart. ``of_addresses``: public routes, on
    which callers are told apart by address alone; a plan of the same name in ``routes`` goes before.
    """

    def __init__(
        self,
        usual: Plan,
        of_callers: Mapping[str, Plan] | None = None,
        routes: Mapping[str, Plan] | None = None,
        *,
        of_addresses: Mapping[str, Plan] | None = None,
        tiers: Mapping[str, Plan] | None = None,
    ):
        self._usual = usual
        self.tiers = tiers or {}
        self._overrides: Callable[[str], Overrides | None] = lambda _tenant_id: None
        self._of_callers = of_callers or {}
        self._routes = [_route(name, plan) for name, plan in (routes or {}).items()]
        self._of_addresses = {name: (routes or {}).get(name, plan) for name, plan in (of_addresses or {}).items()}

    @property
    def any(self) -> bool:
        """False: nothing is limited, and nothing is counted."""
        every = [self._usual, *self._of_callers.values(), *self._of_addresses.values()]
        every += [route.plan for route in self._routes]
        return any(plan.limits for plan in every)

    def follow(self, overrides: Callable[[str], Overrides | None]) -> None:
        """``overrides`` says from now on what was changed for a tenant."""
        self._overrides = overrides

    def plan_of(self, caller: Caller) -> Plan:
        """By the id of its key, or by its user where it has none; else that of its tenant."""
        own = self._of_callers.get(_name(caller))
        return self.of_tenant(caller.tenant_id) if own is None else own

    def of_tenant(self, tenant_id: str) -> Plan:
        """What each key and user of a tenant may send that has no plan of its own."""
        overrides = self._overrides(tenant_id)
        if overrides is None:
            return self._usual
        changed = {name: each for name, each in structs.asdict(overrides.rate).items() if each is not UNSET}
        return structs.replace(self.tiers.get(self.tier_of(tenant_id), self._usual), **changed)

    def tier_of(self, tenant_id: str) -> str:
        """The name of the tenant's plan; one that the settings do not know any more is the usual one."""
        overrides = self._overrides(tenant_id)
        tier = UNSET if overrides is None else overrides.tier
        return USUAL_TIER if tier is UNSET or tier not in self.tiers else tier

    def of(self, caller: Caller, method: str, path: str) -> tuple[str, Plan]:
        """What to count a request under, and by which plan; a plan without limits means: not at all."""
        who = f"{caller.tenant_id}/{_name(caller)}"
        for route in self._routes:
            if route.method == method and route.path.fullmatch(path):
                return f"{who} {route.name}", route.plan
        if not is_api(path) or (method in ("GET", "HEAD") and UNLIMITED.fullmatch(path)):
            return who, Plan()
        return who, self.plan_of(caller)

    def of_address(self, address: str, method: str, path: str) -> tuple[str, Plan]:
        """As ``of``, for a request on a public route."""
        name = f"{method} {path}"
        return f"@{address} {name}", self._of_addresses.get(name, Plan())


class Throttle:
    """Wraps the routes; ``limiter`` None: nothing is counted. ``proxies``: whose word on addresses is taken."""

    def __init__(self, app: ASGIApp, plans: Plans, limiter: RateLimiter | None, proxies: str = "") -> None:
        self._app = app
        self._plans = plans
        self._limiter = limiter
        self._proxies = networks_of(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._limiter is None or scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        caller = caller_at(scope)
        if caller.tenant_id:
            subject, plan = self._plans.of(caller, scope["method"], scope["path"])
        else:
            subject, plan = self._plans.of_address(address_of(scope, self._proxies), scope["method"], scope["path"])
        if not plan.limits:
            return await self._app(scope, receive, send)
        passed = await self._limiter.take(subject, plan)
        if not passed.headers:
            return await self._app(scope, receive, send)
        headers = [(name.lower().encode(), value.encode()) for name, value in passed.headers.items()]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        return await self._app(scope, receive, send_with_headers)


def caller_at(scope: Any) -> Caller:
    """Who asks: as the layer before found out, or as the headers say.

    Raises:
        BadRequest: a header is no id.
    """
    known = scope.get("state", {}).get("caller")
    if isinstance(known, Caller):
        return known
    return caller_of({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})


def _name(caller: Caller) -> str:
    return str(getattr(caller, "key_id", "")) or caller.user_id


def _route(name: str, plan: Plan) -> Route:
    method, _, path = name.strip().partition(" ")
    pattern = re.sub(r"\\\{[^/]*?\\\}", "[^/]+", re.escape(path.strip()))
    return Route(f"{method.upper()} {path.strip()}", method.upper(), re.compile(pattern), plan)
