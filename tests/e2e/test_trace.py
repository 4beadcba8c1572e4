"""One trace from the client's traceparent to the read row, received as an OpenTelemetry collector would."""

import json
import os
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, door

pytestmark = pytest.mark.e2e

CLIENT_SPAN = "b7ad6b7169203331"


class Span(Struct, frozen=True):
    service: str
    name: str
    span_id: str
    parent_id: str
    task_id: str


class Collector:
    """An OTLP/HTTP receiver that keeps spans by trace id."""

    def __init__(self) -> None:
        self.traces: dict[str, list[Span]] = {}
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                kept.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            [service] = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                [task_id, *_] = [a.value.string_value for a in span.attributes if a.key == "task_id"] or [""]
                known = Span(service, span.name, span.span_id.hex(), span.parent_span_id.hex(), task_id)
                self.traces.setdefault(span.trace_id.hex(), []).append(known)

    def spans(self, trace_id: str, service: str, name: str) -> list[Span]:
        found = self.traces.get(trace_id, [])
        return [span for span in found if span.service == f"taskloom-{service}" and span.name == name]

    async def span(self, trace_id: str, service: str, name: str) -> Span:
        """The first one of that name, once it is here."""
        await eventually(lambda: self.spans(trace_id, service, name))
        return self.spans(trace_id, service, name)[0]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    serving = threading.Thread(target=collector.server.serve_forever, daemon=True)
    serving.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    serving.join(5)


@pytest.fixture
async def system(
    tmp_path: Path, collector: Collector, kafka_bootstrap: str, database_dsn: str, topic_prefix: str
) -> AsyncIterator[RunningSystem]:
    """The four services with tracing on, over the test run's own broker and database."""
    running = RunningSystem(
        tmp_path / "home",
        {
            "TASKLOOM_OTLP_ENDPOINT": collector.url,
            "TASKLOOM_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "TASKLOOM_DATABASE_DSN": database_dsn,
            "TASKLOOM_TOPIC_PREFIX": topic_prefix,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
    try:
        await running.start()
        yield running
    finally:
        await running.stop(20.0)


def fresh_trace() -> tuple[str, str]:
    trace_id = os.urandom(16).hex()
    return trace_id, f"00-{trace_id}-{CLIENT_SPAN}-01"


async def check_below(collector: Collector, trace_id: str, task_id: str, parent_id: str) -> None:
    """Decision below the door, attempt and row below the decision, the decision on the report below the attempt."""
    submit = await collector.span(trace_id, "orchestrator", "decide SubmitTask")
    attempt = await collector.span(trace_id, "executor", "attempt shell")
    report = await collector.span(trace_id, "orchestrator", "decide ReportCompleted")
    applied = await collector.span(trace_id, "projection", "projection.apply")
    assert submit.parent_id == parent_id
    assert attempt.parent_id == submit.span_id
    assert report.parent_id == attempt.span_id
    assert applied.parent_id == submit.span_id
    assert {submit.task_id, attempt.task_id, report.task_id, applied.task_id} == {task_id}


async def test_one_trace_runs_from_the_clients_span_to_the_row_through_both_doors(
    system: RunningSystem, collector: Collector, topic_prefix: str
) -> None:
    """One test for both doors, since services take their time to start."""
    async with door(system) as api:
        await by_http(api, collector)
        await by_kafka(api, collector, system.bootstrap, topic_prefix)


async def by_http(api: Api, collector: Collector) -> None:
    trace_id, traceparent = fresh_trace()
    body = {"kind": "shell", "input": {"cmd": "echo traced"}}
    answer = await api.http.post("/api/v1/tasks", json=body, headers={"traceparent": traceparent})
    task_id = answer.json()["task_id"]
    task = await api.ended(task_id)

    assert (answer.headers["x-trace-id"], task["trace_id"]) == (trace_id, trace_id)
    request = await collector.span(trace_id, "gateway", "gateway.request")
    assert (request.parent_id, request.span_id) == (CLIENT_SPAN, answer.headers["x-span-id"])
    await check_below(collector, trace_id, task_id, request.span_id)


async def by_kafka(api: Api, collector: Collector, bootstrap: str, prefix: str) -> None:
    trace_id, traceparent = fresh_trace()
    task_id = f"traced-{uuid.uuid4()}"
    headers = {"ce_type": "taskloom.task.submit.v1", "ce_id": "1", "ce_source": "/test", "traceparent": traceparent}
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(
            f"{prefix}.commands",
            json.dumps({"kind": "shell", "input": {"cmd": "echo traced"}}).encode(),
            key=task_id.encode(),
            headers=[(name, value.encode()) for name, value in headers.items()],
        )
    finally:
        await producer.stop()
    task = await api.ended(task_id)

    assert task["trace_id"] == trace_id
    await check_below(collector, trace_id, task_id, CLIENT_SPAN)
