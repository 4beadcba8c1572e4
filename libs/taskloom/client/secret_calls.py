"""The calls about secrets and what they answer, as values."""

from datetime import datetime
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from taskloom.client.calls import Call, given

SECRETS: Final = "/api/v1/secrets"


class SecretSeen(Struct, frozen=True):
    """Its value is told to nobody."""

    name: str
    created_at: datetime
    updated_at: datetime


class SecretPage(Struct, frozen=True):
    secrets: list[SecretSeen]
    total_count: int
    next_cursor: str | None = None


class Removed(Struct, frozen=True):
    success: bool


def list_secrets(cursor: str = "", limit: int = 100) -> Call[SecretPage]:
    return Call(SecretPage, SECRETS, params=given(cursor=cursor, limit=limit))


def put(name: str, value: str) -> Call[SecretSeen]:
    return Call(SecretSeen, f"{SECRETS}/{quote(name, safe='')}", "PUT", body={"value": value})


def remove(name: str) -> Call[Removed]:
    return Call(Removed, f"{SECRETS}/{quote(name, safe='')}", "DELETE")
