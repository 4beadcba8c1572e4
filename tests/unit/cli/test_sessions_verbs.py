"""``taskloom sessions`` and ``taskloom approvals``, with the calls that they make."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from taskloom.cli.main import app
from taskloom.client import Client

AT = "2026-01-01T00:00:00Z"
SESSION = {
    "session_id": "s-1",
    "user_id": "ann",
    "created_at": AT,
    "updated_at": AT,
    "title": "[b]Sums[/b]",
    "task_count": 2,
    "latest_task_query": "what?",
}
TASK = {
    "task_id": "t1",
    "query": "what?",
    "status": "COMPLETED",
    "state": "completed",
    "kind": "query",
    "started_at": AT,
    "result": "that",
}
APPROVAL = {
    "approval_id": "t1~.approval.1",
    "task_id": "t1",
    "status": "pending",
    "message": "delete all?",
    "requested_at": AT,
    "approvers": ["ann"],
}
DECIDED = {"status": "sent", "success": True, "message": "m", "workflow_id": "t1", "approval_id": "t1~.approval.1"}
ANSWERS: dict[tuple[str, str], Any] = {
    ("GET", "/api/v1/sessions"): {"sessions": [SESSION], "total_count": 1, "next_cursor": "more"},
    ("GET", "/api/v1/sessions/s-1/history"): {"session_id": "s-1", "tasks": [TASK], "total": 1},
    ("PATCH", "/api/v1/sessions/s-1"): {"session_id": "s-1", "title": "Sums"},
    ("DELETE", "/api/v1/sessions/s-1"): None,
    ("GET", "/api/v1/approvals"): {"approvals": [APPROVAL], "next_cursor": None},
    ("POST", "/api/v1/approvals/decision"): DECIDED,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[httpx.Request]:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        key = (request.method, request.url.path)
        if key not in ANSWERS:
            return httpx.Response(404, json={"error": "Session not found"})
        body = ANSWERS[key]
        return httpx.Response(204) if body is None else httpx.Response(200, json=body)

    made = Client.__init__

    def connected(self: Client, base_url: str | None = None, **how: Any) -> None:
        made(self, base_url, transport=httpx.MockTransport(handle), **how)

    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path))
    monkeypatch.setattr(Client, "__init__", connected)
    return requests


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_sessions_are_listed_shown_named_and_removed(asked: list[httpx.Request]) -> None:
    listed = run("sessions", "list", "--text", "Sum", "--active")
    assert (listed.exit_code, asked[-1].url.query.decode()) == (0, "q=Sum&limit=20&active=true")
    assert "s-1" in listed.stdout
    assert "[b]Sums[/b]" in listed.stdout, "a title is text, not markup"
    assert "--cursor more" in listed.stdout
    shown = run("sessions", "show", "s-1", "--as-of", AT)
    assert "completed" in shown.stdout
    assert asked[-1].url.params["as_of"] == AT
    assert json.loads(run("sessions", "show", "s-1", "--json").stdout)["tasks"][0]["task_id"] == "t1"
    assert run("sessions", "title", "s-1", "Sums").stdout == "Sums\n"
    assert "removed" in run("sessions", "delete", "s-1").stdout
    gone = run("sessions", "show", "nothing")
    assert gone.exit_code == 1


def test_approvals_are_listed_approved_and_denied(asked: list[httpx.Request]) -> None:
    listed = run("approvals", "list", "--approver", "me")
    assert asked[-1].url.query.decode() == "approver=me&limit=20&status=pending"
    assert "delete all?" in listed.stdout
    run("approvals", "list", "--status", "all")
    assert "status" not in asked[-1].url.params
    assert run("approvals", "approve", "t1~.approval.1", "--feedback", "fine").exit_code == 0
    body = {"workflow_id": "t1", "approval_id": "t1~.approval.1", "approved": True, "feedback": "fine"}
    assert json.loads(asked[-1].content) == body
    assert "denied" in run("approvals", "deny", "t1~.approval.1").stdout
    assert json.loads(asked[-1].content)["approved"] is False
