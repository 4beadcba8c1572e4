import asyncio
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import AsyncClient as Client
from litestar import Litestar

from taskloom import telemetry
from taskloom.domain.task.commands import SubmitTask
from taskloom.kinds.offers import Offer, offer_of
from taskloom.wire.claims import claimed_digest
from taskloom.wire.messages import ExecutorHeartbeat
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"


async def test_a_submission_is_answered_as_shannon_does(client: Client, system: MemorySystem) -> None:
    answer = await client.post(TASKS, json={"query": "hello", "session_id": "s-1"})
    body = answer.json()
    assert answer.status_code == 200
    assert body["status"] == "STATUS_CODE_OK"
    assert body["task_id"] == body["workflow_id"] == answer.headers["X-Workflow-ID"]
    assert answer.headers["X-Session-ID"] == "s-1"
    assert system.rows[body["task_id"]].query == "hello"


async def test_without_a_session_the_one_that_the_task_gets_is_named(client: Client, system: MemorySystem) -> None:
    answer = await client.post(TASKS, json={"query": "hello"})
    assert answer.headers["X-Session-ID"] == system.rows[answer.json()["task_id"]].session_id


async def test_a_submission_to_stream_is_201_with_a_relative_address(client: Client) -> None:
    answer = await client.post(f"{TASKS}/stream", json={"kind": "echo"})
    body = answer.json()
    assert answer.status_code == 201
    assert body["stream_url"] == f"/api/v1/stream/sse?workflow_id={body['task_id']}"
    assert answer.headers["Link"] == f"<{body['stream_url']}>; rel=stream"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{", "$"),
        ("", "$"),
        ("[]", "$"),
        ("\ud800", "$"),
        ('{"query": 7}', "query"),
        ('{"query": "  "}', "query"),
        ('{"query": "x", "bogus": 1}', "bogus"),
        ('{"query": "x", "retry": {"factr": 1}}', "retry.factr"),
        ('{"query": "x", "retry": {"factor": 0.5}}', "retry.factor"),
        ('{"query": "x", "task_id": "a b"}', "task_id"),
        ('{"query": "x", "task_id": "a\\n"}', "task_id"),
        ('{"query": "x", "session_id": "a\\n"}', "session_id"),
        ('{"query": "x", "mode": "wild"}', "mode"),
        ('{"query": "x", "priority": 9}', "priority"),
        ('{"query": "x", "run_at": "2026-01-01T00:00:00"}', "run_at"),
        ('{"query": "x", "kind": "nonsense"}', "kind"),
        ('{"query": "x", "queue": "nobody"}', "queue"),
        ('{"query": "x", "context": {"sleep_seconds": -1}}', "context.sleep_seconds"),
        ('{"kind": "shell"}', "input.cmd"),
        ('{"kind": "shell", "input": {"cmd": "ls", "cwdd": "/"}}', "input.cwdd"),
        ('{"kind": "echo", "input": {"$claim": "sha256:00", "bytes": 1}}', "input.$claim"),
        ('{"query": "x", "callback_url": "http://plain"}', "callback_url"),
    ],
)
async def test_a_fault_in_the_body_is_400_and_names_the_field(
    client: Client, system: MemorySystem, body: str, field: str
) -> None:
    answer = await client.post(TASKS, content=body.encode("utf-8", "surrogatepass"))
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert answer.json()["error"]
    assert system.sent == []


async def test_a_kind_that_an_executor_announced_just_now_is_taken(client: Client, system: MemorySystem) -> None:
    system.known_now = Offer(frozenset({"transcode"}), frozenset({"media"}))
    answer = await client.post(TASKS, json={"kind": "transcode", "queue": "media"})
    assert answer.status_code == 200


