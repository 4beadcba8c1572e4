"""Workflows at the HTTP door: what is refused, what is sent on, what is seen of a run."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.decide import decide
from taskloom.domain.task.evolve import fold
from taskloom.domain.task.snapshot import encode_state
from taskloom.domain.workflow.means import Means
from taskloom.domain.workflow.values import NoValues, Ref
from taskloom.wire.claims import check_in
from tests.component.bad_workflows import BAD, task
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"


class WithoutVariables(NoValues):
    """Large results are at hand, and have no variables."""

    def variables(self, _ref: Ref) -> dict[str, Any]:
        return {}


async def submit(client: httpx.AsyncClient, *steps: dict[str, Any], **more: Any) -> str:
    definition = {"name": "w", "steps": list(steps), **more.pop("definition", {})}
    body = {"kind": "workflow", "input": {"definition": definition, **more}}
    answer = await client.post(TASKS, json=body, headers={"Prefer": "wait=5"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


def ends(system: MemorySystem, run: str, path: str, result: Any = None) -> None:
    """What the orchestrator does when the step's task completed."""
    command = c.NoteChild(path, "completed", result)
    caller = Caller(run, "default", means=Means(values=WithoutVariables()))
    decision = decide(fold(system.streams[run]), command, datetime.now(UTC), caller)
    assert not isinstance(decision, Refusal)
    system.record(run, decision)


@pytest.mark.parametrize("case", BAD)
async def test_a_faulty_definition_is_refused_with_the_path_of_the_fault(client: httpx.AsyncClient, case: str) -> None:
    steps, field = BAD[case]
    body = {"kind": "workflow", "input": {"definition": {"name": "w", "steps": steps}}}
    answer = await client.post(TASKS, json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, f"input.definition.{field}"), answer.text


async def test_a_cycle_is_named(client: httpx.AsyncClient) -> None:
    body = {"kind": "workflow", "input": {"definition": {"name": "w", "steps": BAD["cycle"][0]}}}
    assert "a -> " in (await client.post(TASKS, json=body)).json()["error"]


async def test_signals_decisions_and_variables_reach_the_run(client: httpx.AsyncClient) -> None:
    signal = {"step_type": "signal", "id": "s", "signal": "go"}
    approval = {"step_type": "approval", "id": "ok", "depends_on": ["s"]}
    run = await submit(client, signal, approval)
    path = f"{TASKS}/{run}"
    assert (await client.post(f"{path}/signal", json={"name": "go", "payload": {"n": 1}})).status_code == 202
    assert (await client.patch(f"{path}/variables", json={"values": {"x": [1, 2]}})).status_code == 202
    seen = (await client.get(f"{path}/workflow")).json()
    assert (seen["status"], seen["progress"], seen["variables"]) == ("running", 50.0, {"x": [1, 2]})
    assert seen["counts"] == {"step_count": 2, "completed_steps": 1, "failed_steps": 0, "running_steps": 1}
    answer = await client.post(f"{path}/approvals/ok", json={"approved": True, "comment": "fine"})
    assert answer.status_code == 202
    assert (await client.get(f"{path}/workflow")).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("method", "tail", "body", "status", "field"),
    [
        ("POST", "signal", {"payload": 1}, 400, "name"),
        ("POST", "signal", {"name": ""}, 400, "name"),
        ("POST", "approvals/nobody", {"approved": True}, 404, None),
        ("POST", "approvals/ok", {}, 400, "approved"),
        ("POST", "approvals/ok", {"approved": "yes"}, 400, "approved"),
        ("PATCH", "variables", {"values": [1]}, 400, "values"),
        ("PATCH", "variables", {"values": {"v": "x" * 800_000}}, 409, "values"),
    ],
)
async def test_what_a_run_cannot_take_is_refused_with_the_field(
    client: httpx.AsyncClient, method: str, tail: str, body: Any, status: int, field: str | None
) -> None:
    run = await submit(client, {"step_type": "approval", "id": "ok"})
    answer = await client.request(method, f"{TASKS}/{run}/{tail}", json=body)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text


async def test_what_is_no_workflow_of_ours_takes_no_signal(client: httpx.AsyncClient) -> None:
    await client.post(TASKS, json={"kind": "echo", "task_id": "plain"}, headers={"Prefer": "wait=5"})
    run = await submit(client, {"step_type": "approval", "id": "ok"})
    assert (await client.post(f"{TASKS}/plain/signal", json={"name": "go"})).status_code == 409
    assert (await client.get(f"{TASKS}/plain/workflow")).status_code == 409
    other = {"X-Tenant-Id": "other"}
    assert (await client.post(f"{TASKS}/{run}/signal", json={"name": "go"}, headers=other)).status_code == 404
    for tail in ("workflow", "workflow/checkpoints", "workflow/checkpoint"):
        assert (await client.get(f"{TASKS}/{run}/{tail}", headers=other)).status_code == 404


