from httpx import AsyncClient as Client

from taskloom.domain.task import events as e
from taskloom.domain.values import ErrorInfo
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.test_reads_and_control import TASKS, complete, submit


async def test_a_fork_is_told_listed_and_laid_beside_its_source(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    complete(system, "a")
    wish = {"task_id": "b", "overrides": {"input": {"n": 2}, "name": "again"}}
    answer = await client.post(f"{TASKS}/a/fork", json=wish)
    assert (answer.status_code, answer.json()["task_id"], answer.json()["forked_from"]) == (202, "b", "a")
    assert (await client.post(f"{TASKS}/a/fork", json=wish)).json()["repeated"] is True
    taken = await client.post(f"{TASKS}/a/fork", json={"task_id": "b"})
    assert (taken.status_code, taken.json()["field"]) == (409, "task_id")
    listed = (await client.get(TASKS, params={"metadata.forked_from": "a"})).json()["tasks"]
    assert [task["task_id"] for task in listed] == ["b"]
    timeline = (await client.get(f"{TASKS}/b/timeline")).json()["events"]
    assert "forked from a at version 5" in timeline[0]["message"]

    diff = (await client.get(f"{TASKS}/a/diff/b")).json()
    assert diff["same"] is False
    assert diff["fields"] == [{"path": "input.n", "a": None, "b": 2}, {"path": "name", "a": None, "b": "again"}]
    assert (diff["a"]["state"], diff["b"]["state"]) == ("completed", "ready")
    assert (await client.get(f"{TASKS}/a/diff/a")).json()["same"] is True
    then = (await client.get(f"{TASKS}/a/diff/a", params={"a_version": 2})).json()
    assert (then["a"]["state"], then["same"]) == ("ready", False)


async def test_a_fork_without_an_id_is_a_new_task_each_time_but_for_a_key(client: Client) -> None:
    await submit(client, "a")
    new = {(await client.post(f"{TASKS}/a/fork")).json()["task_id"] for _ in range(2)}
    key = {"Idempotency-Key": "k"}
    kept = {(await client.post(f"{TASKS}/a/fork", headers=key)).json()["task_id"] for _ in range(2)}
    assert (len(new), len(kept)) == (2, 1)


async def test_bad_wishes_are_answered_with_the_field(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    await submit(client, "theirs", tenant="red")
    cases = [
        ("a", {"at": 0}, 400, "at"),
        ("a", {"nonsense": 1}, 400, "nonsense"),
        ("a", {"overrides": {"retry": {"factor": 0}}}, 400, "overrides.retry.factor"),
        ("a", {"at": 99}, 404, None),
        ("nobody", {}, 404, None),
        ("theirs", {}, 404, None),
    ]
    for task_id, wish, status, field in cases:
        answer = await client.post(f"{TASKS}/{task_id}/fork", json=wish)
        assert (answer.status_code, answer.json().get("field")) == (status, field), (task_id, wish)
    for path, status in (("a/diff/nobody", 404), ("a/diff/theirs", 404), ("a/diff/a?b_version=99", 404)):
        assert (await client.get(f"{TASKS}/{path}")).status_code == status, path
    sent = {"kind": "echo", "fork": {"task_id": "a"}}
    assert (await client.post(TASKS, json=sent)).json()["field"] == "fork.overrides"


async def test_a_fork_of_a_failed_task_begins_anew(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    error = ErrorInfo("ValueError", "boom")
    system.record("a", [e.AttemptAssigned(1, "ex-1", "i"), e.AttemptFailed(1, error), e.TaskFailed(error, 1)])
    await client.post(f"{TASKS}/a/fork", json={"task_id": "b"})
    task = (await client.get(f"{TASKS}/b")).json()
    assert (task["state"], task["metadata"]) == ("ready", {"forked_from": "a", "forked_at": 5})