async def test_what_a_tenants_agents_offer_is_for_nobody_else_to_name_or_hear_of(
    client: Client, system: MemorySystem
) -> None:
    beat = ExecutorHeartbeat(
        *("acme:a", "i", "ready", datetime.now(UTC), ("etch",)), queues=("edge",), tenant_id="acme",
        schemas={"etch": {"required": ["plate"]}},
    )  # fmt: skip
    system.known_now = offer_of([beat], datetime.now(UTC))
    acme = {"X-Tenant-Id": "acme"}
    good: dict[str, Any] = {"kind": "etch", "queue": "edge", "input": {"plate": 1}}
    steps = [{"step_type": "task", "id": "a", "task_template": {"kind": "etch", "input": {"plate": 1}}}]
    run: dict[str, Any] = {"kind": "workflow", "input": {"definition": {"name": "w", "steps": steps}}}
    for body in (good, run):
        assert (await client.post(TASKS, json=body, headers=acme)).status_code == 200
    wrong = await client.post(TASKS, json={**good, "input": {}}, headers=acme)
    assert (wrong.status_code, wrong.json()["field"]) == (400, "input.plate")
    for body in (good, run, {"kind": "echo", "queue": "edge"}):
        refused = await client.post(TASKS, json=body)
        assert refused.status_code == 400
        assert "known" in refused.json()["error"]
        assert not {"etch,", "edge,"} & set(refused.json()["error"].partition("known")[2].split())
    task_id = (await client.post(TASKS, json={"query": "x"})).json()["task_id"]
    assert (await client.patch(f"{TASKS}/{task_id}", json={"queue": "edge"})).status_code == 400
    assert (await client.get("/api/v1/queues/edge")).status_code == 404
    assert (await client.get("/api/v1/queues/edge", headers=acme)).status_code == 200


async def test_unknown_kinds_are_refused_with_the_known_ones(client: Client) -> None:
    error = (await client.post(TASKS, json={"kind": "nonsense"})).json()["error"]
    assert {"echo", "http", "python", "query", "shell", "sleep"} <= set(error.rpartition(": ")[2].split(", "))


