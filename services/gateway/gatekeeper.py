"""Who calls, found out once for each request and each WebSocket, before any route."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from litestar.types import Scope
from msgspec import structs

from services.gateway.keyring import KeyRing
from services.gateway.paths import is_stream
from services.gateway.problems import BadRequest, Forbidden, Unauthorized, Unavailable
from services.gateway.scopes import is_public
from services.gateway.security import NOBODY, Caller, caller_of
from services.gateway.tokens import Tokens
from taskloom.domain.access import ACCOUNT_SCOPES, excess_scopes, outranks
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.keys import ApiKey
from taskloom.domain.ids import is_valid_id
from taskloom.keys import hash_of, looks_like_key

_TASKS: Final = "/api/v1/tasks/"
_IN_QUERY: Final = ("api_key", "token")


class Gatekeeper:
    """``keys`` None: open mode, where everybody may do everything and says by header who they are."""

    def __init__(self, keys: KeyRing | None, tokens: Tokens | None = None) -> None:
        self.keys = keys
        self.tokens = tokens

    async def admit(self, scope: Scope) -> Caller:
        """The caller of an HTTP request or a WebSocket; also left in the scope's state, as ``caller``.

        Credentials in the query string, where they are allowed, are taken out of it, so that nothing logs them; a
        redirect finds them in the state as ``query_credentials``, and what lets a stream go on as ``credential``.

        Raises:
            Unauthorized: no credentials, or none that are good.
            Forbidden: it acts for somebody for whom its role may not act.
            BadRequest: a header is no id.
            Unavailable: PostgreSQL does not answer.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        state: dict[str, Any] = scope.setdefault("state", {})
        if is_public(scope["path"]):
            caller = NOBODY
        elif self.keys is None:
            caller = caller_of(headers)
        else:
            state["caller"] = NOBODY
            credential = _credentials(scope, headers)
            caller = _acting_for(await self._known(credential), headers)
            state["credential"] = credential
        state["caller"] = caller
        return caller

    async def is_good(self, credential: str) -> bool:
        """Whether what let somebody in still would. True too while PostgreSQL does not answer: then nothing can have
        been revoked."""
        try:
            await self._known(credential)
        except Unauthorized:
            return False
        except Unavailable:
            return True
        return True

    async def _known(self, text: str) -> Caller:
        if not text:
            raise Unauthorized("Authentication required", message="send an API key as X-API-Key")
        assert self.keys is not None
        if looks_like_key(text) or self.tokens is None:
            return await self._standing(await self._of_key(text))
        caller = await self.tokens.read(text)
        if caller.key_id:
            _checked(await self.keys.by_id(caller.tenant_id, caller.key_id))
        # Tokens of an issuer elsewhere are its own affair: it ends them.
        return await self._standing(caller) if caller.key_id or caller.login_id else caller

    async def _standing(self, caller: Caller) -> Caller:
        """The caller as far as the account goes in whose name it acts, if there is one.

        Raises:
            Unauthorized: the user is disabled, or the login has ended.
            Unavailable: PostgreSQL does not answer, or the read side does not have the account yet.
        """
        assert self.keys is not None
        user = await self.keys.user(caller.tenant_id, caller.user_id)
        if user is None:
            if not caller.login_id:
                return caller
            self.keys.forget_user(caller.tenant_id, caller.user_id)
            raise Unavailable("the account cannot be seen yet; try again in a moment")
        if user.disabled:
            raise Unauthorized.invalid("the user is disabled")
        if caller.login_id and user.login(caller.login_id) is None:
            raise Unauthorized.invalid("the login has ended; sign in again")
        role = user.role if caller.login_id or outranks(user.role, caller.role) else caller.role
        given = ACCOUNT_SCOPES[role] if caller.login_id and not caller.key_id else caller.scopes
        scopes = frozenset(given).difference(excess_scopes(role, given))
        username = user.name if caller.login_id else caller.username
        return structs.replace(caller, role=role, scopes=scopes, username=username, email=user.email)

    async def _of_key(self, text: str) -> Caller:
        assert self.keys is not None
        key_hash = hash_of(text)
        found = None if key_hash is None else await self.keys.by_hash(key_hash)
        entity, key = _checked(found)
        place = parts_of(entity.entity_id)
        self.keys.note_use(place.tenant_id, place.name)
        return Caller(
            tenant_id=place.tenant_id,
            user_id=key.user_id,
            role=key.role,
            scopes=frozenset(key.scopes),
            key_id=place.name,
            by="key",
            username=key.name,
        )


def _checked(found: Entity | None) -> tuple[Entity, ApiKey]:
    if found is None or not isinstance(found.value, ApiKey) or found.value.removed:
        raise Unauthorized.invalid("the API key is unknown, or was revoked")
    if found.value.has_expired(datetime.now(UTC)):
        raise Unauthorized.invalid("the API key has expired; ask for another one")
    return found, found.value


def _credentials(scope: Scope, headers: Mapping[str, str]) -> str:
    """The key or token that was sent, "" for none; the header X-API-Key is looked at first."""
    in_query = _from_query(scope)
    if key := headers.get("x-api-key"):
        return key.strip()
    kind, _, rest = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and rest.strip():
        return rest.strip()
    return in_query


def _from_query(scope: Scope) -> str:
    """For who cannot send headers, an EventSource or WebSocket of a browser; so on streams alone."""
    query, path = scope["query_string"], scope["path"]
    if b"api_key=" not in query and b"token=" not in query:
        return ""
    streams = is_stream(path) or (path.startswith(_TASKS) and path.endswith("/stream"))
    if not streams or scope.get("method", "GET") != "GET":
        return ""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    given = {name: value for name, value in pairs if name in _IN_QUERY}
    scope["query_string"] = urlencode([(name, value) for name, value in pairs if name not in _IN_QUERY]).encode()
    scope["state"]["query_credentials"] = given
    return given.get("api_key") or given.get("token") or ""


def _acting_for(caller: Caller, headers: Mapping[str, str]) -> Caller:
    """The caller, or whom an owner or admin names by header."""
    tenant, user = headers.get("x-tenant-id"), headers.get("x-user-id")
    for name, value in (("X-Tenant-Id", tenant), ("X-User-Id", user)):
        if value and not is_valid_id(value):
            raise BadRequest(f"{value!r} is not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field=name)
    if tenant and tenant != caller.tenant_id and caller.role != "owner":
        raise Forbidden("only the role owner acts for another tenant", field="X-Tenant-Id")
    if user and user != caller.user_id and caller.role not in ("owner", "admin"):
        raise Forbidden("only the roles owner and admin act for another user", field="X-User-Id")
    return caller.acting_for(tenant or caller.tenant_id, user or caller.user_id)
