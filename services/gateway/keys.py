"""API keys as people see them: issued, listed, rotated, revoked. Nobody hands out more than they have."""

from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.entities import Entities
from services.gateway.keyring import KeyRing
from services.gateway.problems import BadRequest, Forbidden, NotFound
from services.gateway.readside import Views
from services.gateway.security import Caller
from services.gateway.submission import Origin
from taskloom.domain.access import USUAL_SCOPES, Role, outranks
from taskloom.domain.entities.commands import IssueKey, RevokeKey, RotateKey
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.keys import ApiKey
from taskloom.domain.values import Identifier, Text256, UtcTime
from taskloom.keys import new_key

KIND: Final = "key"
WARNING: Final = "Keep this key now: it is stored nowhere and cannot be shown again."
_PAGE: Final = 200


class NewApiKey(Struct, frozen=True, forbid_unknown_fields=True):
    """Without ``scopes`` it has those that are usual for its role and that the caller has; without ``user_id`` it acts
    in the caller's name; without ``expires_at`` it does not expire."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    description: Annotated[str, Meta(max_length=1000)] = ""
    role: Role = "user"
    scopes: Annotated[tuple[Text256, ...], Meta(max_length=50)] | None = None
    user_id: Identifier | None = None
    expires_at: UtcTime | None = None


class KeySeen(Struct, frozen=True, kw_only=True):
    """``last_used_at`` is coarse: to the minute."""

    id: str
    name: str
    key_prefix: str
    description: str
    role: str
    scopes: tuple[str, ...]
    user_id: str
    created_at: datetime
    created_by: str
    rotated_at: datetime | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET
    last_used_at: datetime | UnsetType = UNSET
    is_active: bool


class KeyIssuedOnce(Struct, frozen=True, kw_only=True):
    """The one answer that has the key itself."""

    id: str
    name: str
    api_key: str
    key_prefix: str
    role: str
    scopes: tuple[str, ...]
    user_id: str
    created_at: datetime
    expires_at: datetime | UnsetType = UNSET
    warning: str = WARNING


class KeyList(Struct, frozen=True):
    """By id. ``next_cursor`` is the ``after`` of the next page, null on the last."""

    keys: list[KeySeen]
    total: int
    next_cursor: str | None


class KeyRevocation(Struct, frozen=True):
    success: bool
    message: str


class KeyRefreshed(Struct, frozen=True):
    api_key: str
    previous_key_revoked: bool
    warning: str = WARNING


class Keys:
    """A tenant's keys. Who is neither admin nor owner sees and changes those in their own name only."""

    def __init__(self, entities: Entities, views: Views, ring: KeyRing) -> None:
        self._entities = entities
        self._views = views
        self._ring = ring

    async def issue(self, wish: NewApiKey, origin: Origin) -> KeyIssuedOnce:
        """
        Raises:
            Forbidden: the caller lacks the role, a scope, or the right to name another user.
            BadRequest: the role cannot have a scope, or the key would have expired.
        """
        caller = origin.caller
        usual = tuple(scope for scope in USUAL_SCOPES[wish.role] if scope in caller.scopes)
        scopes = usual if wish.scopes is None else wish.scopes
        user = wish.user_id or caller.user_id
        _may_hand_out(caller, wish.role, scopes, user)
        made = new_key()
        command = IssueKey(
            made.hash, made.prefix, wish.name, user, wish.role, scopes, wish.description, wish.expires_at
        )
        reply = await self._entities.change(made.key_id, command, origin)
        return KeyIssuedOnce(
            id=made.key_id,
            name=wish.name,
            api_key=made.text,
            key_prefix=made.prefix,
            role=wish.role,
            scopes=scopes,
            user_id=user,
            created_at=reply.created_at or datetime.now(UTC),
            expires_at=wish.expires_at or UNSET,
        )

    async def page(self, caller: Caller, after: str, limit: int) -> KeyList:
        if caller.role in ("admin", "owner"):
            found, total = await self._entities.page(KIND, caller, after=after, limit=limit + 1)
        else:
            own = await self._own(caller)
            found = [entity for entity in own if parts_of(entity.entity_id).name > after][: limit + 1]
            total = len(own)
        names = [parts_of(entity.entity_id).name for entity in found[:limit]]
        used = await self._views.key_uses(caller.tenant_id, names)
        listed = [_seen(entity, used) for entity in found[:limit]]
        return KeyList(listed, total, names[-1] if len(found) > limit else None)

    async def get(self, caller: Caller, key_id: str) -> KeySeen:
        entity, _ = await self._find(caller, key_id)
        return _seen(entity, await self._views.key_uses(caller.tenant_id, [key_id]))

    async def rotate(self, key_id: str, origin: Origin) -> KeyIssuedOnce:
        """The same key with another text; the one before stops working.

        Raises:
            NotFound: there is none, or it is somebody else's.
            Forbidden: it can do more than the caller.
            Conflict: it has expired.
        """
        entity, key = await self._find(origin.caller, key_id)
        if origin.caller.key_id != key_id:
            _may_hand_out(origin.caller, key.role, key.scopes, key.user_id)
        made = new_key()
        await self._entities.change(key_id, RotateKey(made.hash, made.prefix), origin)
        self._ring.forget(origin.caller.tenant_id, key_id)
        return KeyIssuedOnce(
            id=key_id,
            name=key.name,
            api_key=made.text,
            key_prefix=made.prefix,
            role=key.role,
            scopes=key.scopes,
            user_id=key.user_id,
            created_at=entity.created_at,
            expires_at=key.expires_at or UNSET,
        )

    async def revoke(self, key_id: str, reason: str, origin: Origin) -> KeyRevocation:
        """Raises NotFound; Forbidden: it is of a higher role."""
        _, key = await self._find(origin.caller, key_id)
        if outranks(origin.caller.role, key.role):
            raise Forbidden(f"a key of role {key.role} is revoked by that role alone")
        await self._entities.change(key_id, RevokeKey(reason), origin)
        self._ring.forget(origin.caller.tenant_id, key_id)
        return KeyRevocation(True, f"The key {key_id} is revoked")

    async def refresh(self, origin: Origin) -> KeyRefreshed:
        """Raises BadRequest: the call was not made with a key."""
        caller = origin.caller
        if caller.by != "key" or caller.home_tenant:
            raise BadRequest("only a call with an API key, in its own name, renews that key")
        return KeyRefreshed((await self.rotate(caller.key_id, origin)).api_key, True)

    async def _find(self, caller: Caller, key_id: str) -> tuple[Entity, ApiKey]:
        entity = await self._entities.find(KIND, caller, key_id)
        if entity is None or not isinstance(entity.value, ApiKey) or not _sees(caller, entity.value):
            raise NotFound(f"there is no key {key_id!r}", key_id=key_id)
        return entity, entity.value

    async def _own(self, caller: Caller) -> list[Entity]:
        """Those in the caller's name, by id."""
        own: list[Entity] = []
        after = ""
        while True:
            found, _ = await self._entities.page(KIND, caller, after=after, limit=_PAGE)
            own += [entity for entity in found if isinstance(entity.value, ApiKey) and _sees(caller, entity.value)]
            if len(found) < _PAGE:
                return own
            after = parts_of(found[-1].entity_id).name


