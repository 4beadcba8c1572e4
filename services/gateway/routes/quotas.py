"""What a tenant may use, and changing it while the system runs."""

from typing import Annotated, Final

import msgspec
from litestar import delete, get, put
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import read_query
from services.gateway.routes.auth import RevokeQuery
from services.gateway.tenant_limits import QuotasSeen
from taskloom.domain.scheduling.overrides import Overrides

QUOTAS: Final = "/api/v1/quotas"
TAG: Final = "Quotas and usage"
_SEEN: Final = {
    "tenant_id": "acme",
    "tier": "pro",
    "rate_limits": {"minute": 200, "hour": 5000, "day": 50000},
    "quota": {"tokens_per_day": 100000, "parallel": 20},
    "used": {name: {"tokens": 1200, "cost_usd": 0.5} for name in ("today", "this_month", "in_all")},
    "set": {"tokens_per_day": 100000, "tier": "pro"},
    "version": 1,
    "changed_by": "root",
}


class ChangeQuery(Struct, frozen=True):
    expected_version: (
        Annotated[int, Meta(ge=0, description="Refused with 409 when the limits are at another version")] | None
    ) = None


@get(
    QUOTAS,
    opt=documented(
        Doc(
            summary="What the tenant may use, and has used",
            tag=TAG,
            answers={200: Answered("Limits and usage", QuotasSeen, _SEEN)},
        )
    ),
)
async def get_quotas(request: AnyRequest) -> ASGIApp:
    return json_answer(await gateway_of(request).limits_desk.get(caller_in(request)))


@put(
    QUOTAS,
    opt=documented(
        Doc(
            summary="Change what a tenant may use",
            tag=TAG,
            details="For the role owner; X-Tenant-Id names the tenant. The body takes the place of what was set "
            "before: a field that is left out is as in the settings, null is without limit. It holds here at once, on "
            "other gateways and the orchestrators within 2 s.",
            query=ChangeQuery,
            body=Overrides,
            examples={
                "a larger plan": {"tier": "pro", "tokens_per_day": 100000, "parallel": 20},
                "no limit of tokens": {"tokens_per_day": None, "session": {"tokens": None}},
            },
            answers={200: Answered("Changed", QuotasSeen, _SEEN)},
            errors=(400, 403, 409, 503),
        )
    ),
)
async def put_quotas(request: AnyRequest) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), ChangeQuery)
    wish = decoded(msgspec.json.Decoder(Overrides).decode, await request.body())
    return json_answer(await gateway.limits_desk.put(wish, query.expected_version, origin_of(request, gateway)))


@delete(
    QUOTAS,
    status_code=200,
    opt=documented(
        Doc(
            summary="Let the settings hold for a tenant again",
            tag=TAG,
            details="For the role owner, as PUT.",
            query=RevokeQuery,
            answers={200: Answered("What holds now", QuotasSeen, _SEEN)},
            errors=(400, 403, 503),
        )
    ),
)
async def clear_quotas(request: AnyRequest) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), RevokeQuery)
    return json_answer(await gateway.limits_desk.clear(query.reason, origin_of(request, gateway)))


HANDLERS: Final = [get_quotas, put_quotas, clear_quotas]
