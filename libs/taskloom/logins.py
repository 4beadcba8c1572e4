"""The text of refresh tokens and invitations: where they belong, and secrets of which only the SHA-256 is stored.

A refresh token has two secrets: one that all tokens of its login have, and one of its own. So one that was replaced is
known for what it is without a list of all that were, and a made-up one ends nobody's login.
"""

import base64
import binascii
import hashlib
import secrets
from typing import Final

from msgspec import Struct

from taskloom.domain.ids import is_valid_id

REFRESH: Final = "rt_"
INVITATION: Final = "inv_"
_MAX_CHARS: Final = 1024


class Refresh(Struct, frozen=True):
    """A refresh token's parts: whose it is, and hashes of its secrets."""

    tenant_id: str
    user_id: str
    login_id: str
    family_hash: str
    token_hash: str


class NewRefresh(Struct, frozen=True):
    """``text`` is for who asked, and is kept nowhere."""

    text: str
    parts: Refresh


class Invited(Struct, frozen=True):
    """An invitation's parts."""

    tenant_id: str
    invitation_id: str
    code_hash: str


def new_refresh(tenant_id: str, user_id: str) -> NewRefresh:
    """The first token of a new login."""
    return _refresh(tenant_id, user_id, f"login_{secrets.token_hex(8)}", secrets.token_hex(16))


def next_refresh(text: str) -> NewRefresh:
    """The token after one that ``read_refresh`` could read."""
    before = read_refresh(text)
    assert before is not None
    return _refresh(before.tenant_id, before.user_id, before.login_id, text.split(".")[1])


def read_refresh(text: str) -> Refresh | None:
    """None for what cannot be a refresh token."""
    parts = _read(text, REFRESH, ids=3, secrets=2)
    return None if parts is None else Refresh(parts[0], parts[1], parts[2], _hash(parts[3]), _hash(parts[4]))


def new_invitation(tenant_id: str) -> tuple[str, Invited]:
    """Its text, which is kept nowhere, and its parts."""
    invitation_id, secret = f"invitation_{secrets.token_hex(8)}", secrets.token_hex(32)
    return _write(INVITATION, (tenant_id, invitation_id), (secret,)), Invited(tenant_id, invitation_id, _hash(secret))


def read_invitation(text: str) -> Invited | None:
    """None for what cannot be an invitation."""
    parts = _read(text, INVITATION, ids=2, secrets=1)
    return None if parts is None else Invited(parts[0], parts[1], _hash(parts[2]))


def identity_of(issuer: str, subject: str) -> str:
    """SHA-256 of who somebody is at a provider, in hex."""
    return _hash(f"{issuer}\x00{subject}")


def _refresh(tenant_id: str, user_id: str, login_id: str, family: str) -> NewRefresh:
    secret = secrets.token_hex(32)
    text = _write(REFRESH, (tenant_id, user_id, login_id), (family, secret))
    return NewRefresh(text, Refresh(tenant_id, user_id, login_id, _hash(family), _hash(secret)))


def _write(prefix: str, ids: tuple[str, ...], secret: tuple[str, ...]) -> str:
    place = base64.urlsafe_b64encode("/".join(ids).encode()).decode().rstrip("=")
    return prefix + ".".join((place, *secret))


def _read(text: str, prefix: str, *, ids: int, secrets: int) -> list[str] | None:
    if not text.startswith(prefix) or len(text) > _MAX_CHARS or not text.isascii():
        return None
    place, *secret = text.removeprefix(prefix).split(".")
    try:
        names = base64.urlsafe_b64decode(place + "=" * (-len(place) % 4)).decode().split("/")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if (len(names), len(secret)) != (ids, secrets) or not all(map(is_valid_id, names)):
        return None
    return [*names, *secret]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
