"""Accounts of people: in with what a provider says of them, on with refresh tokens, out.

A user is an entity: the owner of its partition alone decides about logins, so a token is good once over all gateways.
A user is found by who they are at the provider; one that is not there yet is made in the tenant of an invitation, in
that of their email domain, or in one of their own.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from services.gateway.account_settings import DomainSetting
from services.gateway.entities import Entities
from services.gateway.keyring import KeyRing
from services.gateway.keys import Keys, NewApiKey
from services.gateway.problems import BadRequest, Conflict, Forbidden, NotFound, NotOffered, Unauthorized
from services.gateway.providers import Person, Provider
from services.gateway.quotas import Quotas
from services.gateway.readside import Views
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.throttle import Plans
from services.gateway.tokens import Tokens
from taskloom.domain.access import ACCOUNT_SCOPES, Role
from taskloom.domain.entities.commands import AcceptInvitation, EndLogin, RefreshLogin, SignIn
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.scheduling.quotas import Quota
from taskloom.logins import NewRefresh, new_refresh, next_refresh, read_invitation, read_refresh

FIRST_KEY: Final = "first key"
_ID_CHARS: Final = 24
_INVALID: Final = "invalid_refresh_token"
_NO_PROVIDER: Final = (
    "there are no accounts here: an operator can name a provider of identities in TASKLOOM_SIGN_IN_PROVIDERS. An admin "
    "makes keys (POST /api/v1/auth/api-keys), and a key gets tokens (POST /api/v1/auth/token)"
)
Secret = Annotated[str, Meta(min_length=1, max_length=16_384)]


class NewSignIn(Struct, frozen=True, forbid_unknown_fields=True):
    """``token``, an ID token of the provider; or ``code`` with the ``redirect_uri`` that it was asked for with, and the
    ``code_verifier`` where there is one. ``invitation``: the code of one, for who has no account yet."""

    provider: Annotated[str, Meta(max_length=100)] = "google"
    token: Secret | None = None
    code: Secret | None = None
    redirect_uri: Annotated[str, Meta(max_length=2048)] = ""
    code_verifier: Annotated[str, Meta(max_length=256)] = ""
    invitation: Annotated[str, Meta(max_length=1024)] = ""


class RefreshWish(Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Secret


class AccountSeen(Struct, frozen=True):
    """The user as themselves see it."""

    user_id: str
    tenant_id: str
    email: str
    username: str
    role: str


class SignedIn(Struct, frozen=True, kw_only=True):
    """``expires_in``: of the access token, in seconds. ``api_key`` is there for new users alone, and never again."""

    user_id: str
    tenant_id: str
    access_token: str
    refresh_token: str
    token_type: str = "Bearer"
    expires_in: int
    api_key: str | UnsetType = UNSET
    tier: str
    is_new_user: bool
    quotas: Quota
    user: AccountSeen


class Refreshed(Struct, frozen=True, kw_only=True):
    """Both tokens are new; the refresh token before is used up."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"
    expires_in: int


