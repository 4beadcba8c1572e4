"""JSON Web Tokens: made here and signed with a secret (HS256), which others may share; and taken from an issuer that
signs with keys of its own (RS256, ES256), whose public keys are known."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import jwt
from msgspec import structs

from services.gateway.jwks import VerifyingKey
from services.gateway.problems import Unauthorized
from services.gateway.security import Caller
from taskloom.domain.access import USUAL_SCOPES, excess_scopes
from taskloom.domain.ids import is_valid_id

ALGORITHM: Final = "HS256"
LEEWAY_S: Final = 5
_REQUIRED: Final = ["exp", "iss", "sub", "tenant_id"]


class FindsKeys(Protocol):
    """Part of ``jwks.KeySet``."""

    async def find(self, kid: str | None) -> VerifyingKey | None: ...


class Issuer:
    """Who signs tokens with keys of its own. ``audience``: the claim ``aud`` that they must have; "": none."""

    def __init__(self, keys: FindsKeys, issuer: str | tuple[str, ...], audience: str = "") -> None:
        self._keys = keys
        self._issuer = [issuer] if isinstance(issuer, str) else [*issuer]
        self._audience = audience

    async def claims(self, token: str, required: list[str]) -> dict[str, Any]:
        """
        Raises:
            Unauthorized: the token is not this issuer's, has expired, is for somebody else, or lacks a claim.
            Unavailable: the issuer's keys cannot be read now.
        """
        header = _header_of(token)
        key = await self._keys.find(header.get("kid"))
        if key is None:
            raise Unauthorized.invalid("the token is signed with a key that its issuer does not have")
        if header.get("alg") != key.algorithm:
            raise Unauthorized.invalid(f"the token's key is for {key.algorithm}, not {header.get('alg')}")
        return _claims(token, key.key, key.algorithm, self._issuer, required, self._audience)


class Tokens:
    """``secret`` empty: none are made, and none of HS256 are taken. ``issuer``: the claim ``iss`` of these.

    ``elsewhere``: who else's are taken. ``lifetime_s``: how long a token that is made here is good for, in seconds.
    """

    def __init__(self, secret: str, issuer: str, lifetime_s: float, elsewhere: Issuer | None = None) -> None:
        self._secret = secret
        self._issuer = issuer
        self._elsewhere = elsewhere
        self.lifetime_s = lifetime_s

    @property
    def makes(self) -> bool:
        return bool(self._secret)

    def make(self, caller: Caller, now: datetime | None = None) -> str:
        """A token with the caller's rights; it ends with the key that it was made for, if that is revoked earlier."""
        made_at = now or datetime.now(UTC)
        claims = {
            "iss": self._issuer,
            "sub": caller.user_id,
            "tenant_id": caller.tenant_id,
            "username": caller.username,
            "email": caller.email,
            "role": caller.role,
            "scopes": sorted(caller.scopes),
            "key_id": caller.key_id,
            "login_id": caller.login_id,
            "iat": made_at,
            "exp": made_at + timedelta(seconds=self.lifetime_s),
        }
        return jwt.encode(claims, self._secret, ALGORITHM)

    async def read(self, token: str) -> Caller:
        """Whom a token is for.

        Raises:
            Unauthorized: it has expired, is signed by somebody else, or a claim is missing or wrong.
            Unavailable: whether its signature is right cannot be checked now.
        """
        own = _header_of(token).get("alg") == ALGORITHM
        if own and self._secret:
            claims = _claims(token, self._secret, ALGORITHM, [self._issuer], _REQUIRED, "")
            return structs.replace(_caller_of(claims), login_id=str(claims.get("login_id", "")))
        if own or self._elsewhere is None:
            raise Unauthorized.invalid("the token is signed in a way that is not taken here")
        return _caller_of(await self._elsewhere.claims(token, _REQUIRED))


def _header_of(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise Unauthorized.invalid(f"the token cannot be used: {error}") from error


def _claims(
    token: str, key: Any, algorithm: str, issuer: list[str], required: list[str], audience: str
) -> dict[str, Any]:
    try:
        return jwt.decode(
            token,
            key,
            [algorithm],
            issuer=issuer,
            audience=audience or None,
            options={"require": required + ["aud"] * bool(audience)},
            leeway=LEEWAY_S,
        )
    except jwt.ExpiredSignatureError as error:
        raise Unauthorized.invalid("the token has expired; get another one") from error
    except jwt.InvalidTokenError as error:
        raise Unauthorized.invalid(f"the token cannot be used: {error}") from error


def _caller_of(claims: dict[str, Any]) -> Caller:
    for claim in ("sub", "tenant_id"):
        if not isinstance(claims[claim], str) or not is_valid_id(claims[claim]):
            raise Unauthorized.invalid(f"the claim {claim} is no id (1 to 128 of A-Z a-z 0-9 : _ - .)")
    role = claims.get("role", "user")
    if role not in USUAL_SCOPES:
        raise Unauthorized.invalid(f"the claim role is none of {', '.join(USUAL_SCOPES)}")
    given = claims.get("scopes", USUAL_SCOPES[role])
    if not isinstance(given, str | list | tuple):
        raise Unauthorized.invalid("the claim scopes is neither a list nor a text")
    scopes = frozenset(given.split() if isinstance(given, str) else map(str, given))
    return Caller(
        tenant_id=claims["tenant_id"],
        user_id=claims["sub"],
        role=role,
        scopes=scopes.difference(excess_scopes(role, scopes)),
        key_id=str(claims.get("key_id", "")),
        by="token",
        username=str(claims.get("username", "")),
        email=str(claims.get("email", "")),
    )
