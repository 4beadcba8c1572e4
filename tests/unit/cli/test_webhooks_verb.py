"""``taskloom webhooks`` and ``taskloom audit``, with the calls that they make."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from taskloom.cli.main import app
from tests.unit.cli.conftest import Server

AT = "2026-01-01T00:00:00Z"
HOOKS = "/api/v1/webhooks"
HOOK: dict[str, Any] = {
    "webhook_id": "wh-1",
    "url": "https://example.com/[x]",
    "events": ["task.failed"],
    "filter": {"queue": "slow"},
    "enabled": True,
    "secret_serial": 2,
}
DELIVERY = {
    "delivery_id": "d-1",
    "task_id": "t1",
    "webhook_id": "wh-1",
    "event": "task.failed",
    "status": "FAILED",
    "state": "failed",
    "attempts": 6,
    "created_at": AT,
    "error": "answered 500",
}
TAKEN = {"success": True, "message": "Test sent", "task_id": "d-2", "state": "ready"}
ENTRY = {
    "type": "taskloom.audit.entry.v1",
    "id": "1",
    "at": AT,
    "tenant_id": "red",
    "user_id": "ann",
    "home_user": "root",
    "by": "key",
    "method": "POST",
    "route": "/api/v1/tasks/{task_id}/cancel",
    "status": 409,
    "task_id": "t1",
    "named": {"task_id": "t1"},
}


@pytest.fixture
def hooks(server: Server) -> Server:
    server.answers = {
        HOOKS: (200, {"webhooks": [HOOK], "total_count": 1}),
        f"{HOOKS}/wh-1": (200, HOOK),
        f"{HOOKS}/wh-1/test": (202, TAKEN),
        f"{HOOKS}/wh-1/deliveries": (200, {"deliveries": [DELIVERY], "total_count": 3}),
        "/api/v1/tasks/t1/deliveries": (200, {"deliveries": [], "total_count": 0}),
        "/api/v1/deliveries/d-1/redeliver": (202, {**TAKEN, "message": "The task begins anew", "task_id": "d-1"}),
        "/api/v1/callbacks/secret": (200, {"secret": "whsec_c"}),
        "/api/v1/audit": (200, {"entries": [ENTRY], "next_cursor": "1"}),
    }
    return server


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_webhooks_are_listed_and_shown_as_they_are(hooks: Server) -> None:
    listed = run("webhooks", "list")
    assert listed.exit_code == 0
    assert "https://example.com/[x]" in listed.stdout
    assert [word for word in ("failed", "queue slow", "enabled") if word not in listed.stdout] == []
    assert "the 2. one" in run("webhooks", "get", "wh-1").stdout
    assert json.loads(run("webhooks", "list", "--json").stdout)["webhooks"] == [HOOK]


def test_only_the_secret_of_a_new_webhook_goes_to_stdout(hooks: Server) -> None:
    hooks.answers[HOOKS] = (201, {**HOOK, "secret": "whsec_x"})
    added = run(
        "webhooks", "add", "https://e.com/h", "--event", "failed", "--event", "task.cancelled", "--queue", "slow"
    )
    assert (added.exit_code, added.stdout) == (0, "whsec_x\n")
    assert "only time" in added.stderr
    body = {"url": "https://e.com/h", "events": ["task.failed", "task.cancelled"], "filter": {"queue": "slow"}}
    assert hooks.asked[-1] == ("POST", HOOKS, body)


def test_webhooks_are_changed_paused_tried_and_removed(hooks: Server) -> None:
    for words, method, path, body in (
        (("update", "wh-1", "--to", "https://n.com/"), "PUT", "", {"url": "https://n.com/", "rotate_secret": False}),
        (("update", "wh-1", "--kind", "shell"), "PUT", "", {"filter": {"kind": "shell"}, "rotate_secret": False}),
        (("update", "wh-1", "--all-tasks"), "PUT", "", {"filter": {}, "rotate_secret": False}),
        (("pause", "wh-1"), "PUT", "", {"enabled": False}),
        (("resume", "wh-1"), "PUT", "", {"enabled": True}),
        (("test", "wh-1"), "POST", "/test", None),
    ):
        assert run("webhooks", *words).exit_code == 0, words
        assert hooks.asked[-1] == (method, f"{HOOKS}/wh-1{path}", body)
    hooks.answers[f"{HOOKS}/wh-1"] = (200, {"success": True})
    assert run("webhooks", "remove", "wh-1").stdout == "wh-1 is removed\n"
    assert run("webhooks", "secret").stdout == "whsec_c\n"


def test_deliveries_are_those_of_a_webhook_or_of_a_task(hooks: Server) -> None:
    shown = run("webhooks", "deliveries", "wh-1").stdout
    assert [word for word in ("d-1", "failed", "answered 500", "3 in all") if word not in shown] == []
    assert run("webhooks", "deliveries", "--task", "t1").stdout == "no deliveries\n"
    for wrong in ((), ("wh-1", "--task", "t1")):
        assert run("webhooks", "deliveries", *wrong).exit_code == 2
    assert run("webhooks", "redeliver", "d-1").stdout == "The task begins anew: d-1 is ready\n"


def test_the_audit_is_filtered_and_shows_who_acted_for_whom(hooks: Server) -> None:
    shown = run("audit", "--refused", "--user", "ann", "--method", "post", "--status", "409")
    assert shown.exit_code == 0
    assert [
        word for word in ("root for ann", "POST /tasks/{task_id}/cancel", "409", "t1") if word not in shown.stdout
    ] == []
    assert "more: --cursor 1" in shown.stdout
    asked = {"user_id": ["ann"], "method": ["POST"], "status": ["409"], "refused": ["true"], "limit": ["50"]}
    assert hooks.queries[-1] == asked