async def test_the_steps_of_a_run_come_in_pages(client: httpx.AsyncClient) -> None:
    run = await submit(client, *(task(f"s{n:02}") for n in range(25)), definition={"max_parallel_tasks": 30})
    found: list[str] = []
    after, pages = "", 0
    while pages == 0 or after:
        page = (await client.get(f"{TASKS}/{run}/workflow", params={"after": after, "limit": 10})).json()
        found += [step["path"] for step in page["steps"]]
        after, pages = page["next"], pages + 1
    assert (found, pages) == ([f"s{n:02}" for n in range(25)], 3)


async def test_steps_come_in_pages_with_times_and_what_is_around_them(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    both = {"step_type": "parallel", "id": "p", "sub_steps": [task("x"), task("y")]}
    run = await submit(client, both, task("z", "p"))
    ends(system, run, "p.x", 1)
    first = (await client.get(f"{TASKS}/{run}/steps", params={"limit": 2})).json()
    assert [(step["path"], step["status"]) for step in first["steps"]] == [("p", "running"), ("p.x", "completed")]
    assert (first["next"], first["steps"][1]["parent"], first["steps"][1]["task_id"]) == ("p.x", "p", f"{run}~p.x")
    assert first["steps"][0]["started_at"] <= first["steps"][1]["completed_at"]
    rest = (await client.get(f"{TASKS}/{run}/steps", params={"after": "p.x"})).json()
    assert ([step["path"] for step in rest["steps"]], rest["next"]) == (["p.y"], "")
    plain = (await client.post(TASKS, json={"kind": "echo"})).json()["task_id"]
    assert (await client.get(f"{TASKS}/{plain}/steps")).status_code == 409
    assert (await client.get(f"{TASKS}/{run}/steps", params={"limit": 0})).status_code == 400


async def test_a_run_that_failed_is_retried_by_its_own_path_and_goes_on(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    run = await submit(
        client, {"step_type": "approval", "id": "ok"}, task("z", "ok"), definition={"variables": {"v": 1}}
    )
    no = await client.post(f"{TASKS}/{run}/approvals/ok", json={"approved": False})
    assert no.status_code == 202
    path = f"/api/v1/workflows/{run}"
    assert (await client.get(f"{path}/status")).json()["status"] == "failed"
    assert (await client.post(f"{path}/retry", json={"from": "nowhere"})).status_code == 400
    again = await client.post(f"{path}/retry", json={"reason": "asked the wrong one"})
    assert (again.status_code, again.json()["state"]) == (202, "running")
    status = (await client.get(f"{path}/status")).json()
    assert (status["status"], status["restarts"], status["running_steps"]) == ("running", 1, 1)
    assert (await client.get(f"{path}/variables")).json()["variables"] == {"v": 1}
    assert (await client.post(f"{TASKS}/{run}/retry")).status_code == 409


async def test_a_checkpoint_is_made_of_the_snapshot_and_what_came_after(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    run = await submit(client, task("a"), task("b", "a"), task("c", "b"))
    ends(system, run, "a", 1)
    state = fold(system.streams[run])
    assert state is not None
    system.snapshots[run] = (state.version, encode_state(state))
    ends(system, run, "b", 2)
    whole = system.streams[run]
    system.streams[run] = [whole[0], *whole[state.version :]]  # nothing before the snapshot can be read any more
    seen = (await client.get(f"{TASKS}/{run}/workflow/checkpoint")).json()
    assert {name: step["status"] for name, step in seen["steps"].items()} == {
        "a": "completed",
        "b": "completed",
        "c": "running",
    }


async def test_a_new_run_goes_on_from_a_checkpoint_of_another(client: httpx.AsyncClient, system: MemorySystem) -> None:
    steps = [task("a"), {"step_type": "checkpoint", "id": "saved", "depends_on": ["a"]}, task("b", "saved")]
    first = await submit(client, *steps)
    large, stored = check_in({"text": "x" * 70_000})
    assert stored is not None
    system.stored[stored[0]] = stored[1]
    await client.patch(f"{TASKS}/{first}/variables", json={"values": {"n": 5}})
    ends(system, first, "a", large)
    [saved] = (await client.get(f"{TASKS}/{first}/workflow/checkpoints")).json()["checkpoints"]
    assert saved["path"] == "saved"
    checkpoint = (await client.get(f"{TASKS}/{first}/workflow/checkpoint?version={saved['version']}")).json()
    assert checkpoint["steps"]["a"] == {"status": "completed", "result": {"text": "x" * 70_000}, "error_message": None}
    second = await submit(client, *steps, checkpoint=checkpoint)
    seen = (await client.get(f"{TASKS}/{second}/workflow")).json()
    assert {step["path"]: step["status"] for step in seen["steps"]} == {
        "a": "completed",
        "b": "running",
        "saved": "completed",
    }
    assert seen["variables"] == {"n": 5}
    beyond = await client.get(f"{TASKS}/{first}/workflow/checkpoint?version=999")
    assert beyond.status_code == 404
