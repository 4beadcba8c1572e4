"""Submitting and reading over HTTP: keys, own ids, batches, lists, earlier moments, output, and tenants apart (I9)."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import TASKS, Api, Json, door

pytestmark = pytest.mark.e2e

SLOW: Json = {"query": "take your time", "context": {"sleep_seconds": 60}}


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    """The door of a tenant of the test's own, so that lists and counts hold nothing else."""
    async with door(running_system, f"tenant-{uuid.uuid4().hex[:8]}") as api:
        yield api


@pytest.fixture
async def stranger(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system, f"stranger-{uuid.uuid4().hex[:8]}") as api:
        yield api


async def ended(api: Api, **body: Any) -> Json:
    return await api.ended(await api.submit(**body))


async def test_one_key_sent_20_times_at_once_is_one_task(api: Api) -> None:
    key, body = {"Idempotency-Key": uuid.uuid4().hex}, {"kind": "echo", "input": {"n": 1}}
    answers = await asyncio.gather(*(api.http.post(TASKS, json=body, headers=key) for _ in range(20)))
    other = await api.http.post(TASKS, json={"kind": "echo", "input": {"n": 2}}, headers=key)

    assert {answer.status_code for answer in answers} == {200}
    [task_id] = {answer.json()["task_id"] for answer in answers}
    assert len({answer.json()["created_at"] for answer in answers}) == 1
    assert other.status_code == 409
    await api.ended(task_id)
    assert (await api.types(task_id)).count("WORKFLOW_STARTED") == 1
    assert (await api.get("/tasks"))["total_count"] == 1


async def test_a_chosen_id_is_one_task_and_another_body_is_a_conflict(api: Api) -> None:
    name = f"mine-{uuid.uuid4()}"
    first = await api.submit(kind="echo", task_id=name, input={"n": 1})
    task = await api.ended(name)
    again = await api.submit(kind="echo", task_id=name, input={"n": 1})
    other = await api.http.post(TASKS, json={"kind": "echo", "task_id": name, "input": {"n": 2}})

    assert first == again == name
    assert (other.status_code, other.json()["field"]) == (409, "task_id")
    assert (await api.task(name))["version"] == task["version"]


async def test_bad_entries_of_a_batch_refuse_only_themselves(api: Api) -> None:
    bad: list[Any] = [
        {"kind": "nonsense"},
        {"kind": "shell"},
        {"kind": "echo", "priority": 9},
        {"kind": "echo", "retry": {"factor": 0}},
        {"kind": "echo", "oops": 1},
        {"kind": "echo", "task_id": "not an id"},
        {"kind": "echo", "queue": "nobody-serves-this"},
        "no object",
    ]
    entries = [entry for pair in zip(bad, ({"kind": "echo", "input": {"n": n}} for n in range(8)), strict=True)
               for entry in pair]  # fmt: skip
    answer = await api.http.post(f"{TASKS}/batch", json={"tasks": entries})

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (8, 8)
    assert [entry["index"] for entry in body["tasks"]] == list(range(16))
    refused, taken = body["tasks"][::2], body["tasks"][1::2]
    fields = [entry["field"] for entry in refused]
    assert fields == ["kind", "input.cmd", "priority", "retry.factor", "oops", "task_id", "queue", "$"]
    assert all(entry["error"] for entry in refused)
    tasks = [await api.ended(entry["task_id"]) for entry in taken]
    assert [task["response"] for task in tasks] == [{"n": n} for n in range(8)]


async def test_a_batch_of_1000_under_a_key_can_be_repeated(api: Api) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    batch = {"tasks": [{"kind": "echo", "input": {"n": n}} for n in range(1000)]}
    answers = [await api.http.post(f"{TASKS}/batch", json=batch, headers=key) for _ in range(2)]

    first, second = ([entry["task_id"] for entry in answer.json()["tasks"]] for answer in answers)
    assert first == second
    assert len(set(first)) == 1000

    async def all_completed() -> bool:
        return bool((await api.get("/tasks", status="COMPLETED"))["total_count"] == 1000)

    await eventually(all_completed)


