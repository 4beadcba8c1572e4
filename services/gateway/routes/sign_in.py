"""Accounts of people: sign-in with what a provider of identities says, refresh, sign-out."""

from typing import Final

import msgspec
from litestar import post
from litestar.types import ASGIApp

from services.gateway.accounts import NewSignIn, Refreshed, RefreshWish, SignedIn
from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, gateway_of, origin_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.routes.auth import AUTH, NEVER_KEPT, TAG

_TOKENS: Final = {"access_token": "eyJ…", "refresh_token": "rt_…", "token_type": "Bearer", "expires_in": 3600}
_WHO: Final = {"user_id": "usr_1f0c", "tenant_id": "own_1f0c"}
_SIGNED_IN: Final = {
    **_WHO,
    **_TOKENS,
    "api_key": "sk_…",
    "tier": "default",
    "is_new_user": True,
    "quotas": {"tokens_per_day": 100000},
    "user": {**_WHO, "email": "zoe@example.com", "username": "Zoe", "role": "admin"},
}


@post(
    f"{AUTH}/register",
    status_code=200,
    opt=documented(
        Doc(
            summary="Sign in, with an account made where there is none",
            tag=TAG,
            details="With an ID token of a provider, or a code that it gave. A new user belongs to the tenant of the "
            "invitation, else to that of the email domain, else has a tenant of their own, and gets an API key, which "
            "is shown in this answer alone. 30 calls a minute by address. Without a provider 501 says what to set.",
            body=NewSignIn,
            examples={
                "with an ID token": {"provider": "google", "token": "eyJ…"},
                "with a code": {"provider": "google", "code": "4/0A…", "redirect_uri": "https://example.com/back"},
                "invited": {"provider": "google", "token": "eyJ…", "invitation": "inv_…"},
            },
            answers={200: Answered("Signed in", SignedIn, _SIGNED_IN)},
            errors=(400, 401, 403, 404, 409, 429, 501, 503),
        )
    ),
)
async def register(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    wish = decoded(msgspec.json.Decoder(NewSignIn).decode, await request.body() or b"{}")
    made, caller = await gateway.accounts.sign_in(wish, origin_of(request, gateway))
    request.scope["state"]["caller"] = caller  # for the audit: who it turned out to be
    return json_answer(made, headers=NEVER_KEPT)


@post(
    f"{AUTH}/refresh",
    status_code=200,
    opt=documented(
        Doc(
            summary="Get new tokens for a refresh token",
            tag=TAG,
            details="A refresh token is good once, for 30 days. One that comes a second time ends its login, with all "
            "of its tokens: somebody has a copy. 60 calls a minute by address.",
            body=RefreshWish,
            examples={"a refresh": {"refresh_token": "rt_…"}},
            answers={200: Answered("New tokens", Refreshed, _TOKENS)},
            errors=(400, 401, 429, 501, 503),
        )
    ),
)
async def refresh(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    wish = decoded(msgspec.json.Decoder(RefreshWish).decode, await request.body())
    made, caller = await gateway.accounts.refresh(wish.refresh_token, origin_of(request, gateway))
    request.scope["state"]["caller"] = caller
    return json_answer(made, headers=NEVER_KEPT)


@post(
    f"{AUTH}/logout",
    status_code=200,
    opt=documented(
        Doc(
            summary="Sign out",
            tag=TAG,
            details="Ends the login that the access token of this call was made for, and its refresh token.",
            answers={200: Answered("Signed out", example={"success": True})},
            errors=(400, 503),
        )
    ),
)
async def sign_out(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    await gateway.accounts.sign_out(origin_of(request, gateway))
    return json_answer({"success": True})


HANDLERS: Final = [register, refresh, sign_out]
