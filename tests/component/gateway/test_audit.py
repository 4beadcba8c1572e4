"""Mutating calls are written down, refused ones too, and never with what is secret."""

from typing import Any

import msgspec
import pytest
from litestar import Litestar

from services.gateway.audit import Auditor
from services.gateway.problems import Unavailable
from services.gateway.security import Caller
from tests.component.gateway.access import AuditOf, app_with_keys, client_of, issued
from tests.component.gateway.memory import MemorySystem

TASKS, AUDIT = "/api/v1/tasks", "/api/v1/audit"


@pytest.fixture
def keyed(system: MemorySystem) -> Litestar:
    return app_with_keys(system)


async def written(app: Litestar, system: MemorySystem) -> list[Any]:
    await app.state["gateway"].auditor.close()
    return system.entries


async def test_a_call_is_written_down_with_who_what_from_where_and_its_result(
    keyed: Litestar, system: MemorySystem
) -> None:
    key_id, key = await issued(system, "red", user="rose")
    async with client_of(keyed, key) as client:
        made = await client.post(TASKS, json={"query": "do it"}, headers={"X-Trace-ID": "trace-7"})
        task_id = made.json()["task_id"]
        await client.post(f"{TASKS}/{task_id}/cancel")
        await client.post(f"{TASKS}/{task_id}/cancel")
        await client.get(f"{TASKS}/{task_id}")
    first, second, third = await written(keyed, system)
    assert (first.tenant_id, first.user_id, first.key_id, first.by) == ("red", "rose", key_id, "key")
    assert (first.method, first.route, first.task_id, first.status) == ("POST", TASKS, task_id, 200)
    assert (first.remote, first.trace_id) == ("127.0.0.1", "trace-7")
    assert (second.route, second.named) == (f"{TASKS}/{{task_id}}/cancel", {"task_id": task_id})
    assert (second.status, third.status) == (202, 409)


async def test_refused_calls_are_written_down_and_nothing_secret_with_them(
    keyed: Litestar, system: MemorySystem
) -> None:
    _, admin = await issued(system, "red")
    _, reader = await issued(system, "red", "user", ("workflows:read",))
    secret = "body-secret"
    async with client_of(keyed) as client:
        for headers, status in (
            ({}, 401),
            ({"X-API-Key": "sk_" + "1" * 64}, 401),
            ({"Authorization": "Bearer aaa.bbb.ccc"}, 401),
            ({"X-API-Key": reader}, 403),
            ({"X-API-Key": admin}, 400),
        ):
            answer = await client.post(TASKS, json={"query": secret, "priority": "no"}, headers=headers)
            assert answer.status_code == status
        missing = await client.delete(f"{TASKS}/nobody", headers={"X-API-Key": admin})
        shown = (await client.post("/api/v1/auth/api-keys", json={"name": "n"}, headers={"X-API-Key": admin})).json()
        assert missing.status_code == 404
    entries = await written(keyed, system)
    assert [(each.tenant_id, each.status) for each in entries] == [
        *[("", 401)] * 3,
        *[("red", 403), ("red", 400), ("red", 404), ("red", 201)],
    ]
    kept = msgspec.json.encode(entries).decode()
    for text in (secret, admin, reader, shown["api_key"], "1" * 64, "aaa.bbb.ccc"):
        assert text not in kept


async def test_admins_read_the_audit_of_their_tenant_by_filters_and_pages(
    keyed: Litestar, system: MemorySystem
) -> None:
    _, red = await issued(system, "red", user="rose")
    _, blue = await issued(system, "blue")
    _, user = await issued(system, "red", "user")
    _, owner = await issued(system, "home", "owner")
    async with client_of(keyed) as client:
        for key in (red, blue, red, user, ""):
            await client.post(TASKS, json={"query": "x"}, headers={"X-API-Key": key} if key else {})
        await client.post(TASKS, json={"query": "x"}, headers={"X-API-Key": owner, "X-Tenant-Id": "blue"})
        await client.post(TASKS, json={"nothing": 1}, headers={"X-API-Key": red})
        await written(keyed, system)

        async def read(key: str, **query: Any) -> Any:
            return (await client.get(AUDIT, params=query, headers={"X-API-Key": key})).json()

        first = await read(red, limit=3)
        second = await read(red, limit=3, cursor=first["next_cursor"])
        assert [len(first["entries"]), len(second["entries"]), second["next_cursor"]] == [3, 1, None]
        assert len((await read(red, user_id="rose"))["entries"]) == 3
        assert [each["status"] for each in (await read(red, refused="true"))["entries"]] == [400]
        assert [each.get("home_tenant", "") for each in (await read(blue))["entries"]] == ["home", ""]
        assert (await read(user))["required_scope"] == "tenant:manage"
        assert "owner" in (await read(red, unauthenticated="true"))["error"]
        assert [each["status"] for each in (await read(owner, unauthenticated="true"))["entries"]] == [401]


async def test_what_kafka_does_not_take_waits_and_then_nothing_more_is_changed(system: MemorySystem) -> None:
    auditor = Auditor(AuditOf(system), "gateway-1", capacity=3)
    scope = {"method": "POST", "state": {"caller": Caller("red")}, "path_template": TASKS}
    system.away = True
    for _ in range(3):
        auditor.admit("POST")
        auditor.note(scope, 503, "", "t")
    await auditor.close(0.1)
    assert system.entries == []
    with pytest.raises(Unavailable):
        auditor.admit("POST")
    auditor.admit("GET")
    system.away = False
    await auditor.close()
    assert [each.status for each in system.entries] == [503, 503, 503]
    auditor.admit("POST")
