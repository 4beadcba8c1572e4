"""Users of a tenant and invitations into it, for its admins."""

from typing import Annotated, Final

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import Limit100, read_query
from services.gateway.routes.auth import NEVER_KEPT, TAG, RevokeQuery
from services.gateway.users import (
    InvitationList,
    InvitationMadeOnce,
    NewInvitation,
    UserChange,
    UserList,
    UserSeen,
)

USERS: Final = "/api/v1/users"
INVITATIONS: Final = "/api/v1/invitations"


class UsersQuery(Struct, frozen=True):
    after: Annotated[str, Meta(max_length=128, description="Ids that come after this one; next_cursor of a page")] = ""
    limit: Limit100 = 100


@get(
    USERS,
    opt=documented(
        Doc(
            summary="List the tenant's users, by id",
            tag=TAG,
            query=UsersQuery,
            answers={200: Answered("One page", UserList)},
            errors=(400,),
        )
    ),
)
async def list_users(request: AnyRequest) -> ASGIApp:
    query = read_query(pairs_of(request), UsersQuery)
    return json_answer(await gateway_of(request).users.page(caller_in(request), query.after, query.limit))


@get(
    f"{USERS}/{{user_id:str}}",
    opt=documented(Doc(summary="A user", tag=TAG, answers={200: Answered("The user", UserSeen)}, errors=(400, 404))),
)
async def get_user(request: AnyRequest, user_id: FromPath[str]) -> ASGIApp:
    return json_answer(await gateway_of(request).users.get(caller_in(request), checked_id(user_id, "user_id")))


@patch(
    f"{USERS}/{{user_id:str}}",
    opt=documented(
        Doc(
            summary="Give a user another role, disable or enable them",
            tag=TAG,
            details="A disabled user's logins end for good and their keys do not work until they are enabled: here at "
            "once, on other gateways within TASKLOOM_KEY_CACHE_S. Nobody changes themselves or who outranks them.",
            body=UserChange,
            examples={"disable": {"disabled": True, "reason": "left"}, "an admin": {"role": "admin"}},
            answers={200: Answered("Changed", UserSeen)},
            errors=(400, 404, 409, 503),
        )
    ),
)
async def change_user(request: AnyRequest, user_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    wish = decoded(msgspec.json.Decoder(UserChange).decode, await request.body())
    changed = await gateway.users.change(checked_id(user_id, "user_id"), wish, origin_of(request, gateway))
    return json_answer(changed)


@get(
    INVITATIONS,
    opt=documented(
        Doc(
            summary="List open invitations, by id",
            tag=TAG,
            query=UsersQuery,
            answers={200: Answered("One page", InvitationList)},
            errors=(400,),
        )
    ),
)
async def list_invitations(request: AnyRequest) -> ASGIApp:
    query = read_query(pairs_of(request), UsersQuery)
    return json_answer(await gateway_of(request).users.invitations(caller_in(request), query.after, query.limit))


@post(
    INVITATIONS,
    opt=documented(
        Doc(
            summary="Invite somebody into the tenant",
            tag=TAG,
            details="The answer is the only place where the code is ever shown; it is good once.",
            body=NewInvitation,
            body_required=False,
            examples={"a colleague": {"email": "bo@example.com", "expires_in_s": 86400}},
            answers={201: Answered("Made", InvitationMadeOnce)},
            errors=(400, 503),
        )
    ),
)
async def invite(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    wish = decoded(msgspec.json.Decoder(NewInvitation).decode, await request.body() or b"{}")
    return json_answer(await gateway.users.invite(wish, origin_of(request, gateway)), status=201, headers=NEVER_KEPT)


@delete(
    f"{INVITATIONS}/{{invitation_id:str}}",
    status_code=200,
    opt=documented(
        Doc(
            summary="Withdraw an invitation",
            tag=TAG,
            query=RevokeQuery,
            answers={200: Answered("Withdrawn", example={"success": True})},
            errors=(400, 404, 503),
        )
    ),
)
async def withdraw_invitation(request: AnyRequest, invitation_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), RevokeQuery)
    name = checked_id(invitation_id, "invitation_id")
    await gateway.users.withdraw(name, query.reason, origin_of(request, gateway))
    return json_answer({"success": True})


HANDLERS: Final = [list_users, get_user, change_user, list_invitations, invite, withdraw_invitation]
