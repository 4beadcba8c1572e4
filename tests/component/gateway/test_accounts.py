"""Sign-in of people by a provider of identities, their tokens, and the users of a tenant."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from httpx import AsyncClient as Client
from litestar import Litestar

from services.gateway.app import create_app
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from taskloom.domain.access import MANAGE_KEYS, MANAGE_USERS
from taskloom.settings import SettingsError, load
from tests.component.gateway.access import SECRET, AuditOf, app_with_keys, client_of, issued, settings_with_keys
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.provider import CLIENT_ID, RSA_KEYS, Provider, provider
from tests.unit.gateway.test_rates import Windows

Json = dict[str, Any]
AUTH = "/api/v1/auth"
USERS = "/api/v1/users"
INVITATIONS = "/api/v1/invitations"
ME = f"{AUTH}/me"


@pytest.fixture
def google() -> Iterator[Provider]:
    with provider() as found:
        yield found


def fields_for(google: Provider, **fields: Any) -> Json:
    setting = {
        "client_id": CLIENT_ID,
        "client_secret": "shh",
        "issuer": google.url,
        "jwks": google.jwks,
        "token_url": f"{google.url}/token",
    }
    return {"sign_in_providers": {"google": setting}, "key_cache_s": 0, **fields}


@pytest.fixture
def app(system: MemorySystem, google: Provider) -> Litestar:
    return app_with_keys(system, **fields_for(google))


async def sign_in(app: Litestar, google: Provider, subject: str = "google-7", **body: Any) -> Json:
    async with client_of(app) as client:
        answer = await client.post(f"{AUTH}/register", json={"token": google.id_token(subject), **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return dict(answer.json())


def bearing(app: Litestar, made: Json) -> Client:
    return client_of(app, Authorization=f"Bearer {made['access_token']}")


async def refreshed(app: Litestar, token: str) -> tuple[int, Json]:
    async with client_of(app) as client:
        answer = await client.post(f"{AUTH}/refresh", json={"refresh_token": token})
    return answer.status_code, answer.json()


async def status_of(app: Litestar, made: Json) -> int:
    async with bearing(app, made) as client:
        return (await client.get(ME)).status_code


async def test_a_new_person_gets_a_tenant_of_their_own_tokens_and_a_key(app: Litestar, google: Provider) -> None:
    made = await sign_in(app, google)
    assert (made["is_new_user"], made["expires_in"], made["token_type"]) == (True, 3600, "Bearer")
    assert made["user"] == {
        **{name: made[name] for name in ("user_id", "tenant_id")},
        "email": "google-7@example.org",
        "username": "Zoe",
        "role": "admin",
    }
    assert set(made) >= {"tier", "quotas", "refresh_token", "api_key"}
    async with bearing(app, made) as client, client_of(app, made["api_key"]) as keyed:
        me, of_key = (await client.get(ME)).json(), (await keyed.get(ME)).json()
        assert (await client.post("/api/v1/tasks", json={"query": "hi"})).status_code == 200
    assert (me["email"], me["username"], me["role"], me["authenticated_by"]) == (
        *("google-7@example.org", "Zoe", "admin", "token"),
    )
    assert (of_key["user_id"], of_key["tenant_id"], of_key["role"]) == (made["user_id"], made["tenant_id"], "admin")


async def test_the_same_person_is_the_same_user_without_another_key(app: Litestar, google: Provider) -> None:
    first, again = await sign_in(app, google), await sign_in(app, google)
    assert (again["user_id"], again["tenant_id"]) == (first["user_id"], first["tenant_id"])
    assert again["is_new_user"] is False
    assert "api_key" not in again
    other = await sign_in(app, google, "google-8")
    assert other["tenant_id"] != first["tenant_id"]


async def test_a_code_is_exchanged_at_the_provider(app: Litestar, google: Provider) -> None:
    google.codes["4/0A"] = google.id_token()
    body = {"code": "4/0A", "redirect_uri": "https://example.org/back", "code_verifier": "v"}
    async with client_of(app) as client:
        made = await client.post(f"{AUTH}/register", json=body)
        assert made.status_code == 200
        assert google.asked == {
            "grant_type": "authorization_code",
            "code": "4/0A",
            "redirect_uri": "https://example.org/back",
            "client_id": CLIENT_ID,
            "client_secret": "shh",
            "code_verifier": "v",
        }
        again = await client.post(f"{AUTH}/register", json=body)
        assert (again.status_code, again.json()["error"]) == (401, "Invalid token")
        assert "invalid_grant" in again.json()["message"]
        google.broken = True
        assert (await client.post(f"{AUTH}/register", json=body)).status_code == 503


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "token"),
        ({"token": "a", "code": "b", "redirect_uri": "c"}, "token"),
        ({"code": "b"}, "redirect_uri"),
        ({"provider": "github", "token": "a"}, "provider"),
        ({"token": 7}, "token"),
        ({"tokens": "a"}, "tokens"),
    ],
)
async def test_a_sign_in_that_lacks_something_says_what(app: Litestar, body: Json, field: str) -> None:
    async with client_of(app) as client:
        answer = await client.post(f"{AUTH}/register", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_a_token_that_the_provider_did_not_make_for_us_is_refused(app: Litestar, google: Provider) -> None:
    wrong = [
        google.id_token(aud="another-client"),
        google.id_token(aud=[CLIENT_ID, "another-client"], azp="another-client"),
        google.id_token(iss="https://elsewhere"),
        google.id_token(exp=5),
        google.id_token(sub=None),
        google.id_token(key=RSA_KEYS[1]),
        jwt.encode({"iss": google.url, "aud": CLIENT_ID, "sub": "x", "iat": 1, "exp": 2**33}, SECRET, "HS256"),
        "nonsense",
    ]
    async with client_of(app) as client:
        for place, token in enumerate(wrong):
            answer = await client.post(f"{AUTH}/register", json={"token": token})
            assert (answer.status_code, answer.json()["error"]) == (401, "Invalid token"), place
        several = google.id_token(aud=[CLIENT_ID, "another-client"], azp=CLIENT_ID)
        assert (await client.post(f"{AUTH}/register", json={"token": several})).status_code == 200
        access = (await client.post(f"{AUTH}/register", json={"token": google.id_token()})).json()["access_token"]
        assert (await client.post(f"{AUTH}/register", json={"token": access})).status_code == 401


async def test_an_access_token_is_no_id_token_and_an_id_token_no_access_token(app: Litestar, google: Provider) -> None:
    async with client_of(app, Authorization=f"Bearer {google.id_token(tenant_id='red')}") as client:
        assert (await client.get(ME)).status_code == 401


async def test_a_refresh_token_is_good_once_and_then_ends_its_login(app: Litestar, google: Provider) -> None:
    made, other = await sign_in(app, google), await sign_in(app, google)
    status, second = await refreshed(app, made["refresh_token"])
    assert (status, set(second)) == (200, {"access_token", "refresh_token", "token_type", "expires_in"})
    assert await status_of(app, second) == 200
    status, refused = await refreshed(app, made["refresh_token"])
    assert (status, refused["error"]) == (401, "invalid_refresh_token")
    for token in (second["refresh_token"], "rt_nonsense", made["access_token"]):
        assert (await refreshed(app, token))[0] == 401
    assert await status_of(app, second) == 401, "the access tokens of the login end with it"
    assert await status_of(app, made) == 401
    assert await status_of(app, other) == 200, "the other login goes on"


async def test_of_many_refreshes_at_once_one_gives_tokens(app: Litestar, google: Provider) -> None:
    made = await sign_in(app, google)
    answers = await asyncio.gather(*(refreshed(app, made["refresh_token"]) for _ in range(5)))
    assert [status for status, _ in answers].count(200) <= 1
    assert (await refreshed(app, made["refresh_token"]))[0] == 401


async def test_signing_out_ends_that_login_alone(app: Litestar, google: Provider) -> None:
    made, other = await sign_in(app, google), await sign_in(app, google)
    async with bearing(app, made) as client:
        assert (await client.post(f"{AUTH}/logout")).status_code == 200
    assert await status_of(app, made) == 401
    assert (await refreshed(app, made["refresh_token"]))[0] == 401
    assert await status_of(app, other) == 200
    async with client_of(app, made["api_key"]) as client:
        assert (await client.post(f"{AUTH}/logout")).status_code == 400, "a key is no login"


async def test_people_of_a_domain_belong_to_its_tenant(system: MemorySystem, google: Provider) -> None:
    domains = {"Example.org": "acme", "@example.net": {"tenant": "acme", "role": "admin"}}
    app = app_with_keys(system, **fields_for(google, sign_in_domains=domains))
    user = await sign_in(app, google)
    async with client_of(app) as client:
        admin_token = google.id_token("boss", email="boss@EXAMPLE.net")
        admin = (await client.post(f"{AUTH}/register", json={"token": admin_token})).json()
        unconfirmed = google.id_token("eve", email="eve@example.net", email_verified=False)
        eve = (await client.post(f"{AUTH}/register", json={"token": unconfirmed})).json()
    assert [(made["tenant_id"], made["user"]["role"]) for made in (user, admin)] == [
        ("acme", "user"),
        ("acme", "admin"),
    ]
    assert eve["tenant_id"] != "acme"
    assert eve["user"]["email"] == ""
    async with bearing(app, user) as client:
        scopes = (await client.get(ME)).json()["scopes"]
        assert (MANAGE_KEYS in scopes, MANAGE_USERS in scopes) == (True, False)
        assert (await client.post(f"{AUTH}/api-keys", json={"name": "mine"})).status_code == 201
        assert (await client.get(USERS)).status_code == 403


async def test_where_accounts_are_for_invited_people_others_get_none(system: MemorySystem, google: Provider) -> None:
    app = app_with_keys(system, **fields_for(google, sign_up="invited"))
    _, key = await issued(system, "acme", "admin")
    async with client_of(app) as nobody, client_of(app, key) as admin:
        refused = await nobody.post(f"{AUTH}/register", json={"token": google.id_token()})
        assert refused.status_code == 403
        assert not [name for name in system.streams if name.startswith("@user/")]
        wish = {"email": "google-7@example.org"}
        invitation = (await admin.post(INVITATIONS, json=wish)).json()
        [listed] = (await admin.get(INVITATIONS)).json()["invitations"]
        assert listed["invitation_id"] == invitation["invitation_id"]
        assert "inv_" not in str(listed)
        code = {"invitation": invitation["invitation"]}
        for_another = await nobody.post(f"{AUTH}/register", json={"token": google.id_token("eve"), **code})
        assert (for_another.status_code, for_another.json()["field"]) == (409, "invitation")
        made = await sign_in(app, google, **code)
        assert (made["tenant_id"], made["user"]["role"], made["is_new_user"]) == ("acme", "user", True)
        used = await nobody.post(f"{AUTH}/register", json={"token": google.id_token("bo"), **code})
        assert used.status_code == 409
        for wrong in ("inv_x", "inv_YWNtZS9pbnZpdGF0aW9uXzE.secret"):
            answer = await nobody.post(f"{AUTH}/register", json={"token": google.id_token("bo"), "invitation": wrong})
            assert (answer.status_code, answer.json()["field"]) == (404, "invitation")
        assert (await sign_in(app, google, **code))["tenant_id"] == "acme", "a member who sends it again"
        assert (await admin.get(INVITATIONS)).json()["invitations"] == []


async def test_an_invitation_can_be_withdrawn_and_gives_no_higher_role(system: MemorySystem, google: Provider) -> None:
    app = app_with_keys(system, **fields_for(google))
    _, key = await issued(system, "acme", "admin")
    async with client_of(app) as nobody, client_of(app, key) as admin:
        assert (await admin.post(INVITATIONS, json={"role": "owner"})).status_code == 403
        made = (await admin.post(INVITATIONS)).json()
        assert (await admin.delete(f"{INVITATIONS}/{made['invitation_id']}")).status_code == 200
        assert (await admin.delete(f"{INVITATIONS}/{made['invitation_id']}")).status_code == 404
        body = {"token": google.id_token(), "invitation": made["invitation"]}
        assert (await nobody.post(f"{AUTH}/register", json=body)).status_code == 409
    own = await sign_in(app, google)
    async with client_of(app, key) as admin, client_of(app) as nobody:
        code = (await admin.post(INVITATIONS, json={})).json()["invitation"]
        elsewhere = await nobody.post(f"{AUTH}/register", json={"token": google.id_token(), "invitation": code})
    assert (elsewhere.status_code, own["tenant_id"] in elsewhere.json()["error"]) == (409, True)


async def test_a_disabled_user_is_out_with_tokens_and_keys(system: MemorySystem, google: Provider) -> None:
    app = app_with_keys(system, **fields_for(google, sign_in_domains={"example.org": "acme"}))
    _, key = await issued(system, "acme", "admin")
    made = await sign_in(app, google)
    at = f"{USERS}/{made['user_id']}"
    async with client_of(app, key) as admin, client_of(app, made["api_key"]) as keyed, bearing(app, made) as client:
        assert (await keyed.get(ME)).status_code == (await client.get(ME)).status_code == 200
        token_of_key = (await keyed.post(f"{AUTH}/token")).json()["access_token"]
        gone = (await admin.patch(at, json={"disabled": True, "reason": "left"})).json()
        assert (gone["disabled"], gone["logins"]) == (True, 0)
        for one in (keyed, client, client_of(app, Authorization=f"Bearer {token_of_key}")):
            answer = await one.get(ME)
            assert (answer.status_code, answer.json()["error"]) == (401, "Invalid token")
        assert (await refreshed(app, made["refresh_token"]))[0] == 401
        refused = await client.post(f"{AUTH}/register", json={"token": google.id_token()})
        assert refused.status_code == 403
        await admin.patch(at, json={"disabled": False})
        assert (await keyed.get(ME)).status_code == 200
        assert (await client.get(ME)).status_code == 401, "what was signed in before stays out"
        assert await status_of(app, await sign_in(app, google)) == 200


async def test_a_role_that_is_taken_away_is_gone_from_tokens_and_keys(system: MemorySystem, google: Provider) -> None:
    app = app_with_keys(system, **fields_for(google))
    _, owner = await issued(system, "root", "owner")
    made = await sign_in(app, google)
    tenant = {"X-Tenant-Id": made["tenant_id"]}
    async with client_of(app, owner) as admin, client_of(app, made["api_key"]) as keyed, bearing(app, made) as client:
        assert (await keyed.get(USERS)).status_code == (await client.get(USERS)).status_code == 200
        changed = await admin.patch(f"{USERS}/{made['user_id']}", json={"role": "user"}, headers=tenant)
        assert (changed.status_code, changed.json()["role"]) == (200, "user")
        assert (await keyed.get(USERS)).status_code == (await client.get(USERS)).status_code == 403
        assert (await keyed.get(ME)).json()["role"] == (await client.get(ME)).json()["role"] == "user"


async def test_nobody_changes_themselves_or_who_outranks_them(system: MemorySystem, google: Provider) -> None:
    app = app_with_keys(system, **fields_for(google, sign_in_domains={"example.org": "acme"}))
    _, admin_key = await issued(system, "acme", "admin")
    _, owner_key = await issued(system, "acme", "owner")
    made, other = await sign_in(app, google), await sign_in(app, google, "google-8")
    mine, theirs = (f"{USERS}/{each['user_id']}" for each in (made, other))
    async with client_of(app, admin_key) as admin, client_of(app, owner_key) as owner, bearing(app, made) as self:
        assert (await admin.patch(mine, json={"role": "owner"})).status_code == 403
        assert (await admin.patch(mine, json={"role": "admin"})).status_code == 200
        assert (await self.patch(mine, json={"role": "user"})).status_code == 409
        assert (await self.patch(theirs, json={"role": "admin"})).status_code == 200
        assert (await self.patch(mine, json={"disabled": True}, headers={"X-User-Id": "ann"})).status_code == 409
        assert (await owner.patch(mine, json={"role": "owner"})).status_code == 200
        assert (await admin.patch(mine, json={"disabled": True})).status_code == 403
        assert (await admin.patch(f"{USERS}/nobody", json={"role": "user"})).status_code == 404
        assert (await admin.patch(mine, json={"rôle": "user"})).status_code == 400


async def test_users_of_another_tenant_are_not_seen(app: Litestar, google: Provider) -> None:
    a, b = await sign_in(app, google), await sign_in(app, google, "google-8")
    async with bearing(app, b) as client:
        listed = await client.get(USERS)
        assert [user["user_id"] for user in listed.json()["users"]] == [b["user_id"]]
        assert (listed.json()["total"], "google-7" in listed.text) == (1, False)
        for answer in (
            await client.get(f"{USERS}/{a['user_id']}"),
            await client.patch(f"{USERS}/{a['user_id']}", json={"disabled": True}),
        ):
            assert (answer.status_code, "google-7" in answer.text) == (404, False)
        assert (await client.get(USERS, headers={"X-Tenant-Id": a["tenant_id"]})).status_code == 403
    assert await status_of(app, a) == 200


async def test_users_are_listed_in_pages(system: MemorySystem, google: Provider) -> None:
    app = app_with_keys(system, **fields_for(google, sign_in_domains={"example.org": "acme"}))
    _, key = await issued(system, "acme", "admin")
    made = sorted([(await sign_in(app, google, f"g{number}"))["user_id"] for number in range(3)])
    async with client_of(app, key) as admin:
        first = (await admin.get(f"{USERS}?limit=2")).json()
        second = (await admin.get(f"{USERS}?limit=2&after={first['next_cursor']}")).json()
    assert [user["user_id"] for page in (first, second) for user in page["users"]] == made
    assert (first["total"], second["next_cursor"]) == (3, None)
    assert first["users"][0]["last_sign_in_at"]


async def test_sign_ins_are_in_the_audit_of_their_tenant_without_what_was_sent(
    app: Litestar, google: Provider, system: MemorySystem
) -> None:
    made = await sign_in(app, google)
    await refreshed(app, made["refresh_token"])
    await refreshed(app, "rt_nonsense")
    await app.state["gateway"].auditor.close()
    found = [(each.route, each.tenant_id, each.user_id, each.status) for each in system.entries]
    who = (made["tenant_id"], made["user_id"])
    assert found == [(f"{AUTH}/register", *who, 200), (f"{AUTH}/refresh", *who, 200), (f"{AUTH}/refresh", "", "", 401)]
    assert not any(secret in str(system.entries) for secret in ("rt_", "eyJ"))


async def test_what_is_stored_holds_no_token(app: Litestar, google: Provider, system: MemorySystem) -> None:
    made = await sign_in(app, google)
    _, second = await refreshed(app, made["refresh_token"])
    stored = b"".join(recorded.body for stream in system.streams.values() for recorded in stream)
    for token in (made["refresh_token"], second["refresh_token"], made["access_token"], made["api_key"]):
        assert token.encode() not in stored
        assert token.split(".")[-1].encode() not in stored


async def test_an_account_that_is_not_visible_yet_is_no_stranger(
    app: Litestar, google: Provider, system: MemorySystem
) -> None:
    made = await sign_in(app, google)
    shown = system.memory_entities.shown.pop(f"@user/{made['tenant_id']}/{made['user_id']}")
    assert await status_of(app, made) == 503
    system.memory_entities.shown[shown.entity_id] = shown
    assert await status_of(app, made) == 200


async def test_without_a_provider_it_says_what_to_set(system: MemorySystem) -> None:
    app = app_with_keys(system)
    async with client_of(app) as client:
        for path, body in (("register", {"token": "x"}), ("refresh", {"refresh_token": "x"})):
            answer = await client.post(f"{AUTH}/{path}", json=body)
            assert (answer.status_code, "TASKLOOM_SIGN_IN_PROVIDERS" in answer.json()["error"]) == (501, True)


async def test_calls_are_counted_by_address_over_all_gateways(system: MemorySystem, google: Provider) -> None:
    windows = Windows()
    apps = []
    for _ in range(2):
        settings = settings_with_keys(**fields_for(google, trusted_proxies="127.0.0.1"))
        parts = Parts(
            settings, system, system, system, system, system, system.tail, rates=windows, audit=AuditOf(system)
        )
        apps.append(create_app(parts))
    body = {"refresh_token": "rt_nonsense"}

    async def ask(number: int, address: str, path: str = "refresh") -> int:
        async with client_of(apps[number % 2], **{"X-Forwarded-For": f"6.6.6.6, {address}"}) as client:
            return (await client.post(f"{AUTH}/{path}", json=body)).status_code

    first = [await ask(number, "10.0.0.1") for number in range(70)]
    assert (first.count(401), first.count(429)) == (60, 10)
    assert await ask(0, "10.0.0.2") == 401, "another address"
    signed = [await ask(number, "10.0.0.1", "register") for number in range(35)]
    assert (signed.count(400), signed.count(429)) == (30, 5)
    networks = [await ask(number, f"2001:db8::{number:x}") for number in range(61)]
    assert networks[-1] == 429, "an address of IPv6 is one of its network"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"auth": "open"}, "needs TASKLOOM_AUTH=keys"),
        ({"jwt_secret": ""}, "needs TASKLOOM_JWT_SECRET"),
        ({"sign_in_providers": {"okta": {"client_id": "x", "client_secret": "hush"}}}, "needs issuer and jwks"),
        ({"sign_in_providers": {"google": {"client_secret": "hush"}}}, "GOOGLE.CLIENT_ID"),
        ({"sign_in_domains": {"example.org": "a b"}}, "must be 1 to 128"),
        ({"trusted_proxies": "10.0.0.0/99"}, "does not appear to be"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_showing_secrets(fields: Json, text: str) -> None:
    usual: Json = {"auth": "keys", "jwt_secret": SECRET, "sign_in_providers": {"google": {"client_id": "x"}}}
    assert load(GatewaySettings, **usual).sign_in_providers["google"].issuers[1] == "accounts.google.com"
    with pytest.raises(SettingsError, match=text) as raised:
        load(GatewaySettings, **{**usual, **fields})
    assert "hush" not in str(raised.value)


def test_a_provider_on_the_way_in_plain_text_is_refused(system: MemorySystem) -> None:
    setting = {"client_id": "x", "issuer": "https://id.example.org", "jwks": "http://id.example.org/jwks"}
    with pytest.raises(SettingsError, match=r"SIGN_IN_PROVIDERS\.own\.jwks.*use https"):
        app_with_keys(system, sign_in_providers={"own": setting})


async def test_the_access_token_ends_after_its_hour(system: MemorySystem, google: Provider) -> None:
    app = app_with_keys(system, **fields_for(google, jwt_lifetime_s=60))
    made = await sign_in(app, google)
    claims = jwt.decode(made["access_token"], SECRET, ["HS256"])
    assert (claims["exp"] - claims["iat"], made["expires_in"]) == (60, 60)
    late = {**claims, "exp": (datetime.now(UTC) - timedelta(minutes=1)).timestamp()}
    assert await status_of(app, {"access_token": jwt.encode(late, SECRET, "HS256")}) == 401
