"""Stored workflows over REST, and submissions that name them."""

import asyncio
from typing import Any

import httpx
import pytest

from taskloom.domain.task.commands import CancelTask, PatchVariables, PauseTask, ResumeTask, SignalTask
from tests.component.gateway.memory import MemorySystem

TASKS, WORKFLOWS = "/api/v1/tasks", "/api/v1/workflows"
OTHER = {"X-Tenant-Id": "other"}


def step(name: str, *needs: str) -> dict[str, Any]:
    return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": {"kind": "echo"}}


def etl(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "Nightly ETL!", "steps": list(steps or (step("a"),)), **fields}


async def saved(client: httpx.AsyncClient, name: str, definition: dict[str, Any], **body: Any) -> httpx.Response:
    return await client.put(f"{WORKFLOWS}/{name}", json={"definition": definition, **body})


async def executed(client: httpx.AsyncClient, name: str = "etl", **body: Any) -> httpx.Response:
    return await client.post(f"{WORKFLOWS}/{name}/execute", json=body)


async def test_a_workflow_is_stored_under_an_id_made_of_its_name(client: httpx.AsyncClient) -> None:
    answer = await client.post(WORKFLOWS, json={"definition": etl(version="1.2")}, headers={"X-User-Id": "ann"})
    body = answer.json()
    assert answer.status_code == 201
    assert (body["id"], body["revision"], body["version"], body["changed"]) == ("nightly-etl", 1, "1.2", True)
    assert answer.headers["Location"] == f"{WORKFLOWS}/nightly-etl"
    seen = (await client.get(answer.headers["Location"])).json()
    assert seen["definition"] == etl(version="1.2")
    assert (seen["steps"], seen["saved_by"], seen["created_at"]) == (1, "ann", body["created_at"])


async def test_every_revision_can_be_read_by_number_and_by_version(client: httpx.AsyncClient) -> None:
    bodies = [etl(step("a"), version="1"), etl(step("b"), version="1"), etl(step("c"), version="2")]
    for body in bodies:
        await saved(client, "etl", body)
    again = (await saved(client, "etl", bodies[2])).json()
    assert (again["revision"], again["changed"]) == (3, False)
    got = [(await client.get(f"{WORKFLOWS}/etl", params=p)).json() for p in ({"revision": 1}, {"version": "1"}, {})]
    assert [each["definition"] for each in got] == bodies
    assert [each["newest_revision"] for each in got] == [3, 3, 3]
    listed = (await client.get(f"{WORKFLOWS}/etl/revisions")).json()
    assert [each["revision"] for each in listed["revisions"]] == [3, 2, 1]
    missing = await client.get(f"{WORKFLOWS}/etl", params={"revision": 9})
    assert (missing.status_code, missing.json()["error"]) == (404, "there is no stored workflow 'etl@9'")


async def test_a_list_goes_on_after_its_cursor(client: httpx.AsyncClient) -> None:
    for name in ("c", "a", "b"):
        await saved(client, name, etl(step("x"), step("y")))
    first = (await client.get(WORKFLOWS, params={"limit": 2})).json()
    second = (await client.get(WORKFLOWS, params={"limit": 2, "after": first["next_cursor"]})).json()
    assert [each["id"] for each in first["workflows"] + second["workflows"]] == ["a", "b", "c"]
    assert (first["total_count"], second["next_cursor"], first["workflows"][0]["steps"]) == (3, None, 2)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "definition"),
        ({"definition": 1}, "definition"),
        ({"definition": {"name": "x", "steps": []}}, "definition.steps"),
        ({"definition": etl(step("a", "nobody"))}, "definition.steps[0].depends_on[0]"),
        ({"definition": etl(), "id": "a b"}, "id"),
        ({"definition": etl(), "id": "validate"}, "id"),
        ({"definition": {**etl(), "name": "???"}}, "id"),
        ({"definition": etl(), "expected_revision": -1}, "expected_revision"),
        ({"definition": etl(), "bogus": 1}, "bogus"),
        (
            {"definition": etl({"step_type": "child", "id": "c", "workflow": "w"}), "id": "w"},
            "definition.steps[0].workflow",
        ),
    ],
)
async def test_a_bad_body_is_refused_with_the_path_of_its_fault(
    client: httpx.AsyncClient, system: MemorySystem, body: dict[str, Any], field: str
) -> None:
    answer = await client.post(WORKFLOWS, json=body)
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert system.sent == []


