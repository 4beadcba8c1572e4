"""What the tenant used."""

from typing import Final

from litestar import get
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.queries import read_query
from services.gateway.routes.quotas import TAG
from services.gateway.usage import UsageQuery, UsageSeen

USAGE: Final = "/api/v1/usage"
_DAY: Final = {
    "total_tokens": 1200,
    "cost_usd": 0.5,
    "estimated_cost": 0.5,
    "attempts": 14,
    "tasks": 40,
    "completed": 39,
}
_SEEN: Final = {
    "tenant_id": "acme",
    "by": "day",
    "from": "2026-11-21T00:00:00Z",
    "to": "2026-11-22T00:00:00Z",
    "usage": [{"period": "2026-11-21", **_DAY}],
    "total": _DAY,
    "total_count": 1,
}


@get(
    USAGE,
    opt=documented(
        Doc(
            summary="What the tenant used: tokens, money, tasks",
            tag=TAG,
            details="By day (at most 92) or hour (at most 744) of UTC, every one of the range; or by session or key "
            "over days, the dearest first. From the ledger that is written with the ends of attempts, so it does not "
            "lag; tasks are counted in the read tables, which do.",
            query=UsageQuery,
            answers={200: Answered("Usage", UsageSeen, _SEEN)},
            errors=(400,),
        )
    ),
)
async def get_usage(request: AnyRequest) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), UsageQuery)
    return json_answer(await gateway.usage.read(caller_in(request), query), headers=gateway.lag.header())


HANDLERS: Final = [get_usage]
