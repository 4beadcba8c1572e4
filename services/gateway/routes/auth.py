"""Who one is, and API keys."""

from typing import Annotated, Final

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.keys import KeyIssuedOnce, KeyList, KeyRefreshed, KeyRevocation, KeySeen, NewApiKey
from services.gateway.problems import NotOffered, decoded
from services.gateway.queries import Limit100, read_query
from services.gateway.tenant_limits import RatePlan
from taskloom.domain.scheduling.quotas import Quota

AUTH: Final = "/api/v1/auth"
API_KEYS: Final = f"{AUTH}/api-keys"
TAG: Final = "Access"
NEVER_KEPT: Final = [("Cache-Control", "no-store")]


class KeysQuery(Struct, frozen=True):
    after: Annotated[str, Meta(max_length=128, description="Ids that come after this one; next_cursor of a page")] = ""
    limit: Limit100 = 100


class RevokeQuery(Struct, frozen=True):
    reason: Annotated[str, Meta(max_length=4096, description="Kept in its history")] = ""


class Me(Struct, frozen=True):
    """``authenticated_by``: open, key or token. ``quotas``: what the tenant may use; ``rate_limits``: what the
    caller may send by minute, hour and day, absent without limit."""

    user_id: str
    tenant_id: str
    username: str
    email: str
    role: str
    scopes: list[str]
    authenticated_by: str
    key_id: str
    tier: str
    quotas: Quota
    rate_limits: RatePlan


class TokenMade(Struct, frozen=True):
    """``expires_in``: seconds."""

    access_token: str
    token_type: str
    expires_in: int


@get(
    f"{AUTH}/me",
    opt=documented(Doc(summary="Who one is, and what one may do", tag=TAG, answers={200: Answered("The caller", Me)})),
)
async def get_me(request: AnyRequest) -> ASGIApp:
    caller = caller_in(request)
    me = Me(
        caller.user_id,
        caller.tenant_id,
        caller.username,
        caller.email,
        caller.role,
        sorted(caller.scopes),
        caller.by,
        caller.key_id,
        *gateway_of(request).limits_desk.of(caller),
    )
    return json_answer(me)


@post(
    f"{AUTH}/token",
    opt=documented(
        Doc(
            summary="Get a token with one's own rights",
            tag=TAG,
            details="A JSON Web Token, for places where a key should not go, such as the query string of a stream. It "
            "ends with the key that asked for it.",
            answers={200: Answered("The token", TokenMade)},
            errors=(501,),
        )
    ),
)
async def make_token(request: AnyRequest) -> ASGIApp:
    tokens = gateway_of(request).gatekeeper.tokens
    if tokens is None or not tokens.makes:
        raise NotOffered("this installation has no tokens; an operator can set TASKLOOM_JWT_SECRET")
    made = TokenMade(tokens.make(caller_in(request)), "Bearer", int(tokens.lifetime_s))
    return json_answer(made, headers=NEVER_KEPT)


@get(
    API_KEYS,
    opt=documented(
        Doc(
            summary="List API keys, by id",
            tag=TAG,
            details="Of the tenant for admins, else one's own. Revoked ones are not listed.",
            query=KeysQuery,
            answers={200: Answered("One page", KeyList)},
            errors=(400,),
        )
    ),
)
async def list_keys(request: AnyRequest) -> ASGIApp:
    query = read_query(pairs_of(request), KeysQuery)
    return json_answer(await gateway_of(request).keys.page(caller_in(request), query.after, query.limit))


@post(
    API_KEYS,
    opt=documented(
        Doc(
            summary="Make an API key",
            tag=TAG,
            details="The answer is the only place where the key is ever shown. Nobody hands out more than they have.",
            body=NewApiKey,
            examples={
                "for a build": {
                    "name": "ci",
                    "scopes": ["workflows:read", "workflows:write"],
                    "expires_at": "2030-01-01T00:00:00Z",
                }
            },
            answers={201: Answered("Made", KeyIssuedOnce)},
            errors=(400, 503),
        )
    ),
)
async def issue_key(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    wish = decoded(msgspec.json.Decoder(NewApiKey).decode, await request.body())
    made = await gateway.keys.issue(wish, origin_of(request, gateway))
    return json_answer(made, status=201, headers=[("Location", f"{API_KEYS}/{made.id}"), *NEVER_KEPT])


@get(
    f"{API_KEYS}/{{key_id:str}}",
    opt=documented(Doc(summary="An API key", tag=TAG, answers={200: Answered("The key", KeySeen)}, errors=(400, 404))),
)
async def get_key(request: AnyRequest, key_id: FromPath[str]) -> ASGIApp:
    return json_answer(await gateway_of(request).keys.get(caller_in(request), checked_id(key_id, "key_id")))


@post(
    f"{API_KEYS}/{{key_id:str}}/rotate",
    opt=documented(
        Doc(
            summary="Renew an API key",
            tag=TAG,
            details="It keeps its id, rights and expiry; the key that was shown before stops working.",
            answers={200: Answered("Renewed", KeyIssuedOnce)},
            errors=(400, 404, 409, 503),
        )
    ),
)
async def rotate_key(request: AnyRequest, key_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    made = await gateway.keys.rotate(checked_id(key_id, "key_id"), origin_of(request, gateway))
    return json_answer(made, headers=NEVER_KEPT)


@delete(
    f"{API_KEYS}/{{key_id:str}}",
    status_code=200,
    opt=documented(
        Doc(
            summary="Revoke an API key",
            tag=TAG,
            details="For good. Other gateways stop taking it within TASKLOOM_KEY_CACHE_S.",
            query=RevokeQuery,
            answers={200: Answered("Revoked", KeyRevocation)},
            errors=(400, 404, 503),
        )
    ),
)
async def revoke_key(request: AnyRequest, key_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), RevokeQuery)
    return json_answer(
        await gateway.keys.revoke(checked_id(key_id, "key_id"), query.reason, origin_of(request, gateway))
    )


@post(
    f"{AUTH}/refresh-key",
    opt=documented(
        Doc(
            summary="Renew the API key that this call is made with",
            tag=TAG,
            answers={200: Answered("Renewed; the key of this call works no more", KeyRefreshed)},
            errors=(400, 503),
        )
    ),
)
async def refresh_key(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.keys.refresh(origin_of(request, gateway)), headers=NEVER_KEPT)


HANDLERS: Final = [
    *(get_me, make_token, list_keys, issue_key, get_key, rotate_key),
    *(revoke_key, refresh_key),
]
