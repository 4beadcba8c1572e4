"""Whatever is sent over HTTP: a clear 400 that names the field, nothing stored, and the next request is served."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import TASKS, Api, Json, door

pytestmark = pytest.mark.e2e

ECHO: Json = {"kind": "echo"}


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system, f"tenant-{uuid.uuid4().hex[:8]}") as api:
        yield api


BODIES: dict[str, tuple[bytes | Json, str]] = {
    "empty": (b"", "$"),
    "not JSON": (b"{", "$"),
    "not text": (b'{"kind": "\xff"}', "$"),
    "no object": (b"[1, 2]", "$"),
    "null": (b"null", "$"),
    "deep": (b'{"kind":"echo","input":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001, "$"),
    "unknown field": (ECHO | {"prioritty": 2}, "prioritty"),
    "unknown inner field": (ECHO | {"retry": {"max_atempts": 2}}, "retry.max_atempts"),
    "wrong type": ({"kind": 5}, "kind"),
    "wrong inner type": (ECHO | {"timeouts": {"total_s": "long"}}, "timeouts.total_s"),
    "out of range": (ECHO | {"retry": {"max_attempts": 0}}, "retry.max_attempts"),
    "no query": ({}, "query"),
    "blank query": ({"query": " \n"}, "query"),
    "unknown kind": ({"kind": "teleport"}, "kind"),
    "unknown queue": (ECHO | {"queue": "nobody"}, "queue"),
    "unknown mode": ({"query": "x", "mode": "wild"}, "mode"),
    "unknown tier": ({"query": "x", "model_tier": "huge"}, "model_tier"),
    "no command": ({"kind": "shell", "input": {}}, "input.cmd"),
    "unknown input": ({"kind": "sleep", "input": {"seconds": 1, "minutes": 2}}, "input.minutes"),
    "negative sleep": ({"kind": "sleep", "input": {"seconds": -1}}, "input.seconds"),
    "no function": ({"kind": "python", "input": {"function": "nodots"}}, "input.function"),
    "wrong URL": ({"kind": "http", "input": {"url": "ftp://x"}}, "input.url"),
    "bad id": (ECHO | {"task_id": "a/b"}, "task_id"),
    "long id": (ECHO | {"task_id": "x" * 129}, "task_id"),
    "id with a line feed": (ECHO | {"task_id": "a\n"}, "task_id"),
    "bad session": (ECHO | {"session_id": "a b"}, "session_id"),
    "priority 0": (ECHO | {"priority": 0}, "priority"),
    "priority word": (ECHO | {"priority": "asap"}, "priority"),
    "time without zone": (ECHO | {"run_at": "2030-01-01T00:00:00"}, "run_at"),
    "no time": (ECHO | {"deadline": "tomorrow"}, "deadline"),
    "callback": (ECHO | {"callback_url": "http://example.org"}, "callback_url"),
    "too many tags": (ECHO | {"tags": ["t"] * 101}, "tags"),
    "long tag": (ECHO | {"tags": ["x" * 257]}, "tags[0]"),
    "large metadata": (ECHO | {"metadata": {"x": "y" * 70_000}}, "metadata"),
    "a claim": (ECHO | {"input": {"$claim": "sha256:" + "0" * 64, "bytes": 70_000}}, "input.$claim"),
    "a value over 16 MiB": (ECHO | {"input": {"text": "x" * (16 * 1024 * 1024 + 1)}}, "input"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_submission_is_400_names_its_field_and_leaves_nothing(api: Api, case: str) -> None:
    sent, field = BODIES[case]
    answer = await api.http.post(TASKS, content=sent if isinstance(sent, bytes) else json.dumps(sent))

    assert answer.status_code == 400, answer.text
    assert (answer.json()["field"], bool(answer.json()["error"])) == (field, True)
    assert (await api.get("/tasks"))["total_count"] == 0
    assert (await api.ended(await api.submit(**ECHO)))["state"] == "completed"


async def test_a_body_over_the_limit_is_413(api: Api) -> None:
    answer = await api.http.post(TASKS, content=b" " * (40 * 1024 * 1024 + 1))

    assert answer.status_code == 413
    assert (await api.ended(await api.submit(**ECHO)))["state"] == "completed"


@pytest.mark.parametrize("size", [0, 1001])
async def test_a_batch_has_1_to_1000_entries(api: Api, size: int) -> None:
    answer = await api.http.post(f"{TASKS}/batch", json={"tasks": [ECHO] * size})

    assert (answer.status_code, answer.json()["field"]) == (400, "tasks")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/tasks?limit=0", "limit"),
        ("/tasks?limit=101", "limit"),
        ("/tasks?offset=-1", "offset"),
        ("/tasks?status=WAITING", "status"),
        ("/tasks?cursor=nonsense", "cursor"),
        ("/tasks?created_after=yesterday", "created_after"),
        ("/tasks?as_of=3", "as_of"),
        ("/tasks/a%20b", "task_id"),
        ("/tasks/{id}?as_of=never", "as_of"),
        ("/tasks/{id}/events?limit=201", "limit"),
        ("/tasks/{id}/timeline?mode=brief", "mode"),
        ("/tasks/{id}/output?stream=stdin", "stream"),
        ("/tasks/{id}/output?after=-1", "after"),
        ("/stream/sse?workflow_id=a%20b", "workflow_id"),
    ],
)
async def test_a_bad_read_is_400_and_names_its_field(api: Api, path: str, field: str) -> None:
    task_id = await api.submit(**ECHO)
    answer = await api.http.get(f"/api/v1{path.replace('{id}', task_id)}")

    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field


@pytest.mark.parametrize(
    ("body", "field"), [(b"{", "$"), (b'{"reason": 5}', "reason"), (b'{"why": "x"}', "why"), (b"[]", "$")]
)
async def test_a_bad_control_body_is_400_and_changes_nothing(api: Api, body: bytes, field: str) -> None:
    task_id = await api.submit(kind="echo", run_at="2099-01-01T00:00:00Z")
    for verb in ("cancel", "pause", "resume"):
        answer = await api.http.post(f"{TASKS}/{task_id}/{verb}", content=body)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert (await api.task(task_id))["version"] == 2
    assert (await api.control(task_id, "cancel")).status_code == 202


@pytest.mark.parametrize("tail", ["", "/events", "/timeline", "/output", "/executions", "/why", "/control-state"])
async def test_unknown_tasks_are_404_everywhere(api: Api, tail: str) -> None:
    answer: Any = await api.http.get(f"{TASKS}/unknown-{uuid.uuid4()}{tail}")

    assert (answer.status_code, answer.json()["error"]) == (404, "Task not found")
