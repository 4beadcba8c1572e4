"""Users whom a provider of identities vouches for, and their logins. Of tokens only hashes are known here.

The owner of the user's partition decides about each refresh alone, so a token is good once however many gateways are
asked, and a user who is disabled has no login from that moment on.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import ChangeUser, EndLogin, RefreshLogin, SignIn, UserCommand
from taskloom.domain.entities.events import (
    LoginBegun,
    LoginEnded,
    LoginRefreshed,
    UserChanged,
    UserDescribed,
    UserEvent,
    UserRegistered,
)
from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.refusals import Refusal

MAX_LOGINS: Final = 20
"""Logins of a user at once; the one used least lately makes way for another."""

REUSED: Final = "reused"
SIGNED_OUT: Final = "signed_out"


class Login(Struct, frozen=True, omit_defaults=True):
    """``ordinal`` counts the user's logins from 1."""

    login_id: str
    ordinal: int
    family_hash: str
    token_hash: str
    expires_at: datetime


class User(Struct, frozen=True, omit_defaults=True, tag="user"):
    """``logins``: the one used least lately first. ``email``: the provider vouched for it, or empty."""

    identity: str
    provider: str
    role: str
    email: str = ""
    name: str = ""
    disabled: bool = False
    sign_ins: int = 0
    last_sign_in_at: datetime | None = None
    logins: tuple[Login, ...] = ()

    @property
    def lookup(self) -> str:
        """What it is found by, whatever tenant it is of."""
        return self.identity

    @property
    def removed(self) -> bool:
        """Never: what was done in a user's name keeps its name."""
        return False

    def login(self, login_id: str) -> Login | None:
        return next((each for each in self.logins if each.login_id == login_id), None)

    def facts(self) -> dict[str, Any]:
        """What who changed it is told: of each login its ordinal and the hash of the token that is good now."""
        logins = {each.login_id: [each.ordinal, each.token_hash] for each in self.logins}
        return {"role": self.role, "disabled": self.disabled, "logins": logins}


def decide(state: User | None, command: UserCommand, asked: Asked) -> list[UserEvent] | Refusal:
    if isinstance(command, SignIn):
        return _sign_in(state, command, asked)
    if state is None:
        return Refusal("not_found", f"there is no user {asked.name!r}")
    if isinstance(command, ChangeUser):
        role = state.role if command.role is None else command.role
        disabled = state.disabled if command.disabled is None else command.disabled
        same = (role, disabled) == (state.role, state.disabled)
        return [] if same else [UserChanged(role, disabled, command.reason)]
    if isinstance(command, EndLogin):
        return [LoginEnded(command.login_id, SIGNED_OUT)] if state.login(command.login_id) else []
    return _refresh(state, command, asked)


def _sign_in(state: User | None, command: SignIn, asked: Asked) -> list[UserEvent] | Refusal:
    begun = LoginBegun(command.login_id, command.family_hash, command.token_hash, command.expires_at)
    if state is None:
        registered = UserRegistered(command.identity, command.provider, command.role, command.email, command.name)
        return [registered, begun]
    if state.identity != command.identity:
        return Refusal("conflict", f"the user {asked.name!r} is somebody else")
    if state.disabled:
        return Refusal("conflict", "the user is disabled", "disabled")
    if state.login(command.login_id) is not None:
        return Refusal("conflict", f"there is a login {command.login_id!r} already; take another id")
    described = (command.email, command.name)
    told: list[UserEvent] = [] if described == (state.email, state.name) else [UserDescribed(*described)]
    return [*told, begun]


def _refresh(state: User, command: RefreshLogin, asked: Asked) -> list[UserEvent] | Refusal:
    """Who knows an old token's family, but not the token that is good now, has an old token."""
    login = state.login(command.login_id)
    if login is None or login.family_hash != command.family_hash or login.expires_at <= asked.now:
        return Refusal("not_found", "the login has ended")
    if login.token_hash != command.token_hash:
        return [LoginEnded(login.login_id, REUSED)]
    return [LoginRefreshed(login.login_id, command.next_hash, command.expires_at)]


def evolve(state: User | None, event: UserEvent, recorded: Recorded) -> User:
    return _CHANGES[type(event)](state, event, recorded)


def _registered(_state: User | None, event: UserRegistered, _recorded: Recorded) -> User:
    return User(**structs.asdict(event))


def _described(state: User, event: UserDescribed, _recorded: Recorded) -> User:
    return structs.replace(state, email=event.email, name=event.name)


def _begun(state: User, event: LoginBegun, recorded: Recorded) -> User:
    at, ordinal = recorded.meta.at, state.sign_ins + 1
    live = [each for each in state.logins if each.expires_at > at]
    login = Login(event.login_id, ordinal, event.family_hash, event.token_hash, event.expires_at)
    logins = (*live[-(MAX_LOGINS - 1) :], login)
    return structs.replace(state, sign_ins=ordinal, last_sign_in_at=at, logins=logins)


def _refreshed(state: User, event: LoginRefreshed, _recorded: Recorded) -> User:
    login = state.login(event.login_id)
    assert login is not None
    renewed = structs.replace(login, token_hash=event.token_hash, expires_at=event.expires_at)
    return structs.replace(state, logins=(*_without(state, event.login_id), renewed))


def _ended(state: User, event: LoginEnded, _recorded: Recorded) -> User:
    return structs.replace(state, logins=_without(state, event.login_id))


def _changed(state: User, event: UserChanged, _recorded: Recorded) -> User:
    logins = () if event.disabled else state.logins
    return structs.replace(state, role=event.role, disabled=event.disabled, logins=logins)


def _without(state: User, login_id: str) -> tuple[Login, ...]:
    return tuple(each for each in state.logins if each.login_id != login_id)


_CHANGES: Final[dict[type[Event], Callable[[Any, Any, Recorded], User]]] = {
    UserRegistered: _registered,
    UserDescribed: _described,
    LoginBegun: _begun,
    LoginRefreshed: _refreshed,
    LoginEnded: _ended,
    UserChanged: _changed,
}
