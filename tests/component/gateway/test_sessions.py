import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest
from httpx import AsyncClient as Client

from services.gateway.settings import GatewaySettings
from taskloom.domain.task import events as e
from taskloom.domain.values import Usage
from tests.component.gateway.memory import MemorySystem

TASKS, SESSIONS = "/api/v1/tasks", "/api/v1/sessions"


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.5, artifacts_dir=str(tmp_path))


async def submit(client: Client, task_id: str, session: str = "s", tenant: str = "default", **fields: object) -> None:
    body = {"query": f"what is {task_id}?", "task_id": task_id, "session_id": session, **fields}
    answer = await client.post(TASKS, json=body, headers={"X-Tenant-Id": tenant})
    assert answer.status_code == 200, answer.text


def complete(system: MemorySystem, task_id: str) -> None:
    usage = Usage(1, 2, 0.5, "m", "p")
    ended = e.TaskCompleted(1, result=f"it is {task_id}", usage=usage)
    system.record(task_id, [e.AttemptAssigned(1, "executor-1", "i"), e.AttemptStarted(1, "executor-1"), ended])


async def test_a_title_is_cleaned_stored_and_shown_everywhere(client: Client) -> None:
    await submit(client, "a", context={"external_id": "not me"})
    answer = await client.patch(f"{SESSIONS}/s", json={"title": " \u200bQuarterly\x00 fig\u2028ures\n "})
    assert (answer.status_code, answer.json()) == (200, {"session_id": "s", "title": "Quarterly figures"})
    session = (await client.get(f"{SESSIONS}/s")).json()
    assert session["title"] == session["context"]["title"] == "Quarterly figures"
    assert session["context"]["external_id"] == "s"
    [listed] = (await client.get(f"{SESSIONS}?q=Quarterly")).json()["sessions"]
    assert (listed["title"], listed["context"]["external_id"]) == ("Quarterly figures", "s")
    assert (await client.get(f"{SESSIONS}?q=nothing")).json()["sessions"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1000", "limit=many", "offset=-1", "limit=&offset=x"])
async def test_a_wrong_limit_or_offset_of_the_list_falls_back_and_nothing_else_does(client: Client, query: str) -> None:
    for task_id in "ab":
        await submit(client, task_id, session=task_id)
    found = await client.get(f"{SESSIONS}?{query}")
    assert (found.status_code, len(found.json()["sessions"])) == (200, 2)
    refused = await client.get(f"{SESSIONS}?{query}&created_after=soon")
    assert (refused.status_code, refused.json()["field"]) == (400, "created_after")


@pytest.mark.parametrize("title", ["", "   ", "\u200b\x00\ufeff", "x" * 61])
async def test_a_title_that_nobody_could_see_or_is_too_long_is_a_bad_request(client: Client, title: str) -> None:
    await submit(client, "a")
    answer = await client.patch(f"{SESSIONS}/s", json={"title": title})
    assert (answer.status_code, answer.json()["field"]) == (400, "title")


async def test_a_removed_session_is_gone_and_begins_anew_with_the_next_task(client: Client) -> None:
    await submit(client, "a")
    await client.patch(f"{SESSIONS}/s", json={"title": "old"})
    assert (await client.delete(f"{SESSIONS}/s")).status_code == 204
    for path in ("", "/history", "/events", "/files"):
        assert (await client.get(f"{SESSIONS}/s{path}")).status_code == 404, path
    assert (await client.patch(f"{SESSIONS}/s", json={"title": "x"})).status_code == 404
    assert (await client.get(SESSIONS)).json()["sessions"] == []
    assert (await client.delete(f"{SESSIONS}/s")).status_code == 204, "again"
    assert (await client.delete(f"{SESSIONS}/never")).status_code == 404
    assert (await client.get(f"{TASKS}/a")).status_code == 200, "its tasks stay"

    await submit(client, "b")
    session = (await client.get(f"{SESSIONS}/s")).json()
    assert session["task_count"] == 1
    assert "title" not in session
    history = (await client.get(f"{SESSIONS}/s/history")).json()
    assert [task["task_id"] for task in history["tasks"]] == ["b"]
    assert (await client.delete(f"{SESSIONS}/s")).status_code == 204
    assert (await client.get(f"{SESSIONS}/s")).status_code == 404


async def test_another_tenants_session_can_neither_be_named_nor_removed(client: Client) -> None:
    await submit(client, "theirs", tenant="red")
    assert (await client.patch(f"{SESSIONS}/s", json={"title": "mine"})).status_code == 404
    assert (await client.delete(f"{SESSIONS}/s")).status_code == 404
    for path in ("", "/history", "/events", "/files", "/files/x"):
        assert (await client.get(f"{SESSIONS}/s{path}")).status_code == 404
    red = {"X-Tenant-Id": "red"}
    assert "title" not in (await client.get(f"{SESSIONS}/s", headers=red)).json()


async def test_usage_has_both_spellings_in_turns_history_and_executions(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    complete(system, "a")
    expected = {
        **dict.fromkeys(("input_tokens", "prompt_tokens"), 1),
        **dict.fromkeys(("output_tokens", "completion_tokens"), 2),
        **dict.fromkeys(("cost_usd", "estimated_cost"), 0.5),
        "total_tokens": 3,
    }
    for path, of in (
        (f"{SESSIONS}/s/history", "tasks"),
        (f"{SESSIONS}/s/events", "turns"),
        (f"{TASKS}/a/executions", "executions"),
    ):
        [found] = (await client.get(path)).json()[of]
        assert found["usage"] == expected, path


async def test_events_come_in_turns_one_a_task_paged(client: Client, system: MemorySystem) -> None:
    for task_id in "abc":
        await submit(client, task_id)
        complete(system, task_id)
    page = (await client.get(f"{SESSIONS}/s/events?limit=2&offset=1&include_payload=true")).json()
    assert (page["count"], [turn["turn"] for turn in page["turns"]]) == (3, [2, 3])
    first = page["turns"][0]
    assert (first["task_id"], first["user_query"], first["final_output"]) == ("b", "what is b?", "it is b")
    assert first["events"][-1]["type"] == "STREAM_END"
    assert isinstance(first["events"][0]["payload"], str)
    assert first["metadata"]["tokens_used"] == 3
    assert first["metadata"]["agents_involved"] == ["attempt-1"]
    plain = (await client.get(f"{SESSIONS}/s/events")).json()["turns"][0]["events"][0]
    assert "payload" not in plain
    for query in ("limit=0", "limit=101", "offset=-1"):
        assert (await client.get(f"{SESSIONS}/s/events?{query}")).status_code == 400


async def test_too_many_events_are_cut_in_one_turn_and_refused_over_several(
    client: Client, system: MemorySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.sessions.MAX_EVENTS", 6)
    for task_id in "ab":
        await submit(client, task_id)
        complete(system, task_id)
    assert (await client.get(f"{SESSIONS}/s/events")).status_code == 413
    monkeypatch.setattr("services.gateway.sessions.MAX_EVENTS", 3)
    [turn] = (await client.get(f"{SESSIONS}/s/events?limit=1")).json()["turns"]
    assert (len(turn["events"]), turn["metadata"]["events_left_out"]) == (3, 2)


async def test_history_is_paged_and_can_be_seen_as_of_then(client: Client, system: MemorySystem) -> None:
    await submit(client, "a")
    between = datetime.now(UTC)
    complete(system, "a")
    await submit(client, "b")
    first = (await client.get(f"{SESSIONS}/s/history?limit=1")).json()
    assert ([task["task_id"] for task in first["tasks"]], first["total"]) == (["a"], 2)
    second = (await client.get(f"{SESSIONS}/s/history?cursor={first['next_cursor']}")).json()
    assert ([task["task_id"] for task in second["tasks"]], second["next_cursor"]) == (["b"], None)
    then = (await client.get(f"{SESSIONS}/s/history", params={"as_of": between.isoformat()})).json()
    assert [(task["task_id"], task["status"]) for task in then["tasks"]] == [("a", "QUEUED")]
    now = (await client.get(f"{SESSIONS}/s/history")).json()
    assert [task["status"] for task in now["tasks"]] == ["COMPLETED", "QUEUED"]
    for query, field in (("as_of=3", "as_of"), ("as_of=never", "as_of"), ("cursor=%21", "cursor")):
        answer = await client.get(f"{SESSIONS}/s/history?{query}")
        assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_files_are_read_from_the_sessions_own_directory_alone(client: Client, tmp_path: Path) -> None:
    await submit(client, "a")
    assert (await client.get(f"{SESSIONS}/s/files")).json() == {"success": True, "files": []}
    own = tmp_path / "default" / "s"
    (own / "out").mkdir(parents=True)
    (own / "out" / "a b.txt").write_text("grüße")
    (own / "raw.bin").write_bytes(b"\xff\x00")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (own / "link").symlink_to(secret)
    (own / "up").symlink_to(tmp_path)
    listed = (await client.get(f"{SESSIONS}/s/files")).json()["files"]
    assert [(each["name"], each["is_dir"]) for each in listed] == [("out", True), ("raw.bin", False)]
    [inner] = (await client.get(f"{SESSIONS}/s/files?path=out")).json()["files"]
    assert (inner["path"], inner["size_bytes"]) == ("out/a b.txt", 7)
    text = (await client.get(f"{SESSIONS}/s/files/out/a%20b.txt")).json()
    assert (text["content"], text["content_type"], text["encoding"]) == ("grüße", "text/plain", "utf-8")
    raw = (await client.get(f"{SESSIONS}/s/files/raw.bin")).json()
    assert (base64.b64decode(raw["content"]), raw["size_bytes"]) == (b"\xff\x00", 2)
    for path in ("link", "up/secret", "nothing", "out", "raw.bin/x"):
        assert (await client.get(f"{SESSIONS}/s/files/{path}")).status_code == 404, path
    for path in ("%2e%2e/secret", "out/%2e%2e/%2e%2e/secret"):
        assert (await client.get(f"{SESSIONS}/s/files/{path}")).status_code == 400, path
    assert (await client.get(f"{SESSIONS}/s/files?path=../..")).status_code == 400
    assert (await client.get(f"{SESSIONS}/s/files?path=up")).status_code == 404


async def test_a_budget_in_the_context_is_told(client: Client) -> None:
    await submit(client, "a", context={"token_budget": 100, "research_strategy": "deep"})
    session = (await client.get(f"{SESSIONS}/s")).json()
    assert (session["token_budget"], session["budget_remaining"], session["is_near_budget_limit"]) == (100, 100, False)
    assert (session["is_research_session"], session["research_strategy"]) == (True, "deep")