class Accounts:
    """``refresh_s``: how long a refresh token is good. ``anyone``: whoever has no place yet gets a tenant of their
    own."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        entities: Entities,
        views: Views,
        ring: KeyRing,
        keys: Keys,
        tokens: Tokens | None,
        quotas: Quotas,
        plans: Plans,
        *,
        domains: Mapping[str, DomainSetting],
        anyone: bool,
        refresh_s: float,
    ) -> None:
        self._providers = providers
        self._entities = entities
        self._views = views
        self._ring = ring
        self._keys = keys
        self._tokens = tokens
        self._quotas = quotas
        self._plans = plans
        self._domains = domains
        self._anyone = anyone
        self._refresh_s = refresh_s

    async def sign_in(self, wish: NewSignIn, origin: Origin) -> tuple[SignedIn, Caller]:
        """Tokens for whom a provider vouches for, and who that is.

        Raises:
            NotOffered: no provider is set.
            BadRequest: the provider is another one, or neither a token nor a code is there.
            Unauthorized: the provider does not vouch for it.
            Forbidden: the user is disabled, or accounts are for invited people.
            NotFound, Conflict: the invitation cannot be used.
            Unavailable: provider, PostgreSQL or Kafka do not answer.
        """
        tokens = self._offered()
        person = await self._person(wish)
        place, role = await self._place_of(person, wish.invitation, origin)
        refresh = new_refresh(place.tenant_id, place.user_id)
        parts = refresh.parts
        command = SignIn(
            person.identity,
            person.provider,
            parts.login_id,
            parts.family_hash,
            parts.token_hash,
            self._expiry(),
            role,
            person.email,
            person.name,
        )
        try:
            told = (await self._change(place, command, origin)).data
        except Conflict as refused:
            if refused.field == "disabled":
                raise Forbidden("the user is disabled; ask an admin of the tenant") from refused
            raise
        caller = _account(place, told["role"], person, parts.login_id)
        is_new = told["logins"].get(parts.login_id, [0])[0] == 1
        own = structs.replace(origin, caller=caller, key="")
        made = await self._keys.issue(NewApiKey(FIRST_KEY, role=told["role"]), own) if is_new else None
        signed_in = SignedIn(
            user_id=caller.user_id,
            tenant_id=caller.tenant_id,
            access_token=tokens.make(caller),
            refresh_token=refresh.text,
            expires_in=int(tokens.lifetime_s),
            api_key=UNSET if made is None else made.api_key,
            tier=self._plans.tier_of(caller.tenant_id),
            is_new_user=is_new,
            quotas=self._quotas.quota_of(caller.tenant_id),
            user=AccountSeen(caller.user_id, caller.tenant_id, caller.email, caller.username, caller.role),
        )
        return signed_in, caller

    async def refresh(self, text: str, origin: Origin) -> tuple[Refreshed, Caller]:
        """New tokens for a refresh token, which is good once.

        Raises:
            NotOffered: no provider is set.
            Unauthorized: it is unknown, has expired, or was used before: then its login has ended.
            Unavailable: Kafka or the orchestrator do not answer.
        """
        tokens = self._offered()
        before = read_refresh(text)
        if before is None:
            raise Unauthorized(_INVALID, message="this is no refresh token")
        place = Caller(before.tenant_id, before.user_id, by="token")
        after: NewRefresh = next_refresh(text)
        command = RefreshLogin(
            before.login_id, before.family_hash, before.token_hash, after.parts.token_hash, self._expiry()
        )
        try:
            told = (await self._change(place, command, origin)).data
        except (NotFound, Conflict, BadRequest) as refused:
            raise Unauthorized(_INVALID, message="it has expired, or its login has ended; sign in again") from refused
        if told["logins"].get(before.login_id, [0, ""])[1] != after.parts.token_hash:
            raise Unauthorized(_INVALID, message="it was used before, so its login has ended; sign in again")
        user = await self._ring.user(before.tenant_id, before.user_id)
        known = Person("", "", user.email, user.name) if user is not None else Person("", "", "", "")
        caller = _account(place, told["role"], known, before.login_id)
        made = Refreshed(access_token=tokens.make(caller), refresh_token=after.text, expires_in=int(tokens.lifetime_s))
        return made, caller

    async def sign_out(self, origin: Origin) -> None:
        """Raises BadRequest: the call was not made with a token of a sign-in."""
        caller = origin.caller
        if not caller.login_id or caller.home_tenant:
            raise BadRequest("only a call with the access token of a sign-in, in its own name, ends that login")
        await self._change(caller, EndLogin(caller.login_id), origin)

    def _offered(self) -> Tokens:
        if not self._providers or self._tokens is None or not self._tokens.makes:
            raise NotOffered(_NO_PROVIDER)
        return self._tokens

    async def _person(self, wish: NewSignIn) -> Person:
        provider = self._providers.get(wish.provider)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            raise BadRequest(f"{wish.provider!r} is not a provider here; known are {known}", field="provider")
        if (wish.token is None) == (wish.code is None):
            raise BadRequest("send either an ID token as token, or a code with its redirect_uri", field="token")
        if wish.token is not None:
            return await provider.person(wish.token)
        assert wish.code is not None
        if not wish.redirect_uri:
            raise BadRequest("send the redirect_uri that the code was asked for with", field="redirect_uri")
        return await provider.person(await provider.redeem(wish.code, wish.redirect_uri, wish.code_verifier))

    async def _place_of(self, person: Person, invitation: str, origin: Origin) -> tuple[Caller, Role]:
        """Tenant and user of a person, and the role that a new one gets."""
        found = await self._views.account(person.identity)
        invited = read_invitation(invitation) if invitation else None
        if invitation and invited is None:
            raise NotFound("there is no such invitation", field="invitation")
        if found is not None:
            at = parts_of(found.entity_id)
            if invited is not None and invited.tenant_id != at.tenant_id:
                raise Conflict(f"this account is in the tenant {at.tenant_id} already", field="invitation")
            return Caller(at.tenant_id, at.name, by="token"), "user"
        name = person.identity[:_ID_CHARS]
        if invited is not None:
            place = Caller(invited.tenant_id, f"usr_{name}", by="token")
            accept = AcceptInvitation(invited.code_hash, place.user_id, person.email)
            own = structs.replace(origin, caller=place, key="")
            try:
                reply = await self._entities.change(invited.invitation_id, accept, own)
            except (NotFound, Conflict) as refused:
                raise type(refused)(str(refused), field="invitation") from refused
            return place, reply.data["role"]
        domain = self._domains.get(person.email.rpartition("@")[2].lower())
        if domain is not None:
            return Caller(domain.tenant, f"usr_{name}", by="token"), domain.role
        if not self._anyone:
            raise Forbidden("accounts are for invited people here; ask an admin of the tenant for an invitation")
        return Caller(f"own_{name}", f"usr_{name}", by="token"), "admin"

    async def _change(self, place: Caller, command: Any, origin: Origin) -> Any:
        own = structs.replace(origin, caller=place, key="")
        try:
            return await self._entities.change(place.user_id, command, own)
        finally:
            self._ring.forget_user(place.tenant_id, place.user_id)

    def _expiry(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._refresh_s)


def _account(place: Caller, role: Role, person: Person, login_id: str) -> Caller:
    return Caller(
        place.tenant_id,
        place.user_id,
        role=role,
        scopes=frozenset(ACCOUNT_SCOPES[role]),
        by="token",
        username=person.name,
        email=person.email,
        login_id=login_id,
    )
