from typing import Any

import pytest
from httpx import AsyncClient as Client

from taskloom.domain.task import events as e
from taskloom.domain.values import ErrorInfo
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.test_reads_and_control import TASKS, submit

BATCH = f"{TASKS}/batch"


def fail(system: MemorySystem, task_id: str) -> None:
    system.record(task_id, [e.AttemptAssigned(1, "ex-1", "a"), e.AttemptStarted(1, "ex-1")])
    error = ErrorInfo("ValueError", "boom")
    system.record(task_id, [e.AttemptFailed(1, error), e.TaskFailed(error, 1)])


async def test_a_failed_task_begins_anew_and_its_row_forgets_the_end(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    fail(system, "a")
    answer = await client.post(f"{TASKS}/a/retry", json={"reason": "mended"})
    assert (answer.status_code, answer.json()["state"]) == (202, "ready")
    task = (await client.get(f"{TASKS}/a")).json()
    assert (task["status"], task["state"]) == ("TASK_STATUS_QUEUED", "ready")
    assert not {"error", "completed_at", "exit_code"} & task.keys()
    again = await client.post(f"{TASKS}/a/retry")
    assert (again.status_code, again.json()["status"]) == (409, "ready")
    executions = (await client.get(f"{TASKS}/a/executions")).json()["executions"]
    assert [(each["attempt"], each["status"]) for each in executions] == [(1, "failed"), (2, "queued")]


async def test_a_retry_under_the_same_key_is_one_retry(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    fail(system, "a")
    for _ in range(2):
        answer = await client.post(f"{TASKS}/a/retry", headers={"Idempotency-Key": "k"})
        assert answer.status_code == 202
    assert sum(isinstance(recorded.event, e.TaskRetried) for recorded in system.streams["a"]) == 1


async def test_a_task_is_changed_field_by_field(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    changes = {"name": "n", "description": "d", "priority": "high", "assigned_to": "ex-9", "metadata": {"x": 1}}
    answer = await client.patch(f"{TASKS}/a", json=changes)
    assert answer.status_code == 202
    task = (await client.get(f"{TASKS}/a")).json()
    assert {name: task[name] for name in changes} == {**changes, "priority": 3}
    version = len(system.streams["a"])
    await client.patch(f"{TASKS}/a", json={"metadata": {"x": None, "y": 2}, "assigned_to": None})
    task = (await client.get(f"{TASKS}/a")).json()
    assert (task["metadata"], "assigned_to" in task) == ({"y": 2}, False)
    assert (await client.patch(f"{TASKS}/a", json={"name": "n"})).status_code == 202
    assert len(system.streams["a"]) == version + 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"priority": 9}, "priority"),
        ({"nme": "x"}, "nme"),
        ({"queue": "nobody-serves-this"}, "queue"),
        ({"assigned_to": "a\n"}, "assigned_to"),
        ({"metadata": {"k": "x" * 70_000}}, "metadata"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"tags": ["x" * 300]}, "tags[0]"),
    ],
)
async def test_a_bad_change_is_refused_with_its_field(client: Client, changes: dict[str, Any], field: str) -> None:
    await submit(client, "a")
    answer = await client.patch(f"{TASKS}/a", json=changes)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    in_batch = await client.post(f"{BATCH}/update", json={"filter": {"task_ids": ["a"]}, "changes": changes})
    assert (in_batch.status_code, in_batch.json()["field"]) == (400, f"changes.{field}")