async def test_the_same_key_is_the_same_task_even_at_once(client: Client, system: MemorySystem) -> None:
    headers = {"Idempotency-Key": "order-7"}
    answers = await asyncio.gather(*(client.post(TASKS, json={"query": "x"}, headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert sorted(answer.headers.get("X-Idempotency-Cached", "") for answer in answers) == ["", *["true"] * 4]
    assert len({answer.json()["created_at"] for answer in answers}) == 1
    assert len(system.rows) == 1


async def test_another_body_under_a_key_is_409(client: Client) -> None:
    headers = {"Idempotency-Key": "order-7"}
    await client.post(TASKS, json={"query": "x"}, headers=headers)
    answer = await client.post(TASKS, json={"query": "y"}, headers=headers)
    assert answer.status_code == 409
    assert answer.json()["field"] == "Idempotency-Key"
    assert "'order-7'" in answer.json()["error"]


async def test_tenants_do_not_share_keys(client: Client) -> None:
    ids = set()
    for tenant in ("red", "blue"):
        headers = {"Idempotency-Key": "order-7", "X-Tenant-Id": tenant}
        ids.add((await client.post(TASKS, json={"query": tenant}, headers=headers)).json()["task_id"])
    assert len(ids) == 2


async def test_an_unconfirmed_id_is_503_and_safe_to_repeat(client: Client, system: MemorySystem) -> None:
    system.silent = True
    answer = await client.post(TASKS, json={"query": "x", "task_id": "mine"})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    system.silent = False
    assert (await client.post(TASKS, json={"query": "x", "task_id": "mine"})).status_code == 200


async def test_a_fresh_id_is_acknowledged_without_the_orchestrator(client: Client, system: MemorySystem) -> None:
    system.silent = True
    answer = await client.post(TASKS, json={"query": "x"})
    assert answer.status_code == 200
    assert system.sent[0].attributes.reply_to == ""


async def test_kafka_away_is_503(client: Client, system: MemorySystem) -> None:
    system.away = True
    answer = await client.post(TASKS, json={"query": "x"})
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


async def test_prefer_wait_answers_with_what_the_orchestrator_said(client: Client) -> None:
    answer = await client.post(TASKS, json={"query": "x"}, headers={"Prefer": "wait=5"})
    assert answer.headers["Preference-Applied"] == "wait"
    wrong = await client.post(TASKS, json={"query": "x"}, headers={"Prefer": "wait=soon"})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "Prefer")


async def test_large_values_travel_as_references_and_come_back_whole(client: Client, system: MemorySystem) -> None:
    text = "x" * 100_000
    answer = await client.post(
        TASKS, json={"kind": "echo", "input": {"text": text}, "context": {"more": text}, "model_tier": "small"}
    )
    command = system.sent[0].command
    assert isinstance(command, SubmitTask)
    digest = claimed_digest(command.input)
    assert digest is not None
    assert hashlib.sha256(system.stored[digest]).hexdigest() == digest
    task = (await client.get(f"{TASKS}/{answer.json()['task_id']}")).json()
    assert task["input"] == {"text": text}
    assert task["context"] == {"more": text, "model_tier": "small"}


@pytest.mark.parametrize("field", ["metadata", "input"])
async def test_a_value_over_its_limit_is_400_and_names_the_field(client: Client, field: str) -> None:
    size = {"metadata": 70_000, "input": 17_000_000}[field]
    answer = await client.post(TASKS, json={"kind": "echo", field: {"a": "x" * size}})
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_a_body_over_the_limit_is_413(client: Client) -> None:
    answer = await client.post(TASKS, content=b" " * (41 * 1024 * 1024))
    assert answer.status_code == 413
    assert "allowed" in answer.json()["error"]


async def test_one_bad_entry_of_a_batch_refuses_only_itself(client: Client, system: MemorySystem) -> None:
    entries: list[Any] = [{"kind": "echo"}, {"kind": "nonsense"}, {"query": "x", "extra": 1}, 7, {"query": "y"}]
    answer = await client.post(f"{TASKS}/batch", json={"tasks": entries})
    body = answer.json()
    assert answer.status_code == 200
    assert (body["accepted"], body["rejected"]) == (2, 3)
    assert [entry["index"] for entry in body["tasks"]] == [0, 1, 2, 3, 4]
    assert [entry.get("field") for entry in body["tasks"]] == [None, "kind", "extra", "$", None]
    assert len(system.rows) == 2


async def test_a_repeated_batch_with_a_key_makes_no_new_tasks(client: Client, system: MemorySystem) -> None:
    body = {"tasks": [{"query": "a"}, {"query": "b"}]}
    first, second = [
        (await client.post(f"{TASKS}/batch", json=body, headers={"Idempotency-Key": "k"})).json() for _ in range(2)
    ]
    assert first["tasks"] == second["tasks"]
    assert len(system.rows) == 2


async def test_an_id_that_is_taken_refuses_only_its_entry(client: Client) -> None:
    await client.post(TASKS, json={"query": "first", "task_id": "mine"})
    body = (
        await client.post(f"{TASKS}/batch", json={"tasks": [{"query": "other", "task_id": "mine"}, {"query": "b"}]})
    ).json()
    assert (body["accepted"], body["rejected"]) == (1, 1)
    assert body["tasks"][0]["field"] == "task_id"


@pytest.mark.parametrize("tasks", [[], [{"query": "x"}] * 1001, "text"])
async def test_a_batch_has_1_to_1000_entries(client: Client, tasks: Any) -> None:
    answer = await client.post(f"{TASKS}/batch", json={"tasks": tasks})
    assert (answer.status_code, answer.json()["field"]) == (400, "tasks")


async def test_the_trace_of_the_caller_goes_into_the_command(client: Client, system: MemorySystem) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-ID": "req-1"}
    answer = await client.post(TASKS, json={"query": "x"}, headers=headers)
    assert answer.headers["X-Trace-ID"] == trace
    assert system.sent[0].attributes.traceparent[3:35] == trace
    assert system.sent[0].attributes.correlation_id == "req-1"


async def test_too_far_behind_is_429_for_submissions_only(client: Client, app: Litestar, system: MemorySystem) -> None:
    system.lag = 61_000.0
    await app.state["gateway"].lag.look()
    answer = await client.post(TASKS, json={"query": "x"})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await client.get(TASKS)).status_code == 200


async def test_json_of_the_answer_is_plain(client: Client) -> None:
    answer = await client.post(TASKS, content=json.dumps({"query": "é\u2028"}).encode())
    assert answer.status_code == 200


async def test_each_request_is_a_server_span_and_its_command_a_child(client: Client, system: MemorySystem) -> None:
    exporter = telemetry.record_in_memory()
    try:
        headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        answer = await client.post(TASKS, json={"query": "x"}, headers=headers)
        [span] = exporter.get_finished_spans()
        attributes = dict(span.attributes or {})
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
        assert (attributes["http.route"], attributes["http.response.status_code"]) == (TASKS, 200)
        assert (
            system.sent[0].attributes.traceparent[36:52]
            == f"{span.context.span_id:016x}"
            == answer.headers["X-Span-ID"]
        )
    finally:
        telemetry.shutdown_tracing()


async def test_a_repeated_control_call_under_a_key_is_answered_like_the_first(client: Client) -> None:
    await client.post(TASKS, json={"query": "x", "task_id": "mine"})
    answers = [await client.post(f"{TASKS}/mine/pause", headers={"Idempotency-Key": "p"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert (await client.post(f"{TASKS}/mine/pause")).status_code == 409


async def test_a_named_request_is_found_by_that_name(client: Client, system: MemorySystem) -> None:
    answer = await client.post(TASKS, json={"query": "x"}, headers={"X-Trace-ID": "checkout-42"})
    assert answer.headers["X-Trace-ID"] == "checkout-42"
    assert len(system.sent[0].attributes.traceparent) == 55
