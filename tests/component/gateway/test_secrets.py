"""Secrets over REST: put, listed by name, removed, never told; and rules that a submission breaks."""

from typing import Any

import httpx
import pytest
from litestar import Litestar
from pydantic import SecretStr

from services.gateway.app import create_app
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from taskloom.rules import Rules
from taskloom.secrets import Vault
from tests.component.gateway.access import client_of
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.memory_secrets import MemorySecrets

KEY = "s" * 32
SECRETS = "/api/v1/secrets"
RULES = {"commands": {"deny": ["re:rm +-rf"]}, "images": {"allow": ["reg.acme.com/*"]}}


def app_of(table: MemorySecrets, system: MemorySystem | None = None, **fields: Any) -> Litestar:
    fields = {"secrets_key": SecretStr(KEY), "rules": {"*": Rules.model_validate(RULES)}, **fields}
    settings = GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.2, **fields)
    system = system or MemorySystem()
    return create_app(Parts(settings, system, system, system, system, system, system.tail, sealed=table))


async def test_a_secret_is_stored_sealed_and_only_its_name_is_told() -> None:
    table = MemorySecrets()
    async with client_of(app_of(table)) as client:
        put = await client.put(f"{SECRETS}/token", json={"value": "hunter2-hunter2"})
        assert put.status_code == 200
        assert set(put.json()) == {"name", "created_at", "updated_at"}
        again = await client.put(f"{SECRETS}/token", json={"value": "another-word"})
        assert again.json()["created_at"] == put.json()["created_at"]
        listed = await client.get(SECRETS)
        assert [each["name"] for each in listed.json()["secrets"]] == ["token"]
        assert "hunter2" not in put.text + listed.text + repr(table.rows)
        assert "another" not in again.text + listed.text + repr(table.rows)
        assert Vault((KEY,)).open("default", "token", table.rows["default", "token"][0]) == "another-word"
        assert (await client.delete(f"{SECRETS}/token")).json() == {"success": True}
        assert (await client.delete(f"{SECRETS}/token")).status_code == 404
        assert (await client.get(SECRETS)).json() == {"secrets": [], "total_count": 0, "next_cursor": None}


async def test_lists_are_paged_by_name() -> None:
    async with client_of(app_of(MemorySecrets())) as client:
        for name in ("c", "a", "b"):
            await client.put(f"{SECRETS}/{name}", json={"value": "word-word"})
        first = (await client.get(SECRETS, params={"limit": 2})).json()
        assert ([each["name"] for each in first["secrets"]], first["total_count"]) == (["a", "b"], 3)
        last = (await client.get(SECRETS, params={"cursor": first["next_cursor"]})).json()
        assert ([each["name"] for each in last["secrets"]], last["next_cursor"]) == (["c"], None)


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("a b", {"value": "word-word"}, "secret_name"),
        ("a", {"value": "abc"}, "value"),
        ("a", {"value": "ü" * 40_000}, "value"),
        ("a", {"value": "nul\x00nul"}, "value"),
        ("a", {"value": 1}, "value"),
        ("a", {"value": "word-word", "more": 1}, "more"),
    ],
)
async def test_what_is_no_secret_is_refused_with_its_field(name: str, body: dict[str, Any], field: str) -> None:
    async with client_of(app_of(MemorySecrets())) as client:
        refused = await client.put(f"{SECRETS}/{name}", json=body)
    assert (refused.status_code, refused.json()["field"]) == (400, field)


async def test_without_a_key_there_are_no_secrets_and_the_answer_says_why() -> None:
    async with client_of(app_of(MemorySecrets(), secrets_key=SecretStr(""))) as client:
        for answer in (await client.get(SECRETS), await client.put(f"{SECRETS}/a", json={"value": "word-word"})):
            assert answer.status_code == 503
            assert "TASKLOOM_SECRETS_KEY" in answer.json()["error"]


async def test_a_task_names_a_secret_and_its_event_holds_the_name_alone() -> None:
    system = MemorySystem()
    async with client_of(app_of(MemorySecrets(), system)) as client:
        given = {"cmd": "env", "env": {"TOKEN": {"secret": "token"}, "PLAIN": "x"}}
        assert (await client.post("/api/v1/tasks", json={"kind": "shell", "input": given})).status_code == 200
        wrong = {"cmd": "env", "env": {"TOKEN": {"secrets": "token"}}}
        refused = await client.post("/api/v1/tasks", json={"kind": "shell", "input": wrong})
        assert refused.status_code == 400
        assert refused.json()["field"].startswith("input.env")
        headers = {"url": "https://example.com/", "headers": {"Authorization": {"secret": "token"}}}
        assert (await client.post("/api/v1/tasks", json={"kind": "http", "input": headers})).status_code == 200
    commands: list[Any] = [envelope.command for envelope in system.sent]
    assert commands[0].input == given


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"kind": "shell", "input": {"cmd": "rm -rf /"}}, "input.cmd", "deny re:rm +-rf"),
        ({"kind": "docker", "input": {"operation": "run", "image": "busybox"}}, "input.image", "allow reg.acme.com/*"),
    ],
)
async def test_a_rule_refuses_a_submission_with_its_name(body: dict[str, Any], field: str, rule: str) -> None:
    system = MemorySystem()
    system.known_now = type(system.known_now)(kinds=system.known_now.kinds | {"docker"})
    async with client_of(app_of(MemorySecrets(), system)) as client:
        refused: httpx.Response = await client.post("/api/v1/tasks", json=body)
        assert refused.status_code == 403
        assert (refused.json()["field"], refused.json()["rule"]) == (field, rule)
        batch = await client.post("/api/v1/tasks/batch", json={"tasks": [body, {"kind": "echo"}]})
        assert batch.json()["rejected"] == 1
        assert batch.json()["tasks"][0]["field"] == field
    assert len(system.sent) == 1
