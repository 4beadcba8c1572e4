"""``client.workflows``: what is sent, the same by both clients, and what the answers become."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from taskloom.client import AsyncClient, Client, Conflict
from taskloom.client.stored_workflows import Workflows
from taskloom.client.stored_workflows_async import AsyncWorkflows

URL, AT = "http://taskloom.test", "2026-01-01T00:00:00Z"
SAVED = {"id": "etl", "revision": 2, "version": "1.0", "changed": True, "created_at": AT}
CONTROLLED = {"success": True, "message": "m", "task_id": "r", "state": "paused"}
EXECUTED = {"task_id": "r", "created_at": AT, "definition_id": "etl", "revision": 1}
SUMMARY = {"id": "a", "name": "A", "revision": 1, "version": "1", "steps": 1, "saved_at": AT, "created_at": AT}
DEFINITION = {"name": "etl", "steps": []}
W = "/api/v1/workflows"

CALLS: list[tuple[Callable[[Any], Any], dict[str, Any], tuple[str, str, Any]]] = [
    (lambda w: w.save(DEFINITION), SAVED, ("POST", W, {"definition": DEFINITION})),
    (
        lambda w: w.save(DEFINITION, "etl", expected_revision=0),
        SAVED,
        ("PUT", f"{W}/etl", {"definition": DEFINITION, "expected_revision": 0}),
    ),
    (lambda w: w.remove("etl", "old"), {**SAVED, "removed": True}, ("DELETE", f"{W}/etl?reason=old", None)),
    (lambda w: w.validate(DEFINITION), {"valid": True}, ("POST", f"{W}/validate", {"definition": DEFINITION})),
    (
        lambda w: w.execute("etl", revision=1, variables={"x": 1}, name="n"),
        EXECUTED,
        ("POST", f"{W}/etl/execute", {"revision": 1, "variables": {"x": 1}, "name": "n"}),
    ),
    (lambda w: w.runs("etl", limit=5), {"tasks": [], "total_count": 0}, ("GET", f"{W}/etl/runs?limit=5", None)),
    (lambda w: w.pause("r", "why"), CONTROLLED, ("POST", f"{W}/r/pause", {"reason": "why"})),
    (lambda w: w.resume("r"), CONTROLLED, ("POST", f"{W}/r/resume", {})),
    (lambda w: w.cancel("r"), CONTROLLED, ("POST", f"{W}/r/cancel", {})),
    (lambda w: w.signal("r", "go", 7), CONTROLLED, ("POST", f"{W}/r/signal", {"name": "go", "payload": 7})),
    (lambda w: w.set_variables("r", {"x": 1}), CONTROLLED, ("PATCH", f"{W}/r/variables", {"values": {"x": 1}})),
    (lambda w: w.variables("r"), {"task_id": "r", "variables": {"x": 1}}, ("GET", f"{W}/r/variables", None)),
    (
        lambda w: w.instantiate("ci_cd", {"repository_url": "r"}, save_as="ci", execute={}),
        {"template": "ci_cd", "definition": {}, "saved": SAVED, "run": EXECUTED},
        ("POST", "/api/v1/templates/ci_cd", {"parameters": {"repository_url": "r"}, "save_as": "ci", "execute": {}}),
    ),
]


def asked(request: httpx.Request) -> tuple[str, str, Any]:
    return request.method, request.url.raw_path.decode(), json.loads(request.content or b"null")


@pytest.mark.parametrize(("wish", "body", "sent"), CALLS)
def test_both_clients_send_the_same(
    wish: Callable[[Any], Any], body: dict[str, Any], sent: tuple[str, str, Any]
) -> None:
    requests: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=body)

    async def other() -> Any:
        async with AsyncClient(URL, transport=httpx.MockTransport(serve)) as client:
            answer: Awaitable[Any] = wish(client.workflows)
            return await answer

    with Client(URL, transport=httpx.MockTransport(serve)) as client:
        one = wish(client.workflows)
    assert one == asyncio.run(other())
    assert [asked(request) for request in requests] == [sent, sent]


def test_a_list_goes_on_page_by_page() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        more = "after" not in request.url.params
        told = SUMMARY if more else {**SUMMARY, "id": "b"}
        return httpx.Response(200, json={"workflows": [told], "total_count": 2, "next_cursor": "a" if more else None})

    async def other() -> list[str]:
        async with AsyncClient(URL, transport=httpx.MockTransport(serve)) as client:
            return [each.id async for each in client.workflows.list()]

    with Client(URL, transport=httpx.MockTransport(serve)) as client:
        assert [each.id for each in client.workflows.list()] == ["a", "b"]
    assert asyncio.run(other()) == ["a", "b"]


def test_a_refusal_has_the_field_at_fault() -> None:
    refused = httpx.MockTransport(lambda _: httpx.Response(409, json={"error": "no", "field": "expected_revision"}))
    with Client(URL, transport=refused) as client, pytest.raises(Conflict) as caught:
        client.workflows.save(DEFINITION, "etl", expected_revision=3)
    assert caught.value.field == "expected_revision"


def test_both_have_the_same_calls() -> None:
    ours, theirs = ({n for n, _ in inspect.getmembers(c) if n[0] != "_"} for c in (Workflows, AsyncWorkflows))
    assert ours == theirs