async def test_all_faults_of_a_definition_are_told(client: httpx.AsyncClient) -> None:
    faulty = etl(step("a", "x"), step("b", "y"))
    refused = (await client.post(WORKFLOWS, json={"definition": faulty})).json()
    checked = (await client.post(f"{WORKFLOWS}/validate", json={"definition": faulty})).json()
    assert [fault["path"] for fault in refused["faults"]] == [f"definition.steps[{n}].depends_on[0]" for n in (0, 1)]
    assert checked == {"valid": False, "faults": refused["faults"], "phases": [], "warnings": []}


async def test_a_valid_definition_is_checked_into_phases_and_not_stored(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    third = step("c", "a", "second")
    third["task_template"]["input"] = {"region": "{{ variables.region }}"}
    steps = [step("a"), {**step("b"), "name": "second"}, third]
    answer = await client.post(f"{WORKFLOWS}/validate", json={"definition": etl(*steps)})
    assert answer.status_code == 200
    assert answer.json() == {
        "valid": True,
        "faults": [],
        "phases": [["a", "b"], ["c"]],
        "warnings": [
            {
                "path": "definition.steps[2].task_template.input.region",
                "message": "no variable of this definition is called 'region': it has to come with the run, or from a "
                "step's result",
            }
        ],
    }
    assert (await client.post(f"{WORKFLOWS}/validate", json={"definition": 7})).json()["valid"] is False
    assert system.sent == []


async def test_a_save_over_an_unseen_revision_is_409(client: httpx.AsyncClient) -> None:
    await saved(client, "etl", etl(step("a")))
    answer = await saved(client, "etl", etl(step("b")), expected_revision=0)
    assert (answer.status_code, answer.json()["field"]) == (409, "expected_revision")


async def test_what_was_saved_or_removed_is_shown_at_once(client: httpx.AsyncClient, system: MemorySystem) -> None:
    system.behind = True
    saving = asyncio.create_task(saved(client, "etl", etl()))
    await asyncio.sleep(0.05)
    assert not saving.done(), "it waits for the read side"
    system.memory_entities.project("@definition/default/etl")
    assert (await saving).status_code == 200
    system.behind = False
    removed = await client.delete(f"{WORKFLOWS}/etl", params={"reason": "old"})
    assert removed.json() == {"id": "etl", "revision": 1, "removed": True}
    assert (await client.get(f"{WORKFLOWS}/etl")).status_code == 404
    assert (await client.get(WORKFLOWS)).json()["total_count"] == 0
    assert (await client.delete(f"{WORKFLOWS}/nothing")).status_code == 404


async def test_an_orchestrator_that_is_silent_is_503(client: httpx.AsyncClient, system: MemorySystem) -> None:
    system.silent = True
    assert (await saved(client, "etl", etl())).status_code == 503


async def test_a_run_says_which_revision_it_keeps(client: httpx.AsyncClient, system: MemorySystem) -> None:
    await saved(client, "etl", etl(step("a"), version="1"))
    await saved(client, "etl", etl(step("b"), version="2"))
    newest = await executed(client, variables={"x": 1}, metadata={"team": "data"}, priority="high", tags=["t"])
    older = (await executed(client, version="1", task_id="old")).json()
    body = newest.json()
    assert newest.status_code == 202
    assert (body["definition_id"], body["revision"]) == ("etl", 2)
    assert (older["task_id"], older["workflow_id"], older["revision"]) == ("old", "old", 1)
    row = system.rows[body["task_id"]]
    assert (row.kind, row.name, row.priority, row.tags) == ("workflow", "etl", 3, ("t",))
    assert row.metadata == {"team": "data", "definition_id": "etl"}
    runs = (await client.get(f"{WORKFLOWS}/etl/runs")).json()
    assert {each["task_id"] for each in runs["tasks"]} == {"old", body["task_id"]}
    assert (await client.get(f"{WORKFLOWS}/nothing/runs")).status_code == 404


async def test_the_same_key_is_the_same_run_whatever_was_saved_since(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    await saved(client, "etl", etl(step("a")))
    first = await client.post(f"{WORKFLOWS}/etl/execute", headers=key)
    await saved(client, "etl", etl(step("b")))
    again = await client.post(f"{WORKFLOWS}/etl/execute", headers=key)
    assert again.json() == first.json()
    assert again.headers["X-Idempotency-Cached"] == "true"
    other = await client.post(f"{WORKFLOWS}/etl/execute", headers=key, json={"variables": {"x": 1}})
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"revision": 7}, 404, "input.workflow"),
        ({"revision": 0}, 400, "revision"),
        ({"variables": 3}, 400, "variables"),
        ({"priority": 9}, 400, "priority"),
        ({"queue": "nobody-serves"}, 400, "queue"),
        ({"checkpoint": {"steps": 3}}, 400, "checkpoint.steps"),
        ({"run_at": "soon"}, 400, "run_at"),
    ],
)
async def test_an_execution_that_cannot_be_is_refused(
    client: httpx.AsyncClient, system: MemorySystem, body: dict[str, Any], status: int, field: str
) -> None:
    await saved(client, "etl", etl())
    answer = await executed(client, **body)
    assert answer.status_code == status
    assert status == 404 or answer.json()["field"] == field
    assert system.rows == {}


