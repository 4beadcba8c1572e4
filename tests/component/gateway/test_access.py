"""Keys mode: who gets in, with what, and what they may do."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from litestar import Litestar

from services.gateway.scopes import PUBLIC, RULES, is_public, scope_of
from taskloom.domain.access import MANAGE_KEYS, READ_WORKFLOWS, WRITE_WORKFLOWS
from taskloom.testing.eventually import eventually
from tests.component.gateway.access import SECRET, app_with_keys, client_of, issued
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"
API_KEYS = "/api/v1/auth/api-keys"
ME = "/api/v1/auth/me"


@pytest.fixture
def keyed(system: MemorySystem) -> Litestar:
    return app_with_keys(system)


def paths_of(app: Litestar) -> list[tuple[str, str]]:
    """Method and template of every route, WebSockets as GET."""
    found = []
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()) or [getattr(route, "route_handler", None)]:
            found += [(str(method), route.path_format) for method in getattr(handler, "http_methods", ("GET",))]
    return found


def test_every_route_has_a_scope_or_is_public_and_every_rule_has_a_route(app: Litestar) -> None:
    routes = [(method, path) for method, path in paths_of(app) if method != "OPTIONS"]
    assert len(routes) > 60
    for method, path in routes:
        scope_of(method, path)
    assert {path for _, path in routes} >= PUBLIC
    at_home = [rule.path for rule in RULES if not any(path.startswith(rule.path) for _, path in routes)]
    assert not set(at_home) - {
        # Their routes are on their way.
        "/api/v1/approvals",
        "/api/v1/webhooks",
    }


async def test_every_route_but_the_public_ones_is_closed_without_a_key(keyed: Litestar) -> None:
    async with client_of(keyed) as client:
        for method, path in paths_of(keyed):
            answer = await client.request(method, path)
            if is_public(path):
                assert answer.status_code != 401, path
            elif method != "OPTIONS":
                assert answer.status_code == 401, (method, path)
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Shannon API"'
                assert answer.json()["error"] == "Authentication required"


async def test_a_key_opens_the_door_in_each_of_its_forms(keyed: Litestar, system: MemorySystem) -> None:
    key_id, key = await issued(system, "red", user="rose")
    other_form = key.replace("sk_", "sk-shannon-")
    forms = [{"X-API-Key": key}, {"X-API-Key": other_form}, {"Authorization": f"Bearer {key}"}]
    forms += [{"authorization": f"bearer {other_form}"}, {"X-API-Key": key, "Authorization": "Bearer nonsense"}]
    for headers in forms:
        async with client_of(keyed, **headers) as client:
            me = (await client.get(ME)).json()
        assert (me["tenant_id"], me["user_id"], me["role"]) == ("red", "rose", "admin")
        assert (me["authenticated_by"], me["key_id"]) == ("key", key_id)


@pytest.mark.parametrize(
    "headers", [{"X-API-Key": "sk_" + "0" * 64}, {"Authorization": "Bearer a.b.c"}, {"X-API-Key": "é"}]
)
async def test_what_is_no_key_is_an_invalid_token(keyed: Litestar, headers: dict[str, str]) -> None:
    async with client_of(keyed) as client:
        answer = await client.get(TASKS, headers={name.encode(): value.encode() for name, value in headers.items()})
    assert (answer.status_code, answer.json()["error"]) == (401, "Invalid token")


async def test_a_key_in_the_query_opens_streams_alone_and_goes_along_a_redirect(
    keyed: Litestar, system: MemorySystem
) -> None:
    _, key = await issued(system, "red")
    async with client_of(keyed) as client:
        for name in ("api_key", "token"):
            assert (await client.get(TASKS, params={name: key})).status_code == 401
            assert (await client.post(TASKS, params={name: key}, json={"query": "x"})).status_code == 401
            found = await client.get("/api/v1/stream/sse", params={"workflow_id": "t-1", name: key})
            assert found.status_code == 404
            led = await client.get(f"{TASKS}/t-1/stream", params={name: key})
            assert (led.status_code, f"{name}={key}" in led.headers["Location"]) == (307, True)


async def test_a_scope_that_is_missing_is_named(keyed: Litestar, system: MemorySystem) -> None:
    _, key = await issued(system, "red", "user", (READ_WORKFLOWS,))
    async with client_of(keyed, key) as client:
        assert (await client.get(TASKS)).status_code == 200
        refused = await client.post(TASKS, json={"query": "hello"})
        assert (refused.status_code, refused.json()["required_scope"]) == (403, WRITE_WORKFLOWS)
        assert WRITE_WORKFLOWS in refused.json()["error"]
        assert (await client.get(API_KEYS)).json()["required_scope"] == MANAGE_KEYS
    assert [each for each in system.sent if each.task_id.startswith("task-")] == []


async def test_only_an_owner_acts_for_another_tenant(keyed: Litestar, system: MemorySystem) -> None:
    _, owner = await issued(system, "home", "owner")
    _, admin = await issued(system, "red", "admin")
    _, user = await issued(system, "red", "user")
    for key, headers, status in (
        (owner, {"X-Tenant-Id": "blue"}, 200),
        (admin, {"X-Tenant-Id": "blue"}, 403),
        (admin, {"X-Tenant-Id": "red", "X-User-Id": "bob"}, 200),
        (user, {"X-User-Id": "bob"}, 403),
        (user, {"X-User-Id": "ann", "X-Tenant-Id": "red"}, 200),
        (owner, {"X-Tenant-Id": "a b"}, 400),
    ):
        async with client_of(keyed, key, **headers) as client:
            answer = await client.get(ME)
        assert answer.status_code == status, (headers, answer.text)
        if status == 200:
            seen = {"X-Tenant-Id": answer.json()["tenant_id"], "X-User-Id": answer.json()["user_id"]}
            assert headers.items() <= seen.items()


async def test_a_key_is_shown_once_and_kept_as_a_hash(keyed: Litestar, system: MemorySystem) -> None:
    _, admin = await issued(system, "red")
    async with client_of(keyed, admin) as client:
        made = await client.post(API_KEYS, json={"name": "ci", "description": "builds"})
        assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
        body = made.json()
        assert (body["key_prefix"], len(body["api_key"])) == (body["api_key"][:8], 67)
        listed = await client.get(API_KEYS)
        assert listed.json()["total"] == 2
        assert (await client.get(f"{API_KEYS}/{body['id']}")).json()["is_active"] is True
    assert body["api_key"] not in listed.text
    assert not any(body["api_key"].encode() in each.body for stream in system.streams.values() for each in stream)


async def test_a_revoked_key_stops_at_once_here_and_its_tokens_with_it(keyed: Litestar, system: MemorySystem) -> None:
    _, admin = await issued(system, "red")
    key_id, key = await issued(system, "red", "user")
    async with client_of(keyed, key) as client, client_of(keyed, admin) as boss:
        token = (await client.post("/api/v1/auth/token")).json()["access_token"]
        async with client_of(keyed, Authorization=f"Bearer {token}") as bearer:
            assert (await bearer.get(ME)).json()["authenticated_by"] == "token"
            assert (await client.get(TASKS)).status_code == 200
            revoked = await boss.delete(f"{API_KEYS}/{key_id}")
            assert (revoked.status_code, revoked.json()["success"]) == (200, True)
            assert (await client.get(TASKS)).json()["error"] == "Invalid token"
            assert (await bearer.get(TASKS)).status_code == 401
        assert (await boss.delete(f"{API_KEYS}/{key_id}")).status_code == 404
        assert key_id not in (await boss.get(API_KEYS)).text


async def test_another_gateway_stops_taking_a_revoked_key_within_its_cache_time(system: MemorySystem) -> None:
    here, there = app_with_keys(system), app_with_keys(system, key_cache_s=0.2)
    _, admin = await issued(system, "red")
    key_id, key = await issued(system, "red", "user")
    async with client_of(here, admin) as boss, client_of(there, key) as client:
        assert (await client.get(TASKS)).status_code == 200
        looks = system.key_looks
        assert (await client.get(TASKS)).status_code == 200
        assert system.key_looks == looks
        await boss.delete(f"{API_KEYS}/{key_id}")

        async def refused() -> bool:
            return (await client.get(TASKS)).status_code == 401

        await eventually(refused)


async def test_calls_at_once_with_one_key_look_once(keyed: Litestar, system: MemorySystem) -> None:
    _, key = await issued(system, "red")
    async with client_of(keyed, key) as client:
        answers = await asyncio.gather(*(client.get(ME) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert system.key_looks == 1


async def test_known_keys_work_while_the_database_is_away(system: MemorySystem) -> None:
    keyed = app_with_keys(system, key_cache_s=0)
    _, key = await issued(system, "red")
    _, unused = await issued(system, "red")
    async with client_of(keyed, key) as client:
        assert (await client.get(ME)).status_code == 200
        system.database_away = True
        assert (await client.get(ME)).status_code == 200
        away = await client.get(ME, headers={"X-API-Key": unused})
        assert (away.status_code, "Retry-After" in away.headers) == (503, True)


async def test_an_expired_key_says_so(keyed: Litestar, system: MemorySystem) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    _, key = await issued(system, "red", expires_at=soon)
    async with client_of(keyed, key) as client:

        async def refused() -> httpx.Response | None:
            answer = await client.get(ME)
            return answer if answer.status_code != 200 else None

        found = await eventually(refused)
    assert found is not None
    assert found.json() == {"error": "Invalid token", "message": "the API key has expired; ask for another one"}


async def test_a_renewed_key_replaces_the_one_before(keyed: Litestar, system: MemorySystem) -> None:
    _, key = await issued(system, "red", "user")
    async with client_of(keyed, key) as client:
        fresh = (await client.post("/api/v1/auth/refresh-key")).json()
        assert fresh["previous_key_revoked"] is True
        assert (await client.get(ME)).status_code == 401
        assert (await client.get(ME, headers={"X-API-Key": fresh["api_key"]})).status_code == 200
        token = (await client.post("/api/v1/auth/token", headers={"X-API-Key": fresh["api_key"]})).json()
    async with client_of(keyed, Authorization=f"Bearer {token['access_token']}") as bearer:
        assert (await bearer.post("/api/v1/auth/refresh-key")).status_code == 400


async def test_nobody_hands_out_more_than_they_have(keyed: Litestar, system: MemorySystem) -> None:
    _, user = await issued(system, "red", "user", (READ_WORKFLOWS, MANAGE_KEYS))
    _, admin = await issued(system, "red", "admin")
    owner_id, _ = await issued(system, "red", "owner", user="root")
    async with client_of(keyed, user) as client, client_of(keyed, admin) as boss:
        for body, field in (
            ({"role": "admin"}, "role"),
            ({"scopes": [WRITE_WORKFLOWS]}, "scopes"),
            ({"user_id": "bob"}, "user_id"),
        ):
            refused = await client.post(API_KEYS, json={"name": "more", **body})
            assert (refused.status_code, refused.json()["field"]) == (403, field)
        made = await client.post(API_KEYS, json={"name": "less"})
        assert (made.status_code, made.json()["scopes"]) == (201, [READ_WORKFLOWS])
        assert (await boss.post(API_KEYS, json={"name": "up", "role": "owner"})).status_code == 403
        assert (await boss.post(f"{API_KEYS}/{owner_id}/rotate")).status_code == 403
        assert (await boss.delete(f"{API_KEYS}/{owner_id}")).status_code == 403
        wrong = await boss.post(API_KEYS, json={"name": "x", "role": "user", "scopes": ["tenant:manage"]})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "scopes")
        own = (await client.get(API_KEYS)).json()
        assert (own["total"], owner_id in str(own)) == (3, False)  # ann's, the admin's own name too
        assert (await client.get(f"{API_KEYS}/{owner_id}")).status_code == 404


async def test_the_last_use_of_a_key_is_listed(keyed: Litestar, system: MemorySystem) -> None:
    key_id, key = await issued(system, "red")
    async with client_of(keyed, key) as client:
        assert "last_used_at" not in (await client.get(f"{API_KEYS}/{key_id}")).json()
        await keyed.state["gateway"].gatekeeper.keys.write_uses()
        assert (await client.get(f"{API_KEYS}/{key_id}")).json()["last_used_at"]


def token_of(**claims: object) -> str:
    fields = {
        "iss": "shannon-platform",
        "sub": "zoe",
        "tenant_id": "red",
        "exp": datetime.now(UTC) + timedelta(hours=1),
    }
    kept = {name: value for name, value in {**fields, **claims}.items() if value is not None}
    return jwt.encode(kept, SECRET, "HS256")


async def test_a_token_of_another_issuer_is_taken_by_its_claims(keyed: Litestar) -> None:
    token = token_of(role="user", scopes="workflows:read tenant:manage", username="Zoe", email="zoe@example.org")
    async with client_of(keyed, Authorization=f"Bearer {token}") as client:
        me = (await client.get(ME)).json()
    assert (me["user_id"], me["tenant_id"], me["username"], me["email"]) == ("zoe", "red", "Zoe", "zoe@example.org")
    assert me["scopes"] == [READ_WORKFLOWS]


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": datetime.now(UTC) - timedelta(minutes=1)},
        {"iss": "somebody"},
        {"tenant_id": None},
        {"tenant_id": "a b"},
        {"sub": None},
        {"role": "god"},
        {"scopes": 7},
    ],
)
async def test_a_token_that_is_not_right_is_refused(keyed: Litestar, claims: dict[str, object]) -> None:
    async with client_of(keyed, Authorization=f"Bearer {token_of(**claims)}") as client:
        answer = await client.get(ME)
    assert (answer.status_code, answer.json()["error"]) == (401, "Invalid token")


async def test_a_token_without_a_signature_is_refused(keyed: Litestar) -> None:
    claims = jwt.decode(token_of(), options={"verify_signature": False})
    for token in (jwt.encode(claims, "", "none"), jwt.encode(claims, SECRET[::-1], "HS256")):
        async with client_of(keyed, Authorization=f"Bearer {token}") as client:
            assert (await client.get(ME)).status_code == 401


async def test_open_mode_asks_for_nothing_and_can_prepare_keys(client: httpx.AsyncClient) -> None:
    assert (await client.get(ME)).json()["authenticated_by"] == "open"
    assert (await client.post(API_KEYS, json={"name": "first", "role": "owner"})).status_code == 201
    assert (await client.post("/api/v1/auth/register", json={})).status_code == 501


async def test_a_websocket_without_a_key_is_refused_at_its_handshake(keyed: Litestar, system: MemorySystem) -> None:
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/v1/stream/ws", "headers": [], "query_string": b""}
    await keyed(scope, receive, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == 401


async def test_a_websocket_without_the_scope_is_not_opened(keyed: Litestar, system: MemorySystem) -> None:
    _, key = await issued(system, "red", "user", ("sessions:read",))
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"x-api-key", key.encode())]
    scope = {"type": "websocket", "path": "/api/v1/stream/ws", "headers": headers, "query_string": b"workflow_id=t"}
    await keyed(scope, receive, send)  # type: ignore[arg-type]
    assert sent
    assert "websocket.accept" not in [message["type"] for message in sent]
