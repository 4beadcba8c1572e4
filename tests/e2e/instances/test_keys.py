"""Keys mode in a whole system: the first key by the command line, the SDK with it, revocation, and the audit."""

import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest
from shannon import AsyncShannonClient, TaskStatusEnum, errors

from taskloom.client import Client
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.component.gateway.provider import Provider
from tests.e2e.instances.pair import Pair

pytestmark = pytest.mark.e2e


def taskloom(system: RunningSystem, *words: str, key: str = "") -> str:
    """What a command beside the running system prints."""
    environment = {**os.environ, "TASKLOOM_HOME": str(system.home), **({"TASKLOOM_API_KEY": key} if key else {})}
    command = [sys.executable, "-m", "taskloom", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_keys_from_the_first_to_its_revocation(pair: Pair) -> None:
    guarded = pair.system
    owner = taskloom(guarded, "keys", "create", "--tenant", "red", "--role", "owner", "--name", "first").strip()
    made: Any = json.loads(taskloom(guarded, "keys", "create", "--tenant", "red", "--user", "rose", "--json"))
    other: Any = json.loads(taskloom(guarded, "keys", "create", "--tenant", "blue", "--role", "admin", "--json"))
    key, key_id, blue = made["api_key"], made["id"], other["api_key"]

    async with AsyncShannonClient(base_url=guarded.url, api_key=key) as client:
        handle = await client.submit_task("What is 2 + 2?", session_id="s-1")
        assert (await client.wait(handle.task_id, timeout=60, poll_interval=0.1)).status is TaskStatusEnum.COMPLETED
        seen = [event.type async for event in client.stream(handle.task_id)]
        assert seen[-1] == "done"
        tasks, total = await client.list_tasks()
        assert ([task.task_id for task in tasks], total) == ([handle.task_id], 1)
    async with AsyncShannonClient(base_url=guarded.url, api_key=blue) as client:
        assert await client.list_tasks() == ([], 0)
        with pytest.raises(errors.TaskNotFoundError):
            await client.get_status(handle.task_id)
    async with AsyncShannonClient(base_url=guarded.url, api_key="sk_" + "0" * 64) as client:
        with pytest.raises(errors.AuthenticationError):
            await client.list_tasks()

    async with httpx.AsyncClient(base_url=guarded.url, headers={"X-API-Key": key}) as http:
        token = (await http.post("/api/v1/auth/token")).json()["access_token"]
    async with AsyncShannonClient(base_url=guarded.url, bearer_token=token) as client:
        assert (await client.get_status(handle.task_id)).status is TaskStatusEnum.COMPLETED

    with Client(guarded.url, api_key=key) as ours:
        assert ours.get(handle.task_id).completed
        assert ours.submit(kind="echo", input={"a": 1}).task_id
    assert handle.task_id in taskloom(guarded, "list", "--json", key=key)

    listed = await eventually(lambda: _used(guarded, key_id), 60.0, 0.5)
    assert listed
    taskloom(guarded, "keys", "revoke", key_id, "--tenant", "red", "--reason", "the test is over")
    async with httpx.AsyncClient(base_url=guarded.url) as http:

        async def refused() -> bool:
            calls = ({"X-API-Key": key}, {"Authorization": f"Bearer {token}"})
            return {(await http.get("/api/v1/tasks", headers=each)).status_code for each in calls} == {401}

        await eventually(refused)
        boss = {"X-API-Key": owner}

        async def audited() -> list[Any]:
            entries: list[Any] = (await http.get("/api/v1/audit", params={"user_id": "rose"}, headers=boss)).json()[
                "entries"
            ]
            return entries if len(entries) >= 3 else []

        entries = await eventually(audited)
        assert {(entry["route"], entry["status"], entry["key_id"]) for entry in entries} >= {
            ("/api/v1/tasks", 200, key_id),
            ("/api/v1/auth/token", 200, key_id),
        }
        first = entries[-1]
        assert (first["task_id"], first["tenant_id"], first["remote"]) == (handle.task_id, "red", "127.0.0.1")
        since = {"since": first["at"], "task_id": handle.task_id}
        assert len((await http.get("/api/v1/audit", params=since, headers=boss)).json()["entries"]) == 1
        assert (await http.get("/api/v1/audit", headers={"X-API-Key": blue})).json()["entries"] == []
    assert key not in "".join(guarded.log(name) for name in ("up", *guarded.pids))


async def test_people_sign_in_and_their_limits_change_on_both_gateways(pair: Pair, identities: Provider) -> None:
    owner = taskloom(pair.system, "keys", "create", "--tenant", "root", "--role", "owner").strip()
    first, second = pair.urls
    async with httpx.AsyncClient(timeout=40) as http:
        made = (await http.post(f"{first}/api/v1/auth/register", json={"token": identities.id_token()})).json()
        assert made["is_new_user"]
        tenant = made["tenant_id"]
        person, boss = {"X-API-Key": made["api_key"]}, {"X-API-Key": owner, "X-Tenant-Id": tenant}
        old = {"refresh_token": made["refresh_token"]}
        renewed = (await http.post(f"{second}/api/v1/auth/refresh", json=old)).json()
        bearer = {"Authorization": f"Bearer {renewed['access_token']}"}
        assert (await http.get(f"{first}/api/v1/auth/me", headers=bearer)).json()["email"] == "google-7@example.org"

        async def submitted(url: str) -> str:
            body = {"query": "What is 2 + 2?", "session_id": "mine"}
            return str((await http.post(f"{url}/api/v1/tasks", json=body, headers=person)).json().get("code", "taken"))

        async def used(by: str) -> list[tuple[str, bool, int]]:
            answer = await http.get(f"{second}/api/v1/usage", params={"by": by}, headers=person)
            entries = answer.json()["usage"]
            return [(each[f"{by}_id"], each["total_tokens"] > 0, each["attempts"]) for each in entries]

        async def is_counted() -> bool:
            [key] = (await http.get(f"{first}/api/v1/auth/api-keys", headers=person)).json()["keys"]
            return await used("key") == [(key["id"], True, 1)]

        assert await submitted(first) == "taken"
        await eventually(is_counted)
        assert await used("session") == [("mine", True, 1)]
        put = await http.put(f"{first}/api/v1/quotas", json={"tokens": 1}, headers=boss)
        assert put.json()["quota"]["tokens"] == 1, put.text
        assert await submitted(first) == "BUDGET_EXCEEDED"

        async def refused_elsewhere() -> bool:
            return await submitted(second) == "BUDGET_EXCEEDED"

        await eventually(refused_elsewhere)
        assert "tokens in all" in taskloom(pair.system, "quotas", "show", key=made["api_key"])
        taskloom(pair.system, "quotas", "set", "--tokens", "none", "--tenant", tenant, key=owner)
        assert await submitted(first) == "taken"
        assert "mine" in taskloom(pair.system, "usage", "--by", "session", key=made["api_key"])

        stolen = await http.post(f"{first}/api/v1/auth/refresh", json=old)
        assert (stolen.status_code, stolen.json()["error"]) == (401, "invalid_refresh_token")
        user = f"{first}/api/v1/users/{made['user_id']}"
        assert (await http.patch(user, json={"disabled": True}, headers=boss)).json()["disabled"]

        async def is_out() -> bool:
            calls = [(url, each) for url in pair.urls for each in (person, bearer)]
            return {(await http.get(f"{url}/api/v1/auth/me", headers=each)).status_code for url, each in calls} == {401}

        await eventually(is_out)


def _used(system: RunningSystem, key_id: str) -> bool:
    keys = json.loads(taskloom(system, "keys", "list", "--tenant", "red", "--json"))
    return any(each["id"] == key_id and each["last_used_at"] for each in keys)
