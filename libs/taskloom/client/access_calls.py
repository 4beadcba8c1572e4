"""The calls about keys, who one is, and who changed what, as values."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Required, TypedDict
from urllib.parse import quote

from msgspec import Struct

from taskloom.client.calls import Call, given
from taskloom.client.quota_calls import Limits, RateLimits

API_KEYS: Final = "/api/v1/auth/api-keys"


class KeyWish(TypedDict, total=False):
    """``role``: user, admin or owner. Without ``scopes`` those that are usual for it; without ``user_id`` it acts in
    the caller's name; ``expires_at`` is an RFC 3339 text."""

    name: Required[str]
    description: str
    role: str
    scopes: Sequence[str]
    user_id: str
    expires_at: str


class AuditChoice(TypedDict, total=False):
    """Which calls. ``route``: its template; ``status``: of the answer; ``refused``: whether that was 400 or above.
    Times are RFC 3339 texts. ``unauthenticated``: those without good credentials, for owners."""

    user_id: str
    key_id: str
    task_id: str
    method: str
    route: str
    status: int
    refused: bool
    since: str
    until: str
    unauthenticated: bool
    cursor: str
    limit: int


class Me(Struct, frozen=True, kw_only=True):
    """``authenticated_by``: open, key or token."""

    user_id: str
    tenant_id: str
    role: str
    scopes: tuple[str, ...]
    authenticated_by: str
    username: str = ""
    email: str = ""
    key_id: str = ""
    tier: str = ""
    quotas: Limits = Limits()
    rate_limits: RateLimits = RateLimits()


class ApiKey(Struct, frozen=True, kw_only=True):
    """``last_used_at`` is coarse: to the minute."""

    id: str
    name: str
    key_prefix: str
    role: str
    scopes: tuple[str, ...]
    user_id: str
    created_at: datetime
    is_active: bool
    description: str = ""
    created_by: str = ""
    rotated_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class ApiKeyPage(Struct, frozen=True):
    """By id. ``next_cursor`` is the ``after`` of the next page."""

    keys: list[ApiKey]
    total: int
    next_cursor: str | None = None


class MadeKey(Struct, frozen=True, kw_only=True):
    """The one answer that has the key itself, ``api_key``."""

    id: str
    name: str
    api_key: str
    key_prefix: str
    role: str
    scopes: tuple[str, ...]
    user_id: str
    created_at: datetime
    expires_at: datetime | None = None


class Revoked(Struct, frozen=True):
    success: bool
    message: str = ""


class AuditEntry(Struct, frozen=True, kw_only=True):
    """A call that changed something, or wanted to. ``by``: open, key, token or nobody; ``home_tenant`` and
    ``home_user``: whose credentials they were, when they acted for somebody else; ``named``: ids in the path."""

    id: str
    at: datetime
    tenant_id: str
    method: str
    route: str
    status: int
    user_id: str = ""
    key_id: str = ""
    by: str = ""
    role: str = ""
    home_tenant: str = ""
    home_user: str = ""
    task_id: str = ""
    named: dict[str, str] = {}
    remote: str = ""
    trace_id: str = ""
    gateway: str = ""


class AuditPage(Struct, frozen=True):
    entries: list[AuditEntry]
    next_cursor: str | None = None


def me() -> Call[Me]:
    return Call(Me, "/api/v1/auth/me")


def audit(chosen: AuditChoice) -> Call[AuditPage]:
    return Call(AuditPage, "/api/v1/audit", params=given(**chosen))


def of(key_id: str, part: str = "") -> str:
    return f"{API_KEYS}/{quote(key_id, safe='')}" + (f"/{part}" if part else "")


def create(wish: KeyWish) -> Call[MadeKey]:
    return Call(MadeKey, API_KEYS, "POST", body=wish)


def list_keys(after: str = "", limit: int = 100) -> Call[ApiKeyPage]:
    return Call(ApiKeyPage, API_KEYS, params=given(after=after, limit=limit))


def get(key_id: str) -> Call[ApiKey]:
    return Call(ApiKey, of(key_id))


def rotate(key_id: str) -> Call[MadeKey]:
    return Call(MadeKey, of(key_id, "rotate"), "POST")


def revoke(key_id: str, reason: str = "") -> Call[Revoked]:
    return Call(Revoked, of(key_id), "DELETE", params=given(reason=reason))
