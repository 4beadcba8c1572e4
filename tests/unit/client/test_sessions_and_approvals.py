"""What the clients send about sessions and approvals, and what they make of the answers."""

import inspect
import json
from typing import Any

import httpx
import pytest

from taskloom.client import AsyncClient, Client, approval_calls
from taskloom.client.approvals import Approvals
from taskloom.client.approvals_async import AsyncApprovals
from taskloom.client.sessions import Sessions
from taskloom.client.sessions_async import AsyncSessions
from tests.unit.client.test_calls import TASK, URL, Server, answer

AT = "2026-01-01T00:00:00Z"
SESSION = {"session_id": "s 1", "user_id": "ann", "created_at": AT, "updated_at": AT, "title": "x", "new_field": 1}
APPROVAL = {"approval_id": "t~.approval.1", "task_id": "t", "status": "pending", "message": "?", "requested_at": AT}
DECIDED = {"status": "sent", "success": True, "message": "m", "workflow_id": "t", "run_id": "t", "approval_id": "a"}


def sent(server: Server) -> tuple[str, str, Any]:
    request = server.requests[-1]
    return request.method, request.url.raw_path.decode(), json.loads(request.content) if request.content else None


def test_a_decision_is_sent_as_the_contract_says() -> None:
    server = Server(answer(DECIDED))
    assert server.client().approve("t", "t~.approval.1", approved=False, feedback="no").success
    body = {"workflow_id": "t", "approval_id": "t~.approval.1", "approved": False, "feedback": "no"}
    assert sent(server) == ("POST", "/api/v1/approvals/decision", body)
    assert approval_calls.task_of("run~child~step") == "run~child"


def test_pending_approvals_are_asked_for_and_read() -> None:
    server = Server(answer({"approvals": [APPROVAL], "next_cursor": None}))
    [found] = server.client().approvals.pending(approver="me")
    assert (found.task_id, found.approved) == ("t", None)
    assert sent(server)[1] == "/api/v1/approvals?status=pending&approver=me&limit=100"


def test_sessions_are_named_removed_and_listed() -> None:
    server = Server(answer({"session_id": "s 1", "title": "x"}))
    server.client().sessions.title("s 1", "x")
    assert sent(server) == ("PATCH", "/api/v1/sessions/s%201", {"title": "x"})
    server = Server(httpx.Response(204))
    server.client().sessions.delete("s")
    assert sent(server) == ("DELETE", "/api/v1/sessions/s", None)
    server = Server(answer({"sessions": [SESSION], "total_count": 1}))
    assert server.client().sessions.page(active=True, q="x").sessions[0].title == "x"
    assert sent(server)[1] == "/api/v1/sessions?active=true&q=x"


def test_files_keep_the_slashes_of_their_path() -> None:
    server = Server(answer({"success": True, "content": "c", "content_type": "text/plain", "size_bytes": 1}))
    assert server.client().sessions.file("s", "out/a b.txt").content == "c"
    assert sent(server)[1] == "/api/v1/sessions/s/files/out/a%20b.txt"


def test_signals_and_variables_go_to_the_task() -> None:
    server = Server(answer({"success": True, "message": "m", "task_id": "t", "state": "running"}))
    client = server.client()
    client.signal("t", "go", {"n": 1})
    assert sent(server) == ("POST", "/api/v1/tasks/t/signal", {"name": "go", "payload": {"n": 1}})
    client.patch_variables("t", region="eu")
    assert sent(server) == ("PATCH", "/api/v1/tasks/t/variables", {"values": {"region": "eu"}})


async def test_the_asynchronous_client_does_the_same() -> None:
    server = Server(answer({"approvals": [APPROVAL]}), answer(DECIDED), httpx.Response(204), answer(TASK))
    async with AsyncClient(URL, transport=httpx.MockTransport(server)) as client:
        assert len(await client.approvals.pending()) == 1
        assert (await client.approve("t", "a")).success
        await client.sessions.delete("s")


@pytest.mark.parametrize(
    ("blocking", "asynchronous"), [(Sessions, AsyncSessions), (Approvals, AsyncApprovals), (Client, AsyncClient)]
)
def test_both_clients_have_the_same_calls(blocking: type, asynchronous: type) -> None:
    def public(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in found if not name.startswith("_")}

    assert public(blocking) == public(asynchronous)
