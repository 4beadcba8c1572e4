"""API keys. Only their SHA-256 is known here: a key itself is seen once, by whom it is made for."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.access import excess_scopes
from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import IssueKey, KeyCommand, RevokeKey
from taskloom.domain.entities.events import KeyEvent, KeyIssued, KeyRevoked, KeyRotated
from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.refusals import Refusal


class ApiKey(Struct, frozen=True, omit_defaults=True, tag="key"):
    """``key_hash``: SHA-256 of the key's text, in hex. ``removed``: it was revoked, and does not come back."""

    key_hash: str
    prefix: str
    name: str
    role: str
    scopes: tuple[str, ...]
    user_id: str
    description: str = ""
    expires_at: datetime | None = None
    issued_by: str = ""
    rotated_at: datetime | None = None
    removed: bool = False

    @property
    def lookup(self) -> str:
        """What it is found by, whatever tenant it is of."""
        return self.key_hash

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"prefix": self.prefix, "role": self.role, "scopes": list(self.scopes), "revoked": self.removed}


def decide(state: ApiKey | None, command: KeyCommand, asked: Asked) -> list[KeyEvent] | Refusal:
    if isinstance(command, IssueKey):
        return _issue(state, command, asked)
    if state is None:
        return Refusal("not_found", f"there is no key {asked.name!r}")
    if isinstance(command, RevokeKey):
        return [] if state.removed else [KeyRevoked(command.reason)]
    if state.removed or state.has_expired(asked.now):
        return Refusal("conflict", f"the key {asked.name!r} is {'revoked' if state.removed else 'expired'}; issue one")
    return [] if state.key_hash == command.key_hash else [KeyRotated(command.key_hash, command.prefix)]


def _issue(state: ApiKey | None, command: IssueKey, asked: Asked) -> list[KeyEvent] | Refusal:
    if state is not None:
        return Refusal("conflict", f"there was a key {asked.name!r} already; take another id")
    if excess := excess_scopes(command.role, command.scopes):
        return Refusal("invalid", f"the role {command.role} cannot have {', '.join(excess)}", "scopes")
    if command.expires_at is not None and command.expires_at <= asked.now:
        return Refusal("invalid", "it would have expired already", "expires_at")
    fields = structs.asdict(command)
    return [KeyIssued(**{**fields, "scopes": tuple(dict.fromkeys(command.scopes))})]


def evolve(state: ApiKey | None, event: KeyEvent, recorded: Recorded) -> ApiKey:
    return _CHANGES[type(event)](state, event, recorded)


def _issued(_state: ApiKey | None, event: KeyIssued, recorded: Recorded) -> ApiKey:
    return ApiKey(**structs.asdict(event), issued_by=recorded.meta.actor)


def _rotated(state: ApiKey | None, event: KeyRotated, recorded: Recorded) -> ApiKey:
    assert state is not None
    return structs.replace(state, key_hash=event.key_hash, prefix=event.prefix, rotated_at=recorded.meta.at)


def _revoked(state: ApiKey | None, _event: KeyRevoked, _recorded: Recorded) -> ApiKey:
    assert state is not None
    return structs.replace(state, removed=True)


_CHANGES: Final[dict[type[Event], Callable[[ApiKey | None, Any, Recorded], ApiKey]]] = {
    KeyIssued: _issued,
    KeyRotated: _rotated,
    KeyRevoked: _revoked,
}