async def test_lists_are_filtered_and_paged_without_skip_or_double(api: Api) -> None:
    session = f"session-{uuid.uuid4().hex[:8]}"
    common: Json = {"session_id": session, "metadata": {"customer": "acme"}}
    for n in range(7):
        await api.submit(kind="echo", input={"n": n}, tags=["seven", f"n{n}"], **common)
    await eventually(lambda: _count_is(api, 7, status="completed"))
    failed = await ended(api, kind="shell", input={"cmd": "exit 9"}, retry={"max_attempts": 1}, tags=["bad"])
    held = await api.submit(kind="echo", run_at="2099-01-01T00:00:00Z", query="find this needle")
    await api.control(held, "pause")

    async def ids(**query: Any) -> list[str]:
        return [task["task_id"] for task in (await api.get("/tasks", **query))["tasks"]]

    await eventually(lambda: _count_is(api, 1, status="PAUSED"))
    assert await ids(status="FAILED") == await ids(tag="bad") == await ids(q="exit code 9") == [failed["task_id"]]
    assert await ids(status="PAUSED") == await ids(q="NEEDLE") == [held]
    assert len(await ids(session_id=session)) == len(await ids(tag="seven")) == 7
    assert len(await ids(**{"metadata.customer": "acme"})) == 7
    assert await ids(**{"metadata.customer": "other"}) == []
    assert await ids(kind="shell") == [failed["task_id"]]
    assert len(await ids(queue="default")) == 9
    assert await ids(queue="elsewhere") == []
    assert len(await ids(status="completed,failed")) == 8
    before, after = await ids(created_before=failed["created_at"]), await ids(created_after=failed["created_at"])
    assert (len(before), after) == (7, [held, failed["task_id"]])

    everything = await ids(limit=100)
    assert await ids(limit=3, offset=4) == everything[4:7]
    pages: list[str] = []
    cursor: Json = {}
    while True:
        page = await api.get("/tasks", limit=2, **cursor)
        pages += [task["task_id"] for task in page["tasks"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        await api.submit(kind="echo")  # what arrives meanwhile moves no page
    assert pages == everything
    assert len(everything) == 9


async def _count_is(api: Api, count: int, **query: Any) -> bool:
    return bool((await api.get("/tasks", **query))["total_count"] == count)


async def test_earlier_moments_are_answered_by_version_and_by_time(api: Api) -> None:
    task_id = await api.submit(kind="echo", input={"fail_times": 1}, retry={"initial_s": 0.1})
    await api.ended(task_id)
    events = [event for event in await api.events(task_id) if event["type"] != "STREAM_END"]
    states = [(await api.task(task_id, as_of=event["seq"]))["state"] for event in events]
    begun = ["ready", "assigned", "running"]
    assert states == ["ready", *begun, "ready", "retrying", *begun, "completed"]

    failed = events[4]
    then = await api.task(task_id, as_of=failed["timestamp"])
    assert then["version"] >= failed["seq"]
    assert then["state"] in ("ready", "retrying")
    assert "response" not in then
    early = await api.events(task_id, as_of=4)
    assert [event["seq"] for event in early] == [1, 2, 3, 4]
    tried = (await api.get(f"/tasks/{task_id}/executions", as_of=5))["executions"]
    assert [(each["attempt"], each["status"]) for each in tried] == [(1, "failed")]
    lines = (await api.get(f"/tasks/{task_id}/timeline", mode="full", as_of=4))["events"]
    assert "WF_COMPLETED" not in [line["type"] for line in lines]
    before = await api.http.get(f"{TASKS}/{task_id}", params={"as_of": "2020-01-01T00:00:00Z"})
    wrong = await api.http.get(f"{TASKS}/{task_id}", params={"as_of": "yesterday"})
    assert (before.status_code, wrong.status_code, wrong.json()["field"]) == (404, 400, "as_of")


async def test_a_timeline_folds_attempts_into_lines_and_full_shows_everything(api: Api) -> None:
    task_id = await api.submit(kind="echo", input={"fail_times": 1}, retry={"initial_s": 0.05})
    await api.ended(task_id)
    summary = await api.get(f"/tasks/{task_id}/timeline")
    full = await api.get(f"/tasks/{task_id}/timeline", mode="full", include_payloads=True)

    assert [line["type"] for line in summary["events"]] == [
        "WF_STARTED", "ACT_FAILED", "TIMER_FIRED", "ACT_COMPLETED", "WF_COMPLETED",
    ]  # fmt: skip
    assert summary["stats"] == {"total": 5, "mode": "summary"}
    assert [line["seq"] for line in full["events"]] == list(range(1, len(full["events"]) + 1))
    assert {"ACT_SCHEDULED", "ACT_STARTED", "TIMER_STARTED"} <= {line["type"] for line in full["events"]}
    assert full["events"][0]["payload"]["spec"]["kind"] == "echo"


async def test_5_mb_of_output_are_there_whole_as_text_and_as_chunks(api: Api) -> None:
    command = "seq 100000000 100499999"
    task = await ended(api, kind="shell", input={"cmd": command})
    expected = "".join(f"{n}\n" for n in range(100_000_000, 100_500_000)).encode()
    path = f"/tasks/{task['task_id']}/output"

    text, after, complete = b"", 0, False
    while not complete:
        page = await api.http.get(f"/api/v1{path}", params={"format": "text", "limit": 1000, "after": after})
        assert int(page.headers["X-Taskloom-Next"]) > after or page.headers["X-Taskloom-Complete"] == "true"
        text += page.content
        after, complete = int(page.headers["X-Taskloom-Next"]), page.headers["X-Taskloom-Complete"] == "true"
    assert hashlib.sha256(text).hexdigest() == hashlib.sha256(expected).hexdigest()

    chunks: list[Json] = []
    while not (found := await api.get(path, after=chunks[-1]["seq"] if chunks else 0, limit=1000))["complete"]:
        chunks += found["chunks"]
    chunks += found["chunks"]
    assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert "".join(chunk["text"] for chunk in chunks).encode() == expected
    assert task["output_bytes"] == len(expected)


async def test_output_is_read_by_stream(api: Api) -> None:
    task = await ended(api, kind="shell", input={"cmd": "echo a; echo b >&2; echo c"})
    errors = await api.get(f"/tasks/{task['task_id']}/output", stream="stderr")

    assert [chunk["text"] for chunk in errors["chunks"]] == ["b\n"]
    assert errors["chunks"][0]["stream"] == "stderr"


async def test_executors_say_what_they_run_and_queues_how_they_fare(api: Api) -> None:
    await ended(api, kind="echo")
    executors = await api.get("/executors")
    [mine] = [each for each in executors["executors"] if each["executor_id"] == "executor-1"]
    queues = await api.get("/queues")

    assert {"echo", "http", "python", "query", "shell", "sleep"} <= set(mine["kinds"])
    assert (mine["status"], mine["queues"]) == ("ready", ["default", "webhooks"])
    assert mine["slots"] > 0
    assert await api.get("/executors/executor-1")
    [stats] = queues["queues"]
    assert (stats["name"], stats["started"], stats["completed"], stats["open"]) == ("default", 1, 1, 0)
    assert stats["waits"]["p50_s"] >= 0


async def test_figures_count_what_ran_and_only_the_tenants_own(api: Api, stranger: Api) -> None:
    past = "2026-01-01T00:00:00Z"
    done = [await api.submit(kind="shell", input={"cmd": "true"}) for _ in range(3)]
    done += [await api.submit(kind="shell", input={"cmd": "exit 3"}, retry={"max_attempts": 2, "initial_s": 0.01})]
    done += [await api.submit(kind="echo", deadline=past)]
    await asyncio.gather(*map(api.ended, done))
    system, report, queue = await asyncio.gather(
        api.get("/metrics/system"), api.get("/metrics/report", hours=2), api.get("/queue/stats")
    )
    held = await api.get("/executors/executor-1/stats")
    health = await api.get("/health/components")

    assert (system["total_tasks_processed"], system["concurrent_tasks"]) == (5, 0)
    assert 0 < system["tasks_per_minute"] <= 4
    assert (system["failure_rate_percent"], system["sla_violations_last_hour"]) == (20.0, 1)
    hours = report["performance_trends"]["hourly_trends"]
    assert (len(hours), sum(hour["completed_tasks"] for hour in hours)) == (2, 4)
    assert sum(agent["total_tasks"] for agent in report["agent_metrics"].values()) == 6, "an attempt more failed"
    assert report["sla_metrics"]["compliance_rate_24h"] == 0.0
    assert (queue["total_tasks"], queue["completed_tasks"], queue["failed_tasks"], queue["queue_length"]) == (
        5,
        4,
        1,
        0,
    )
    assert held["total_executions"] == report["agent_metrics"]["executor-1"]["total_tasks"]
    assert (await api.get("/agents/executor-1/stats"))["total_executions"] == held["total_executions"]
    assert health["components"]["orchestrator"]["status"] == "healthy"
    assert health["components"]["projection"]["status"] in ("healthy", "degraded"), health
    theirs = await stranger.get("/metrics/system")
    assert (theirs["total_tasks_processed"], theirs["peak_concurrent_tasks"]) == (0, 0)
    assert (await stranger.get("/metrics/report"))["agent_metrics"] == {}
    assert (await stranger.get("/queue/stats"))["total_tasks"] == 0
    assert (await stranger.get("/executors/executor-1/stats"))["total_executions"] == 0


async def test_another_tenant_finds_counts_and_controls_nothing(api: Api, stranger: Api) -> None:
    session = f"session-{uuid.uuid4().hex[:8]}"
    task_id = await api.submit(**SLOW, session_id=session)
    await api.until(task_id, "running")
    tail = ["", "/events", "/timeline", "/output", "/executions", "/why", "/control-state"]
    paths = [f"{TASKS}/{task_id}{end}" for end in tail] + [f"{TASKS}/{task_id}?as_of=1"]
    paths += [f"/api/v1/stream/sse?workflow_id={task_id}"]
    paths += [f"/api/v1/sessions/{session}{end}" for end in ("", "/history", "/events")]
    answers = {path: (await stranger.http.get(path)).status_code for path in paths}
    refused = {verb: (await stranger.control(task_id, verb)).status_code for verb in ("cancel", "pause", "resume")}
    taken = await stranger.http.post(TASKS, json={**SLOW, "session_id": session, "task_id": task_id})

    assert answers == dict.fromkeys(paths, 404)
    assert refused == {"cancel": 404, "pause": 404, "resume": 404}
    assert taken.status_code == 409
    assert "running" not in taken.text, "the state of a foreign task was told"
    assert (await stranger.get("/tasks"))["total_count"] == 0
    assert (await stranger.get("/tasks", session_id=session))["tasks"] == []
    assert (await stranger.get("/sessions"))["sessions"] == []
    assert (await stranger.get("/queues"))["queues"] == []
    assert task_id not in (await stranger.http.get("/api/v1/executors")).text
    task = await api.task(task_id)
    assert (task["state"], task["is_paused"]) == ("running", False)
    await api.control(task_id, "cancel", grace_s=0)
    await api.ended(task_id)


async def test_tenants_may_use_the_same_key_and_session(api: Api, stranger: Api) -> None:
    key, session = {"Idempotency-Key": uuid.uuid4().hex}, f"session-{uuid.uuid4().hex[:8]}"
    body: Json = {"kind": "echo", "session_id": session}
    mine, theirs = await api.submit(key, **body), await stranger.submit(key, **body)
    await asyncio.gather(api.ended(mine), stranger.ended(theirs))

    assert mine != theirs
    for door_, task_id in ((api, mine), (stranger, theirs)):
        history = await door_.get(f"/sessions/{session}/history")
        assert [task["workflow_id"] for task in history["tasks"]] == [task_id]


async def test_a_read_right_after_the_submission_finds_the_task(api: Api) -> None:
    for _ in range(20):
        task_id = await api.submit(kind="echo")
        answer: httpx.Response = await api.http.get(f"{TASKS}/{task_id}")
        assert answer.status_code == 200
        assert (await api.http.get(f"{TASKS}/{task_id}/events")).json()["count"] > 0
