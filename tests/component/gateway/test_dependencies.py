from typing import Any

import httpx

from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"


async def submitted(client: httpx.AsyncClient, task_id: str, **fields: Any) -> httpx.Response:
    return await client.post(TASKS, json={"kind": "echo", "task_id": task_id, **fields})


async def test_a_task_waits_for_what_it_depends_on(client: httpx.AsyncClient) -> None:
    await submitted(client, "first")
    assert (await submitted(client, "second", depends_on=["first"])).status_code == 200
    seen = (await client.get(f"{TASKS}/second/dependencies")).json()
    assert seen["state"] == "waiting"
    assert seen["depends_on"] == [{"task_id": "first", "waiting": True}]


async def test_an_unknown_dependency_is_refused_with_its_place(client: httpx.AsyncClient) -> None:
    await submitted(client, "first")
    answer = await submitted(client, "second", depends_on=["first", "nobody"])
    assert answer.status_code == 400
    assert answer.json() == {"error": "task nobody does not exist", "field": "depends_on[1]"}


async def test_another_tenants_task_is_unknown(client: httpx.AsyncClient) -> None:
    await client.post(TASKS, json={"kind": "echo", "task_id": "theirs"}, headers={"X-Tenant-Id": "other"})
    assert (await submitted(client, "mine", depends_on=["theirs"])).status_code == 400
    assert (await client.get(f"{TASKS}/theirs/dependencies")).status_code == 404
    assert (await client.get(f"{TASKS}/graph?ids=theirs")).status_code == 404


async def test_a_task_that_depends_on_itself_is_refused(client: httpx.AsyncClient) -> None:
    answer = await submitted(client, "first", depends_on=["first"])
    assert (answer.status_code, answer.json()["field"]) == (400, "depends_on[0]")
    await submitted(client, "second")
    assert (await client.put(f"{TASKS}/second/dependencies/second")).status_code == 400


async def test_entries_of_a_batch_may_depend_on_earlier_ones_and_are_sent_after_them(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    entries = [
        {"kind": "echo", "task_id": "a"},
        {"kind": "echo", "task_id": "b", "depends_on": ["a"]},
        {"kind": "echo", "task_id": "c", "depends_on": ["later"]},
        {"kind": "echo", "task_id": "later"},
    ]
    answer = (await client.post(f"{TASKS}/batch", json={"tasks": entries})).json()
    assert [entry.get("field") for entry in answer["tasks"]] == [None, None, "depends_on[0]", None]
    assert [envelope.task_id for envelope in system.sent] == ["a", "b", "later"]


async def test_a_dependency_that_would_close_a_circle_is_refused_naming_it(client: httpx.AsyncClient) -> None:
    await submitted(client, "a", run_at="2999-01-01T00:00:00Z")
    await submitted(client, "b", depends_on=["a"])
    await submitted(client, "c", depends_on=["b"])
    answer = await client.put(f"{TASKS}/a/dependencies/c")
    assert answer.status_code == 409
    assert answer.json()["cycle"] == ["a", "c", "b", "a"]


async def test_dependencies_are_added_and_removed(client: httpx.AsyncClient) -> None:
    await submitted(client, "a")
    await submitted(client, "b", run_at="2999-01-01T00:00:00Z")
    assert (await client.put(f"{TASKS}/b/dependencies/a")).status_code == 202
    assert (await client.get(f"{TASKS}/b/dependencies")).json()["state"] == "waiting"
    assert (await client.delete(f"{TASKS}/b/dependencies/a")).status_code == 202
    assert (await client.delete(f"{TASKS}/b/dependencies/a")).status_code == 409
    assert (await client.put(f"{TASKS}/b/dependencies/nobody")).status_code == 404


async def test_graph_and_plan_show_order_and_phases(client: httpx.AsyncClient) -> None:
    await submitted(client, "a")
    await submitted(client, "b", depends_on=["a"])
    await submitted(client, "c", depends_on=["a"])
    await submitted(client, "d", depends_on=["b", "c"])
    graph = (await client.get(f"{TASKS}/graph?ids=a,b,c,d")).json()
    assert [node["id"] for node in graph["nodes"]] == ["a", "b", "c", "d"]
    assert {(edge["from"], edge["to"]) for edge in graph["edges"]} == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    plan = (await client.get(f"{TASKS}/plan?ids=d,c,b,a")).json()
    assert plan["order"][0] == "a"
    assert plan["order"][-1] == "d"
    assert [sorted(phase["parallel_groups"][0]) for phase in plan["phases"]] == [["a"], ["b", "c"], ["d"]]
