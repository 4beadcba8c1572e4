"""A tenant's users and invitations, as its admins see and change them. Nobody changes themselves or who outranks
them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.entities import Entities
from services.gateway.keyring import KeyRing
from services.gateway.problems import Conflict, Forbidden, NotFound
from services.gateway.security import Caller
from services.gateway.submission import Origin
from taskloom.domain.access import Role, outranks
from taskloom.domain.entities.commands import ChangeUser, Invite, WithdrawInvitation
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.invitations import Invitation
from taskloom.domain.entities.users import User
from taskloom.logins import new_invitation

WARNING: Final = "Keep this code now: it is stored nowhere and cannot be shown again."
_WEEK_S: Final = 7 * 86_400.0


class UserSeen(Struct, frozen=True, kw_only=True):
    """``email``: the provider vouched for it, or empty. ``logins``: sign-ins that have not ended."""

    user_id: str
    email: str
    username: str
    role: str
    provider: str
    disabled: bool
    created_at: datetime
    last_sign_in_at: datetime | UnsetType = UNSET
    logins: int


class UserList(Struct, frozen=True):
    """By id. ``next_cursor`` is the ``after`` of the next page, null on the last."""

    users: list[UserSeen]
    total: int
    next_cursor: str | None


class UserChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays."""

    role: Role | None = None
    disabled: bool | None = None
    reason: Annotated[str, Meta(max_length=4096)] = ""


class NewInvitation(Struct, frozen=True, forbid_unknown_fields=True):
    """With ``email``: only for who the provider says has this address."""

    role: Role = "user"
    email: Annotated[str, Meta(max_length=320)] = ""
    expires_in_s: Annotated[float, Meta(ge=60, le=90 * 86_400)] = _WEEK_S


class InvitationSeen(Struct, frozen=True, kw_only=True):
    invitation_id: str
    role: str
    email: str
    expires_at: datetime
    created_at: datetime
    invited_by: str


class InvitationMadeOnce(Struct, frozen=True, kw_only=True):
    """The one answer that has the code; it goes to the person, who sends it as ``invitation`` when signing in."""

    invitation_id: str
    invitation: str
    role: str
    email: str
    expires_at: datetime
    warning: str = WARNING


class InvitationList(Struct, frozen=True):
    """Those that are open, by id. ``next_cursor`` is the ``after`` of the next page, null on the last."""

    invitations: list[InvitationSeen]
    total: int
    next_cursor: str | None


class Users:
    """Of the caller's tenant."""

    def __init__(self, entities: Entities, ring: KeyRing) -> None:
        self._entities = entities
        self._ring = ring

    async def page(self, caller: Caller, after: str, limit: int) -> UserList:
        found, total = await self._entities.page("user", caller, after=after, limit=limit + 1)
        shown = [_seen(entity) for entity in found[:limit]]
        return UserList(shown, total, shown[-1].user_id if len(found) > limit else None)

    async def get(self, caller: Caller, user_id: str) -> UserSeen:
        return _seen((await self._find(caller, user_id))[0])

    async def change(self, user_id: str, wish: UserChange, origin: Origin) -> UserSeen:
        """
        Raises:
            NotFound: there is none in the tenant.
            Conflict: it is the caller's own account.
            Forbidden: its role, or the one that it would get, outranks the caller's.
        """
        caller = origin.caller
        _, user = await self._find(caller, user_id)
        if user_id in (caller.user_id, caller.home_user):
            raise Conflict("nobody changes their own account; ask another admin")
        if outranks(caller.role, user.role):
            raise Forbidden(f"a user of role {user.role} is changed by that role alone")
        if wish.role is not None and outranks(caller.role, wish.role):
            raise Forbidden(f"the role {wish.role} is given by that role alone", field="role")
        try:
            await self._entities.change(user_id, ChangeUser(wish.role, wish.disabled, wish.reason), origin)
        finally:
            self._ring.forget_user(caller.tenant_id, user_id)
        return await self.get(caller, user_id)

    async def invite(self, wish: NewInvitation, origin: Origin) -> InvitationMadeOnce:
        """Raises Forbidden: its role outranks the caller's."""
        caller = origin.caller
        if outranks(caller.role, wish.role):
            raise Forbidden(f"the role {wish.role} is given by that role alone", field="role")
        text, parts = new_invitation(caller.tenant_id)
        expires_at = datetime.now(UTC) + timedelta(seconds=wish.expires_in_s)
        command = Invite(parts.code_hash, expires_at, wish.role, wish.email)
        await self._entities.change(parts.invitation_id, command, origin)
        return InvitationMadeOnce(
            invitation_id=parts.invitation_id,
            invitation=text,
            role=wish.role,
            email=wish.email,
            expires_at=expires_at,
        )

    async def invitations(self, caller: Caller, after: str, limit: int) -> InvitationList:
        found, total = await self._entities.page("invitation", caller, after=after, limit=limit + 1)
        shown = [_invitation(entity) for entity in found[:limit]]
        return InvitationList(shown, total, shown[-1].invitation_id if len(found) > limit else None)

    async def withdraw(self, invitation_id: str, reason: str, origin: Origin) -> None:
        """Raises NotFound: there is none that is open."""
        if await self._entities.find("invitation", origin.caller, invitation_id) is None:
            raise NotFound(f"there is no invitation {invitation_id!r}", invitation_id=invitation_id)
        await self._entities.change(invitation_id, WithdrawInvitation(reason), origin)

    async def _find(self, caller: Caller, user_id: str) -> tuple[Entity, User]:
        entity = await self._entities.find("user", caller, user_id)
        if entity is None or not isinstance(entity.value, User):
            raise NotFound(f"there is no user {user_id!r}", user_id=user_id)
        return entity, entity.value


def _seen(entity: Entity) -> UserSeen:
    user = entity.value
    assert isinstance(user, User)
    return UserSeen(
        user_id=parts_of(entity.entity_id).name,
        email=user.email,
        username=user.name,
        role=user.role,
        provider=user.provider,
        disabled=user.disabled,
        created_at=entity.created_at,
        last_sign_in_at=user.last_sign_in_at or UNSET,
        logins=sum(login.expires_at > datetime.now(UTC) for login in user.logins),
    )


def _invitation(entity: Entity) -> InvitationSeen:
    invitation = entity.value
    assert isinstance(invitation, Invitation)
    return InvitationSeen(
        invitation_id=parts_of(entity.entity_id).name,
        role=invitation.role,
        email=invitation.email,
        expires_at=invitation.expires_at,
        created_at=entity.created_at,
        invited_by=invitation.invited_by,
    )