def _sees(caller: Caller, key: ApiKey) -> bool:
    return caller.role in ("admin", "owner") or key.user_id == caller.user_id


def _may_hand_out(caller: Caller, role: str, scopes: tuple[str, ...], user_id: str) -> None:
    """Raises Forbidden: the caller would give away what it does not have."""
    if outranks(caller.role, role):
        raise Forbidden(f"a key of role {role} is made by that role alone", field="role")
    if missing := [scope for scope in scopes if scope not in caller.scopes]:
        raise Forbidden(f"the caller itself has no {', '.join(missing)}", field="scopes")
    if user_id != caller.user_id and caller.role not in ("admin", "owner"):
        raise Forbidden("only the roles owner and admin make keys for other users", field="user_id")


def _seen(entity: Entity, used: dict[str, datetime]) -> KeySeen:
    key, key_id = entity.value, parts_of(entity.entity_id).name
    assert isinstance(key, ApiKey)
    return KeySeen(
        id=key_id,
        name=key.name,
        key_prefix=key.prefix,
        description=key.description,
        role=key.role,
        scopes=key.scopes,
        user_id=key.user_id,
        created_at=entity.created_at,
        created_by=key.issued_by,
        rotated_at=key.rotated_at or UNSET,
        expires_at=key.expires_at or UNSET,
        last_used_at=used.get(key_id, UNSET),
        is_active=not key.removed and not key.has_expired(datetime.now(UTC)),
    )