async def test_other_tenants_workflows_are_unknown(client: httpx.AsyncClient) -> None:
    await saved(client, "etl", etl())
    path = f"{WORKFLOWS}/etl"
    for method, part in (("GET", ""), ("GET", "/revisions"), ("GET", "/runs"), ("POST", "/execute"), ("DELETE", "")):
        assert (await client.request(method, path + part, headers=OTHER)).status_code == 404, part
    assert (await client.get(WORKFLOWS, headers=OTHER)).json()["workflows"] == []
    theirs = await client.put(path, json={"definition": etl(step("z"))}, headers=OTHER)
    assert theirs.json()["revision"] == 1
    assert (await client.get(path)).json()["definition"] == etl()


async def test_a_submission_that_names_what_is_not_stored_is_400_with_the_path(client: httpx.AsyncClient) -> None:
    await saved(client, "etl", etl())
    child = etl(step("a"), {"step_type": "child", "id": "c", "workflow": {"id": "etl", "revision": 4}})
    inputs: list[tuple[dict[str, Any], str]] = [
        ({"workflow": "nothing"}, "input.workflow"),
        ({"definition": child}, "input.definition.steps[1].workflow"),
        ({"workflow": "etl", "pinned": {"etl": {"revision": 1, "definition": etl()}}}, "input.pinned"),
    ]
    tasks = [{"kind": "workflow", "input": given} for given, _ in inputs]
    for task, (_, field) in zip(tasks, inputs, strict=True):
        answer = await client.post(TASKS, json=task)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
    batch = {"tasks": [*tasks, {"kind": "workflow", "input": {"workflow": "etl"}}, {"kind": "echo"}]}
    told = (await client.post(f"{TASKS}/batch", json=batch)).json()
    assert [entry.get("field", "") for entry in told["tasks"]] == [*(field for _, field in inputs), "", ""]
    assert (told["accepted"], told["rejected"]) == (2, 3)


async def test_a_run_is_controlled_and_looked_at_under_its_own_path(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    await saved(client, "etl", etl(step("a"), step("b"), variables={"x": 1}))
    await executed(client, task_id="run")
    status = (await client.get(f"{WORKFLOWS}/run/status")).json()
    assert (status["id"], status["name"], status["progress_percentage"]) == ("run", "etl", 0.0)
    assert (status["step_count"], status["completed_steps"], status["failed_steps"]) == (2, 0, 0)
    assert status["status"] in ("pending", "running")
    assert (await client.get(f"{WORKFLOWS}/run/variables")).json() == {"task_id": "run", "variables": {"x": 1}}
    await client.post(f"{WORKFLOWS}/run/signal", json={"name": "go", "payload": 7})
    await client.patch(f"{WORKFLOWS}/run/variables", json={"values": {"x": 2}})
    for verb in ("pause", "resume", "cancel"):
        await client.post(f"{WORKFLOWS}/run/{verb}", json={"reason": "why"})
    assert [type(each.command) for each in system.sent[-5:]] == [
        *(SignalTask, PatchVariables, PauseTask, ResumeTask, CancelTask)
    ]
    assert {each.task_id for each in system.sent[-5:]} == {"run"}


async def test_a_stored_workflow_is_no_run_and_the_answer_says_what_to_use(client: httpx.AsyncClient) -> None:
    await saved(client, "etl", etl())
    for method, part, body in (
        *(("POST", verb, {}) for verb in ("pause", "resume", "cancel")),
        ("POST", "signal", {"name": "go"}),
        ("PATCH", "variables", {"values": {}}),
        ("GET", "variables", None),
        ("GET", "status", None),
    ):
        answer = await client.request(method, f"{WORKFLOWS}/etl/{part}", json=body)
        assert answer.status_code == 404, part
        assert "GET /api/v1/workflows/etl/runs" in answer.json()["error"]
        unknown = await client.request(method, f"{WORKFLOWS}/nothing/{part}", json=body)
        assert (unknown.status_code, unknown.json()["error"]) == (404, "Task not found")


async def test_a_task_that_is_no_workflow_has_no_run_status(client: httpx.AsyncClient) -> None:
    await client.post(TASKS, json={"kind": "echo", "task_id": "plain"})
    assert (await client.get(f"{WORKFLOWS}/plain/status")).status_code == 409
