"""Public keys of who signs tokens elsewhere: a JSON Web Key Set (RFC 7517), read from a file or over HTTP, and kept for
a bounded time.

What a key may verify is fixed by the key, never by the token (RFC 8725, 3.1): so a public key is no HMAC secret to
anybody. A ``kid`` that is not known makes the set be read again, so a rotation is seen at once; but at most once in
``AGAIN_S``, so that made-up ones are not worth sending. While the source does not answer, known keys hold for
``STALE_S``.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
from msgspec import Struct
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from services.gateway.problems import Unavailable
from services.gateway.security import is_loopback
from taskloom import telemetry
from taskloom.settings import SettingsError

AGAIN_S: Final = 10.0
STALE_S: Final = 3600.0
TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048

_ALGORITHMS: Final = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""By ``kty`` and ``crv``; the first is that of a key which does not say its ``alg``. No secrets: a set is public."""

_PUBLIC: Final = ("kty", "crv", "n", "e", "x", "y")
_log = telemetry.get_logger(__name__)


class KeysUnusable(SettingsError):
    """The key set cannot be read, or has no key that a token could be checked with."""


class VerifyingKey(Struct, frozen=True):
    """``algorithm``: the only one that it verifies."""

    kid: str
    algorithm: str
    key: Any


def read_keys(text: bytes) -> tuple[VerifyingKey, ...]:
    """The keys of a set that verify signatures; those of other uses and kinds are left out.

    Raises:
        KeysUnusable: it is no key set, or none is left.
    """
    try:
        listed = msgspec.json.decode(text)["keys"]
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise KeysUnusable('it is no JSON Web Key Set: {"keys": [...]}') from error
    found = [_read_key(each) for each in listed[:MAX_KEYS]] if isinstance(listed, list) else []
    kept = tuple(key for key in found if key is not None)
    if not kept:
        known = ", ".join(sorted({name for names in _ALGORITHMS.values() for name in names}))
        raise KeysUnusable(f"it has no key that signatures are checked with ({known}; RSA of {MIN_RSA_BITS} bits)")
    return kept


class _Jwk(Struct):
    """What of a key says what it is for."""

    kty: str
    crv: str | None = None
    alg: str | None = None
    kid: str = ""
    use: str = "sig"
    key_ops: tuple[str, ...] = ("verify",)


def _read_key(stored: Any) -> VerifyingKey | None:
    try:
        jwk = msgspec.convert(stored, _Jwk)
    except msgspec.ValidationError:
        return None
    possible = _ALGORITHMS.get((jwk.kty, jwk.crv), ())
    algorithm = jwk.alg or (possible[0] if possible else "")
    if algorithm not in possible or jwk.use != "sig" or "verify" not in jwk.key_ops:
        return None
    try:
        key = jwt.PyJWK({name: stored[name] for name in _PUBLIC if name in stored}, algorithm).key
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
    if jwk.kty == "RSA" and key.key_size < MIN_RSA_BITS:
        return None
    return VerifyingKey(jwk.kid, algorithm, key)


class KeySet:
    """The keys at ``source``, a path or a URL. ``name``: the setting to name in faults. ``fresh_s``: how long they are
    believed without another look.

    Raises:
        SettingsError: the URL is neither https nor that of this machine.
    """

    def __init__(self, source: str, name: str, *, fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._name = name
        self._fresh_s = fresh_s
        self._clock = clock
        self._keys: tuple[VerifyingKey, ...] = ()
        self._read_at = self._tried_at = float("-inf")
        self._fault = ""
        self._reading: asyncio.Task[None] | None = None
        check_source(source, name)

    async def read(self) -> None:
        """Reads the set, as at a start.

        Raises:
            KeysUnusable: says what is wrong with it, and where.
        """
        self._tried_at = self._clock()
        try:
            self._keys = read_keys(await _text_at(self._source))
        except (OSError, httpx.HTTPError, httpx.InvalidURL, TimeoutError, KeysUnusable) as error:
            self._fault = str(error) or type(error).__name__
            raise KeysUnusable(f"{self._name}: the keys at {self._source} cannot be used: {self._fault}") from error
        self._read_at, self._fault = self._tried_at, ""

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of this id, or without one the only key; None when there is none.

        Raises:
            Unavailable: it is not known here, and its source does not answer.
        """
        found = self._find(kid)
        if found is not None and self._clock() - self._read_at < self._fresh_s:
            return found
        if self._reading is not None or self._clock() - self._tried_at >= AGAIN_S:
            await self._read_once()
            found = self._find(kid)
        if found is not None and self._clock() - self._read_at < STALE_S:
            return found
        if self._fault:
            raise Unavailable("who signed the token cannot be checked now: the keys of its issuer cannot be read")
        return None

    def _find(self, kid: str | None) -> VerifyingKey | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == kid), None)

    async def _read_once(self) -> None:
        """One read for all who wait for one; what goes wrong is kept in ``_fault``."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_again())
        await asyncio.shield(self._reading)

    async def _read_again(self) -> None:
        try:
            await self.read()
        except KeysUnusable as error:
            _log.warning("keys of tokens are not read anew", reason=str(error))
        finally:
            self._reading = None


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def check_source(source: str, name: str) -> None:
    """Raises SettingsError: anybody on the way could put other keys in the place of these."""
    if is_url(source) and not source.startswith("https://") and not is_loopback(urlsplit(source).hostname or ""):
        raise SettingsError(f"{name}={source!r}: use https; plain http is for addresses of this machine alone")


@retry(retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_attempt(2), reraise=True)
async def _text_at(source: str) -> bytes:
    """A connection that breaks is tried once more at once: without the keys nobody gets in."""
    if not is_url(source):
        return await asyncio.to_thread(_file_at, source)
    async with (
        client_for(source) as client,
        asyncio.timeout(TIMEOUT_S),
        client.stream("GET", source, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise KeysUnusable(f"it answers {answer.status_code}")
        text = b""
        async for part in answer.aiter_bytes():
            text += part
            if len(text) > MAX_BYTES:
                raise KeysUnusable(f"it has more than {MAX_BYTES} bytes")
        return text


def client_for(url: str) -> httpx.AsyncClient:
    """Asks no proxy for this machine itself, and follows no redirect."""
    return httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=not is_loopback(urlsplit(url).hostname or ""))


def _file_at(path: str) -> bytes:
    with Path(path).open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise KeysUnusable(f"it has more than {MAX_BYTES} bytes")
    return text
