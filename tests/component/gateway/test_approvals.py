from typing import Any

import pytest
from httpx import AsyncClient as Client

from tests.component.gateway.memory import MemorySystem

TASKS, APPROVALS = "/api/v1/tasks", "/api/v1/approvals"
RED = {"X-Tenant-Id": "red"}


async def ask(client: Client, task_id: str = "a", tenant: str = "default", **approval: Any) -> str:
    body = {"kind": "echo", "task_id": task_id, "session_id": f"s-{task_id}", "approval": {"message": "?", **approval}}
    answer = await client.post(TASKS, json=body, headers={"X-Tenant-Id": tenant})
    assert answer.status_code == 200
    return f"{task_id}~.approval.1"


def decision(approval_id: str, approved: bool = True, **fields: Any) -> dict[str, Any]:
    return {"workflow_id": approval_id.partition("~")[0], "approval_id": approval_id, "approved": approved, **fields}


async def test_a_decision_is_answered_as_the_contract_says(client: Client) -> None:
    approval = await ask(client)
    body = decision(approval, feedback="fine", modified_action={"rows": 3}, approved_by="the board", run_id="r")
    answer = await client.post(f"{APPROVALS}/decision", json=body, headers={"X-User-Id": "ann"})
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "sent",
        "success": True,
        "message": "Decision taken",
        "workflow_id": "a",
        "run_id": "r",
        "approval_id": approval,
    }
    seen = (await client.get(f"{APPROVALS}/{approval}")).json()
    assert (seen["status"], seen["approved"], seen["decided_by"]) == ("decided", True, "ann")
    assert (seen["feedback"], seen["modified_action"], seen["approved_by"]) == ("fine", {"rows": 3}, "the board")
    assert (await client.get(f"{TASKS}/a")).json()["state"] == "ready"


async def test_a_denied_task_is_a_failed_task_with_that_reason(client: Client) -> None:
    approval = await ask(client)
    await client.post(
        f"{APPROVALS}/decision", json=decision(approval, False, feedback="too risky"), headers={"X-User-Id": "ann"}
    )
    task = (await client.get(f"{TASKS}/a")).json()
    assert (task["status"], task["error_type"]) == ("TASK_STATUS_FAILED", "approval_denied")
    assert task["error"] == "rejected by ann: too risky"


async def test_the_list_of_pending_ones_says_who_may_decide_on_what(client: Client) -> None:
    await ask(client, "a", approvers=["ann"], timeout_s=60)
    await ask(client, "b", approvers=["bob"])
    done = await ask(client, "c")
    await client.post(f"{APPROVALS}/decision", json=decision(done))
    pending = (await client.get(f"{APPROVALS}?status=pending")).json()
    assert {each["task_id"] for each in pending["approvals"]} == {"a", "b"}
    [mine] = (await client.get(f"{APPROVALS}?status=pending&approver=me", headers={"X-User-Id": "ann"})).json()[
        "approvals"
    ]
    assert (mine["task_id"], mine["session_id"], mine["approvers"]) == ("a", "s-a", ["ann"])
    assert mine["expires_at"] > mine["requested_at"]
    assert "approved" not in mine
    [of_b] = (await client.get(f"{APPROVALS}?workflow_id=b")).json()["approvals"]
    assert of_b["approval_id"] == "b~.approval.1"


async def test_only_an_approver_may_decide(client: Client) -> None:
    approval = await ask(client, approvers=["ann"])
    refused = await client.post(f"{APPROVALS}/decision", json=decision(approval), headers={"X-User-Id": "bob"})
    assert (refused.status_code, refused.json()["field"]) == (403, "approved_by")
    named = decision(approval, approved_by="ann")
    assert (await client.post(f"{APPROVALS}/decision", json=named, headers={"X-User-Id": "bob"})).status_code == 403
    taken = await client.post(f"{APPROVALS}/decision", json=decision(approval), headers={"X-User-Id": "ann"})
    assert taken.status_code == 200


async def test_a_second_decision_is_a_conflict_and_one_on_nothing_is_not_found(client: Client) -> None:
    approval = await ask(client)
    assert (await client.post(f"{APPROVALS}/decision", json=decision(approval))).status_code == 200
    again = await client.post(f"{APPROVALS}/decision", json=decision(approval, False))
    assert again.status_code == 409
    for body in (decision("a~.approval.7"), decision("nobody~.approval.1"), decision("a~step")):
        answer = await client.post(f"{APPROVALS}/decision", json=body)
        assert answer.status_code == 404, body
    assert (await client.get(f"{APPROVALS}/a~.approval.7")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"approval_id": "a~.approval.1", "approved": True}, "workflow_id"),
        ({"workflow_id": "a", "approved": True}, "approval_id"),
        ({"workflow_id": "", "approval_id": "x"}, "workflow_id"),
        ({"workflow_id": "a b", "approval_id": "x"}, "workflow_id"),
        ({"workflow_id": "a", "approval_id": "b~x"}, "approval_id"),
        ({"workflow_id": "a", "approval_id": "x", "approved": "yes"}, "approved"),
    ],
)
async def test_a_decision_without_its_ids_is_a_bad_request(client: Client, body: dict[str, Any], field: str) -> None:
    answer = await client.post(f"{APPROVALS}/decision", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_another_tenants_approval_can_neither_be_seen_nor_decided(client: Client, system: MemorySystem) -> None:
    approval = await ask(client, "theirs", tenant="red")
    before = len(system.streams["theirs"])
    assert (await client.get(f"{APPROVALS}/{approval}")).status_code == 404
    assert (await client.post(f"{APPROVALS}/decision", json=decision(approval))).status_code == 404
    for query in ("", "?status=pending", "?workflow_id=theirs", "?session_id=s-theirs"):
        assert (await client.get(APPROVALS + query)).json() == {"approvals": [], "next_cursor": None}
    assert len(system.streams["theirs"]) == before
    assert (await client.get(f"{APPROVALS}/{approval}", headers=RED)).status_code == 200


async def test_a_step_is_decided_by_its_approvals_id_as_well(client: Client) -> None:
    steps = [{"step_type": "approval", "id": "ok", "message": "ship?"}]
    body = {"kind": "workflow", "task_id": "run", "input": {"definition": {"name": "w", "steps": steps}}}
    assert (await client.post(TASKS, json=body)).status_code == 200
    [seen] = (await client.get(f"{APPROVALS}?status=pending")).json()["approvals"]
    assert (seen["approval_id"], seen["step"], seen["message"]) == ("run~ok", "ok", "ship?")
    events = (await client.get(f"{TASKS}/run/events")).json()["events"]
    [asked] = [event for event in events if event["type"] == "APPROVAL_REQUESTED"]
    assert asked["payload"]["approval_id"] == "run~ok"
    assert (await client.post(f"{APPROVALS}/decision", json=decision("run~ok"))).status_code == 200
    assert (await client.get(f"{TASKS}/run")).json()["state"] == "completed"


async def test_what_a_cancelled_task_asked_for_is_withdrawn(client: Client) -> None:
    approval = await ask(client)
    assert (await client.post(f"{TASKS}/a/cancel")).status_code == 202
    assert (await client.get(f"{APPROVALS}/{approval}")).json()["status"] == "withdrawn"
    assert (await client.post(f"{APPROVALS}/decision", json=decision(approval))).status_code == 409


async def test_bad_lists_are_bad_requests(client: Client) -> None:
    for query, field in (("status=wild", "status"), ("limit=0", "limit"), ("cursor=%21", "cursor")):
        answer = await client.get(f"{APPROVALS}?{query}")
        assert (answer.status_code, answer.json()["field"]) == (400, field)
