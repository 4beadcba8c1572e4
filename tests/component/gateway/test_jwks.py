"""Tokens that an issuer signs with keys of its own (RS256, ES256); the public ones come over HTTP or from a file."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from litestar import Litestar

from services.gateway import jwks
from services.gateway.app import create_app, issuer_keys_of
from services.gateway.jwks import AGAIN_S, STALE_S, KeySet, KeysUnusable, read_keys
from services.gateway.parts import Parts
from services.gateway.problems import Unavailable
from taskloom.settings import SettingsError
from tests.component.gateway.access import SECRET, client_of, settings_with_keys
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.provider import EC_KEY, RSA_KEYS, Provider, jwk_of, provider

ME = "/api/v1/auth/me"
FRESH_S = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Iterator[Provider]:
    with provider() as found:
        yield found


@pytest.fixture
def keys(issuer: Provider, clock: Clock) -> KeySet:
    return KeySet(issuer.jwks, "TASKLOOM_JWT_JWKS", fresh_s=FRESH_S, clock=clock)


def app_of(system: MemorySystem, issuer: Provider, keys: KeySet, **fields: Any) -> Litestar:
    settings = settings_with_keys(jwt_jwks=issuer.jwks, jwt_jwks_issuer=issuer.url, **fields)
    return create_app(
        Parts(settings, system, system, system, system, system, system.tail, issuer_keys=keys),
    )


async def status_of(app: Litestar, token: str) -> tuple[int, dict[str, Any]]:
    async with client_of(app, Authorization=f"Bearer {token}") as client:
        answer = await client.get(ME)
    return answer.status_code, answer.json()


@pytest.fixture
def app(system: MemorySystem, issuer: Provider, keys: KeySet) -> Litestar:
    return app_of(system, issuer, keys)


async def test_tokens_of_both_kinds_of_key_are_taken_beside_those_of_the_secret(
    app: Litestar, issuer: Provider
) -> None:
    issuer.rotate("first", "ec-1")
    for kid in ("first", "ec-1"):
        status, me = await status_of(app, issuer.sign(kid, sub="zoe", tenant_id="red", role="admin"))
        assert (status, me["user_id"], me["tenant_id"], me["role"]) == (200, "zoe", "red", "admin")
    shared = jwt.encode({"iss": "shannon-platform", "sub": "bo", "tenant_id": "t", "exp": 2**33}, SECRET, "HS256")
    assert (await status_of(app, shared))[0] == 200
    assert issuer.reads == 1


async def test_without_a_secret_tokens_of_the_issuer_alone_are_taken(
    system: MemorySystem, issuer: Provider, keys: KeySet
) -> None:
    app = app_of(system, issuer, keys, jwt_secret="")
    token = issuer.sign(sub="zoe", tenant_id="red")
    assert (await status_of(app, token))[0] == 200
    shared = jwt.encode({"iss": issuer.url, "sub": "bo", "tenant_id": "t", "exp": 2**33}, SECRET, "HS256")
    assert (await status_of(app, shared))[0] == 401
    async with client_of(app, Authorization=f"Bearer {token}") as client:
        assert (await client.post("/api/v1/auth/token")).status_code == 501


@pytest.mark.parametrize(
    "claims", [{"iss": "https://elsewhere"}, {"exp": 5}, {"sub": None}, {"tenant_id": None}, {"aud": "else"}]
)
async def test_a_token_with_other_claims_is_refused(app: Litestar, issuer: Provider, claims: dict[str, Any]) -> None:
    status, body = await status_of(app, issuer.sign(**{"sub": "zoe", "tenant_id": "red", **claims}))
    assert (status, body["error"]) == (401, "Invalid token")


async def test_an_audience_that_is_set_must_be_there(system: MemorySystem, issuer: Provider, keys: KeySet) -> None:
    app = app_of(system, issuer, keys, jwt_jwks_audience="taskloom")
    for audience, expected in (("taskloom", 200), (["x", "taskloom"], 200), ("x", 401), (None, 401)):
        assert (await status_of(app, issuer.sign(sub="z", tenant_id="r", aud=audience)))[0] == expected, audience


async def test_the_public_key_is_nobodys_secret(app: Litestar, issuer: Provider, system: MemorySystem) -> None:
    """Whoever signs with HS256 and the public key as the secret, or puts another algorithm into the header."""
    claims = {"iss": issuer.url, "sub": "eve", "tenant_id": "red", "exp": 2**33}
    public = RSA_KEYS[0].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    forged = [_hs256(claims, secret, kid) for secret in (pem, issuer.document(), b"") for kid in ("first", None)]
    forged += [jwt.encode(claims, "", "none", headers={"kid": "first"})]
    forged += [jwt.encode(claims, RSA_KEYS[0], "RS384", headers={"kid": "first"})]  # right key, not its algorithm
    forged += [jwt.encode(claims, EC_KEY, "ES256", headers={"kid": "first"})]
    forged += [jwt.encode(claims, RSA_KEYS[1], "RS256", headers={"kid": "first"})]
    own = [jwk_of("first", RSA_KEYS[1])]  # a key that the token brings along
    forged += [jwt.encode(claims, RSA_KEYS[1], "RS256", headers={"kid": "mine", "jwk": own, "jku": "http://x/"})]
    keyless = app_of(system, issuer, KeySet(issuer.jwks, "X", fresh_s=FRESH_S), jwt_secret="")
    for place, token in enumerate(forged):
        assert (await status_of(app, token))[0] == 401, place
        assert (await status_of(keyless, token))[0] == 401, place


def _hs256(claims: dict[str, Any], secret: bytes, kid: str | None) -> str:
    """As an attacker writes it: PyJWT itself refuses to sign with a public key."""
    parts = [{"alg": "HS256", "typ": "JWT", **({"kid": kid} if kid else {})}, claims]
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    made = hmac.new(secret, text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(made).rstrip(b"=")).decode()


async def test_a_rotation_is_seen_by_its_kid_and_ends_the_key_before(
    issuer: Provider, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find("first")
    issuer.rotate("second", "ec-2")
    clock.now += AGAIN_S
    assert (await keys.find("second"), issuer.reads) != (None, 1)
    assert await keys.find("ec-2")
    assert await keys.find("first") is None


async def test_a_key_that_was_withdrawn_is_believed_no_longer_than_said(
    issuer: Provider, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find("first")
    issuer.rotate("second")
    clock.now += FRESH_S - 1
    assert await keys.find("first")
    clock.now += 1
    assert await keys.find("first") is None


async def test_unknown_kids_do_not_make_it_ask_more_than_once_in_a_while(
    issuer: Provider, keys: KeySet, clock: Clock
) -> None:
    found = await asyncio.gather(*(keys.find(f"made-up-{number}") for number in range(50)))
    assert (found, issuer.reads) == ([None] * 50, 1)
    assert (await keys.find("more"), issuer.reads) == (None, 1)
    clock.now += AGAIN_S
    assert (await keys.find("more"), issuer.reads) == (None, 2)


async def test_without_a_kid_the_only_key_is_meant(issuer: Provider, keys: KeySet, clock: Clock) -> None:
    assert await keys.find(None)
    issuer.rotate("one", "ec-two")
    clock.now += FRESH_S
    assert await keys.find(None) is None


async def test_while_its_source_is_away_known_keys_hold_and_then_it_says_so(
    app: Litestar, issuer: Provider, keys: KeySet, clock: Clock
) -> None:
    token = issuer.sign(sub="zoe", tenant_id="red")
    stranger = issuer.sign("second", RSA_KEYS[1], sub="zoe", tenant_id="red")
    assert (await status_of(app, token))[0] == 200
    issuer.broken = True
    for passed_s, expected in ((FRESH_S, 200), (STALE_S - FRESH_S - 1, 200), (1, 503)):
        clock.now += passed_s
        assert (await status_of(app, token))[0] == expected
        assert (await status_of(app, stranger))[0] == 503
    issuer.broken = False
    clock.now += AGAIN_S
    assert (await status_of(app, token))[0] == 200
    assert (await status_of(app, stranger))[0] == 401


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b'{"keys": 7}', b'{"keys": []}', b'{"keys": [7, {"kty": "oct"}]}']
)
async def test_a_start_says_what_is_wrong_with_the_keys_and_where(
    issuer: Provider, keys: KeySet, answer: bytes
) -> None:
    issuer.raw = answer
    with pytest.raises(KeysUnusable, match=f"TASKLOOM_JWT_JWKS: the keys at {issuer.jwks} cannot be used: it "):
        await keys.read()


async def test_a_start_without_the_server_or_with_an_error_fails(issuer: Provider, keys: KeySet) -> None:
    issuer.broken = True
    with pytest.raises(KeysUnusable, match="it answers 500"):
        await keys.read()
    with pytest.raises(KeysUnusable, match="cannot be used"):
        await KeySet("http://127.0.0.1:1/jwks", "TASKLOOM_JWT_JWKS", fresh_s=1).read()
    with pytest.raises(Unavailable):
        await keys.find("first")


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    issuer: Provider, keys: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MAX_BYTES", 100)
    with pytest.raises(KeysUnusable, match="more than 100 bytes"):
        await keys.read()


async def test_keys_come_from_a_file_too_which_may_change(issuer: Provider, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    keys = KeySet(str(path), "TASKLOOM_JWT_JWKS", fresh_s=FRESH_S, clock=clock)
    with pytest.raises(KeysUnusable, match="No such file"):
        await keys.read()
    path.write_bytes(issuer.document())
    await keys.read()
    assert await keys.find("first")
    issuer.rotate("second")
    path.write_bytes(issuer.document())
    clock.now += AGAIN_S
    assert await keys.find("second")


def test_plain_http_is_for_this_machine_alone() -> None:
    for url in ("http://example.org/jwks", "http://10.0.0.7/jwks"):
        with pytest.raises(SettingsError, match=r"TASKLOOM_JWT_JWKS.*use https"):
            issuer_keys_of(settings_with_keys(jwt_jwks=url))
    assert issuer_keys_of(settings_with_keys(jwt_jwks="https://example.org/jwks"))
    assert issuer_keys_of(settings_with_keys()) is None


def test_only_keys_that_check_signatures_are_taken_each_for_its_own_algorithm() -> None:
    usual = jwk_of("a", RSA_KEYS[0])
    small = jwk_of("small", rsa.generate_private_key(public_exponent=65537, key_size=1024))
    others = [{**usual, "use": "enc"}, {**usual, "key_ops": ["encrypt"]}, {**usual, "alg": "HS256"}, small]
    others += [{**usual, "n": "!"}, {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, {"kty": ["RSA"]}]
    found = read_keys(json.dumps({"keys": [*others, usual, {**usual, "alg": "PS256"}, jwk_of("e", EC_KEY)]}).encode())
    assert [(key.kid, key.algorithm) for key in found] == [("a", "RS256"), ("a", "PS256"), ("e", "ES256")]
