"""Approvals: the list of those that wait, and decisions."""

from typing import Final

import msgspec
from litestar import get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.approvals import (
    EXAMPLE,
    ApprovalList,
    ApprovalSeen,
    ApprovalsQuery,
    Decided,
    Decision,
)
from services.gateway.context import AnyRequest, caller_in, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import read_query

APPROVALS: Final = "/api/v1/approvals"
TAG: Final = "Approvals"


@post(
    f"{APPROVALS}/decision",
    opt=documented(
        Doc(
            summary="Decide on an approval",
            tag=TAG,
            details="A denied task fails, and a denied step does what its definition says. Who decides is the caller.",
            body=Decision,
            examples={"yes": EXAMPLE},
            headers={"Idempotency-Key": "A repeat under the same key changes nothing and is answered like the first"},
            answers={200: Answered("Decided", Decided)},
            errors=(400, 403, 404, 409, 503),
        )
    ),
)
async def decide(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    decision = decoded(msgspec.json.Decoder(Decision).decode, await request.body())
    return json_answer(await gateway.approvals.decide(decision, origin_of(request, gateway)))


@get(
    APPROVALS,
    opt=documented(
        Doc(
            summary="List approvals, newest first",
            tag=TAG,
            query=ApprovalsQuery,
            answers={200: Answered("One page", ApprovalList)},
            errors=(400,),
        )
    ),
)
async def list_approvals(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), ApprovalsQuery)
    return json_answer(await gateway.approvals.page(caller_in(request), query), headers=gateway.lag.header())


@get(
    f"{APPROVALS}/{{approval_id:str}}",
    opt=documented(
        Doc(
            summary="An approval",
            tag=TAG,
            answers={200: Answered("The approval", ApprovalSeen)},
            errors=(400, 404),
        )
    ),
)
async def get_approval(request: AnyRequest, approval_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.approvals.find(caller_in(request), approval_id), headers=gateway.lag.header())


HANDLERS: Final = [decide, list_approvals, get_approval]
