"""OpenID Connect providers: who vouches for people. Their ID tokens are checked here, and codes exchanged for them."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec
from msgspec import Struct

from services.gateway.account_settings import ProviderSetting
from services.gateway.jwks import TIMEOUT_S, KeySet, check_source, client_for
from services.gateway.problems import BadRequest, Unauthorized, Unavailable
from services.gateway.tokens import Issuer
from taskloom import telemetry
from taskloom.logins import identity_of

MAX_ANSWER_BYTES: Final = 256 * 1024
_REQUIRED: Final = ["exp", "iat", "iss", "sub"]
_log = telemetry.get_logger(__name__)


class Person(Struct, frozen=True):
    """Whom a provider vouches for. ``identity``: SHA-256 of who that is there. ``email``: confirmed, or empty."""

    identity: str
    provider: str
    email: str
    name: str


class Provider:
    """One provider; ``name`` is what sign-ins call it."""

    def __init__(self, name: str, setting: ProviderSetting, *, cache_s: float) -> None:
        place = f"TASKLOOM_SIGN_IN_PROVIDERS.{name}"
        self._name = name
        self._setting = setting
        self._issuer = Issuer(
            KeySet(setting.jwks, f"{place}.jwks", fresh_s=cache_s), setting.issuers, setting.client_id
        )
        if setting.token_url:
            check_source(setting.token_url, f"{place}.token_url")

    async def person(self, id_token: str) -> Person:
        """
        Raises:
            Unauthorized: the token is not the provider's for us, or has expired.
            Unavailable: the provider's keys cannot be read now.
        """
        claims = await self._issuer.claims(id_token, _REQUIRED)
        audience = claims["aud"]
        if not isinstance(audience, str) and len(audience) > 1 and claims.get("azp") != self._setting.client_id:
            raise Unauthorized.invalid("the token is for several clients, and not made for this one")
        confirmed = claims.get("email_verified") in (True, "true")
        return Person(
            identity_of(self._setting.issuer, str(claims["sub"])),
            self._name,
            _text(claims, "email", 320) if confirmed else "",
            _text(claims, "name", 256),
        )

    async def redeem(self, code: str, redirect_uri: str, verifier: str) -> str:
        """The ID token that a code stands for.

        Raises:
            BadRequest: codes are not taken.
            Unauthorized: the provider does not know the code.
            Unavailable: it does not answer.
        """
        if not self._setting.token_url:
            raise BadRequest(f"the provider {self._name} takes no codes here; send an ID token", field="code")
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self._setting.client_id,
        }
        if secret := self._setting.client_secret.get_secret_value():
            asked["client_secret"] = secret
        if verifier:
            asked["code_verifier"] = verifier
        answer = await self._ask(asked)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Unauthorized.invalid("the provider answers the code without an ID token; ask for the scope openid")
        return token

    async def _ask(self, asked: dict[str, str]) -> dict[str, Any]:
        url = self._setting.token_url
        try:
            async with client_for(url) as client, asyncio.timeout(TIMEOUT_S):
                answer = await client.post(url, data=asked, headers={"Accept": "application/json"})
        except (httpx.HTTPError, TimeoutError) as error:
            _log.warning("a provider does not answer", provider=self._name, reason=repr(error))
            raise Unavailable(f"the provider {self._name} does not answer; try again later") from error
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            _log.warning("a provider does not answer", provider=self._name, status=answer.status_code)
            raise Unavailable(f"the provider {self._name} answers {answer.status_code}; try again later")
        body = _json(answer.content)
        if answer.status_code != httpx.codes.OK:
            why = _text(body, "error", 100) or f"it answers {answer.status_code}"
            raise Unauthorized.invalid(f"the provider does not take the code: {why}")
        return body


def providers_of(settings: Mapping[str, ProviderSetting], *, cache_s: float) -> dict[str, Provider]:
    """By name.

    Raises:
        SettingsError: a URL is neither https nor one of this machine.
    """
    return {name: Provider(name, setting, cache_s=cache_s) for name, setting in settings.items()}


def _json(content: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(content) if len(content) <= MAX_ANSWER_BYTES else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = {}
    return body if isinstance(body, dict) else {}


def _text(claims: Mapping[str, Any], name: str, most: int) -> str:
    value = claims.get(name)
    return value.replace("\x00", "")[:most] if isinstance(value, str) else ""
