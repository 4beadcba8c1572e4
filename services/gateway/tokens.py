"""JSON Web Tokens, HS256: made for who has a key, and taken from whoever else signs with the same secret."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from services.gateway.problems import Unauthorized
from services.gateway.security import Caller
from taskloom.domain.access import USUAL_SCOPES, excess_scopes
from taskloom.domain.ids import is_valid_id

ALGORITHM: Final = "HS256"
_REQUIRED: Final = ["exp", "iss", "sub", "tenant_id"]


class Tokens:
    """``lifetime_s``: how long a token that is made here is good for, in seconds."""

    def __init__(self, secret: str, issuer: str, lifetime_s: float) -> None:
        self._secret = secret
        self._issuer = issuer
        self.lifetime_s = lifetime_s

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
            "iat": made_at,
            "exp": made_at + timedelta(seconds=self.lifetime_s),
        }
        return jwt.encode(claims, self._secret, ALGORITHM)

    def read(self, token: str) -> Caller:
        """Whom a token is for.

        Raises:
            Unauthorized: it has expired, is signed by somebody else, or a claim is missing or wrong.
        """
        try:
            claims = jwt.decode(
                token, self._secret, [ALGORITHM], issuer=self._issuer, options={"require": _REQUIRED}, leeway=5
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized.invalid("the token has expired; get another one") from error
        except jwt.InvalidTokenError as error:
            raise Unauthorized.invalid(f"the token cannot be used: {error}") from error
        return _caller_of(claims)


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
