"""Secrets: values that tasks refer to by name."""

from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, put
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import Limit100, read_query
from services.gateway.secrets import PutSecret, SecretList, SecretSeen

SECRETS: Final = "/api/v1/secrets"
PATH: Final = f"{SECRETS}/{{secret_name:str}}"
TAG: Final = "Secrets"
_SEEN: Final[dict[str, Any]] = {
    "name": "registry-password",
    "created_at": "2026-11-21T12:00:00Z",
    "updated_at": "2026-11-21T12:00:00Z",
}


class SecretListQuery(Struct, frozen=True):
    cursor: Annotated[str, Meta(max_length=128, description="The next_cursor of the page before")] = ""
    limit: Limit100 = 100


@get(
    SECRETS,
    opt=documented(
        Doc(
            summary="List secrets, by name",
            tag=TAG,
            details="Values are never told.",
            query=SecretListQuery,
            answers={
                200: Answered("One page", SecretList, {"secrets": [_SEEN], "total_count": 1, "next_cursor": None})
            },
            errors=(400, 503),
        )
    ),
)
async def list_secrets(request: AnyRequest) -> ASGIApp:
    query = read_query(pairs_of(request), SecretListQuery)
    return json_answer(await gateway_of(request).secrets.page(caller_in(request), query.cursor, query.limit))


@put(
    PATH,
    status_code=200,
    opt=documented(
        Doc(
            summary="Put a secret",
            tag=TAG,
            details='Tasks name it where they need it: {"secret": "registry-password"} as a value of env of shell and '
            "docker, or of headers of http. The executor puts it in; events, logs and topics have the name alone, and "
            "output is masked. Another value under the same name takes the place of the first, for attempts that "
            "start from then on.",
            body=PutSecret,
            examples={"a password": {"value": "correct horse battery staple"}},
            answers={200: Answered("It is stored", SecretSeen, _SEEN)},
            errors=(400, 503),
        )
    ),
)
async def put_secret(request: AnyRequest, secret_name: FromPath[str]) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(PutSecret).decode, await request.body())
    name = checked_id(secret_name, "secret_name")
    return json_answer(await gateway_of(request).secrets.put(caller_in(request), name, wish))


@delete(
    PATH,
    status_code=200,
    opt=documented(
        Doc(
            summary="Remove a secret",
            tag=TAG,
            details="Attempts that need it fail from then on.",
            answers={200: Answered("Removed", example={"success": True})},
            errors=(400, 404, 503),
        )
    ),
)
async def delete_secret(request: AnyRequest, secret_name: FromPath[str]) -> ASGIApp:
    await gateway_of(request).secrets.remove(caller_in(request), checked_id(secret_name, "secret_name"))
    return json_answer({"success": True})


HANDLERS: Final = [list_secrets, put_secret, delete_secret]