async def test_a_deleted_task_is_gone_from_reads_and_its_history_stays(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    await submit(client, "b")
    for _ in range(2):
        answer = await client.request("DELETE", f"{TASKS}/a", json={"reason": "by mistake"})
        assert (answer.status_code, answer.json()["state"]) == (202, "deleted")
    for path in ("", "/output", "/why", "/control-state", "/dependencies"):
        assert (await client.get(f"{TASKS}/a{path}")).status_code == 404, path
    assert [task["task_id"] for task in (await client.get(TASKS)).json()["tasks"]] == ["b"]
    types = [event["type"] for event in (await client.get(f"{TASKS}/a/events")).json()["events"]]
    assert types[2:] == ["TASK_DELETING", "WORKFLOW_CANCELLING", "WORKFLOW_CANCELLED", "STREAM_END", "TASK_DELETED"]
    lines = (await client.get(f"{TASKS}/a/timeline?mode=full")).json()["events"]
    assert lines[-1]["message"] == "Deleted: by mistake"
    assert (await client.get(f"{TASKS}/a?as_of=2")).json()["state"] == "ready"
    again = await client.post(TASKS, json={"kind": "echo", "task_id": "a"})
    assert again.status_code == 409
    waits = await client.post(TASKS, json={"kind": "echo", "depends_on": ["a"]})
    assert (waits.status_code, waits.json()["field"]) == (400, "depends_on[0]")


async def test_a_running_task_is_deleted_after_its_attempt_has_stopped(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    system.record("a", [e.AttemptAssigned(1, "ex-1", "a"), e.AttemptStarted(1, "ex-1")])
    answer = await client.delete(f"{TASKS}/a")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    assert (await client.get(f"{TASKS}/a")).json()["state"] == "cancelling"


async def test_another_tenant_changes_nothing(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    fail(system, "a")
    version, other = len(system.streams["a"]), {"X-Tenant-Id": "other"}
    assert (await client.post(f"{TASKS}/a/retry", headers=other)).status_code == 404
    assert (await client.patch(f"{TASKS}/a", json={"name": "x"}, headers=other)).status_code == 404
    assert (await client.delete(f"{TASKS}/a", headers=other)).status_code == 404
    named = await client.post(f"{BATCH}/delete", json={"filter": {"task_ids": ["a"]}}, headers=other)
    assert [refusal["task_id"] for refusal in named.json()["refused"]] == ["a"]
    everything = await client.post(f"{BATCH}/delete", json={"all": True}, headers=other)
    assert (everything.json()["matched"], everything.json()["sent"]) == (0, 0)
    assert len(system.streams["a"]) == version


async def test_one_wish_for_all_tasks_of_a_filter(client: Client, system: MemorySystem) -> None:
    for name in ("a", "b", "c"):
        await client.post(TASKS, json={"kind": "echo", "task_id": name, "metadata": {"team": "blue"}})
    await submit(client, "d")
    fail(system, "a")
    wish = {"filter": {"metadata.team": "blue"}, "reason": "enough"}
    dry = (await client.post(f"{BATCH}/cancel", json={**wish, "dry_run": True})).json()
    assert (dry["matched"], dry["sent"], dry["skipped"], dry["dry_run"]) == (3, 2, 1, True)
    done = (await client.post(f"{BATCH}/cancel", json=wish)).json()
    assert (done["matched"], done["sent"], done["skipped"], done["refused"]) == (3, 2, 1, [])
    states = {task["task_id"]: task["state"] for task in (await client.get(TASKS)).json()["tasks"]}
    assert states == {"a": "failed", "b": "cancelled", "c": "cancelled", "d": "ready"}
    retried = (await client.post(f"{BATCH}/retry", json={"filter": {"status": "FAILED,CANCELLED"}})).json()
    assert (retried["sent"], retried["unanswered"]) == (3, 0)
    updated = await client.post(f"{BATCH}/update", json={"all": True, "changes": {"priority": "low"}})
    assert updated.json()["sent"] == 4
    assert {row.priority for row in system.rows.values()} == {1}


async def test_tasks_that_are_named_are_asked_each_and_refusals_are_told(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    system.behind = True
    await submit(client, "b")
    wish = {"filter": {"task_ids": ["a", "b", "b", "nobody"]}}
    answer = (await client.post(f"{BATCH}/pause", json=wish)).json()
    assert (answer["matched"], answer["sent"]) == (3, 3)
    assert [refusal["task_id"] for refusal in answer["refused"]] == ["nobody"]
    again = (await client.post(f"{BATCH}/pause", json=wish)).json()
    assert {refusal["error"] for refusal in again["refused"]} >= {"task is already paused"}


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("cancel", {}, "filter"),
        ("cancel", {"filter": {}}, "filter"),
        ("cancel", {"filter": {"metadata": {}}}, "filter"),
        ("cancel", {"filter": {"statsu": "FAILED"}}, "filter.statsu"),
        ("cancel", {"filter": {"status": "BROKEN"}}, "filter.status"),
        ("cancel", {"filter": {"task_ids": []}}, "filter.task_ids"),
        ("cancel", {"filter": {"task_ids": ["a b"]}}, "filter.task_ids[0]"),
        ("cancel", {"all": True, "limit": 1001}, "limit"),
        ("cancel", {"all": True, "changes": {"name": "x"}}, "changes"),
        ("update", {"all": True}, "changes"),
        ("retry", {"all": True, "filter": {"priority": "9"}}, "filter.priority"),
    ],
)
async def test_a_bad_wish_for_many_is_refused_with_its_field(
    client: Client, verb: str, body: dict[str, Any], field: str
) -> None:
    answer = await client.post(f"{BATCH}/{verb}", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_owners_that_do_not_answer_are_counted(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    system.silent = True
    answer = (await client.post(f"{BATCH}/cancel", json={"all": True})).json()
    assert (answer["sent"], answer["unanswered"], answer["refused"]) == (1, 1, [])


async def test_pages_of_events_have_no_gap_over_an_end_that_was_taken_back(
    client: Client, system: MemorySystem
) -> None:
    await submit(client, "a")
    fail(system, "a")
    await client.post(f"{TASKS}/a/retry")
    system.record("a", [e.AttemptAssigned(2, "ex-1", "a"), e.AttemptStarted(2, "ex-1"), e.TaskCompleted(2)])
    for number in range(7):
        await client.patch(f"{TASKS}/a", json={"name": f"n{number}"})
    everything = (await client.get(f"{TASKS}/a/events")).json()["events"]
    assert [event["type"] for event in everything].count("STREAM_END") == 1
    for size in range(1, len(everything) + 2):
        events: list[dict[str, Any]] = []
        while page := (await client.get(f"{TASKS}/a/events?limit={size}&offset={len(events)}")).json()["events"]:
            events += page
        assert events == everything
    assert [event["seq"] for event in everything] == list(range(1, len(everything) + 1))
    at_the_end = (await client.get(f"{TASKS}/a/events?as_of=6")).json()["events"]
    assert [event["type"] for event in at_the_end][-2:] == ["WORKFLOW_FAILED", "STREAM_END"]
