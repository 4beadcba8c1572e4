"""The verbs for people, against a server that answers from a list."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from taskloom.cli.main import app
from tests.unit.cli.conftest import Server

AT = "2026-01-01T00:00:00Z"
TASK: dict[str, Any] = {
    "task_id": "t1",
    "status": "TASK_STATUS_FAILED",
    "state": "failed",
    "kind": "shell",
    "queue": "default",
    "priority": 2,
    "attempt": 1,
    "max_attempts": 1,
    "version": 6,
    "created_at": AT,
    "started_at": AT,
    "completed_at": AT,
    "error": "[red]boom[/red]",
    "error_type": "exit_code",
    "exit_code": 3,
    "of_a_newer_server": 1,
}
SUBMITTED = {"task_id": "t1", "status": "STATUS_CODE_OK", "created_at": AT}


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=stdin)


def test_task_is_shown_with_its_error_as_it_is(server: Server) -> None:
    server.answers["/api/v1/tasks/t1"] = (200, TASK)

    shown = run("get", "t1", "--as-of", "6")

    assert shown.exit_code == 0
    assert "failed  (FAILED, version 6)" in shown.stdout
    assert "exit_code: [red]boom[/red]" in shown.stdout
    assert server.queries == [{"as_of": ["6"]}]


def test_json_is_the_servers_answer_with_all_its_fields(server: Server) -> None:
    server.answers["/api/v1/tasks/t1"] = (200, TASK)

    assert json.loads(run("get", "t1", "--json").stdout) == TASK


def test_refusal_is_an_error_on_stderr(server: Server) -> None:
    shown = run("get", "t2")

    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr == "error: Task not found\n"


def test_without_a_server_it_says_how_to_start_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_URL", "http://127.0.0.1:1")

    for verb in (["list"], ["watch", "t1"], ["queues"], ["executors"], ["cancel", "t1"]):
        shown = run(*verb)
        assert shown.exit_code == 1
        assert "make up" in shown.stderr


def test_submission_holds_what_was_said_and_nothing_else(server: Server) -> None:
    server.answers["/api/v1/tasks"] = (200, SUBMITTED)

    shown = run("submit", "--cmd", "true", "--priority", "4", "--tag", "a", "--tag", "b", "--attempts", "2")

    assert shown.stdout == "t1\n"
    task = {
        "kind": "shell",
        "input": {"cmd": "true"},
        "priority": 4,
        "tags": ["a", "b"],
        "retry": {"max_attempts": 2},
    }
    assert server.asked == [("POST", "/api/v1/tasks", task)]


@pytest.mark.parametrize("source", ["text", "file", "stdin"])
def test_input_comes_from_the_line_a_file_or_stdin(server: Server, tmp_path: Path, source: str) -> None:
    server.answers["/api/v1/tasks"] = (200, SUBMITTED)
    text = '{"seconds": 1}'
    (tmp_path / "input.json").write_text(text)
    said = {"text": text, "file": f"@{tmp_path / 'input.json'}", "stdin": "-"}[source]

    shown = run("submit", "--kind", "sleep", "--input", said, stdin=text)

    assert shown.exit_code == 0
    assert server.asked[0][2]["input"] == {"seconds": 1}


@pytest.mark.parametrize("wrong", ["[1]", "{", "@/does/not/exist"])
def test_wrong_input_is_refused_before_anything_is_sent(server: Server, wrong: str) -> None:
    shown = run("submit", "--kind", "echo", "--input", wrong)

    assert shown.exit_code == 1
    assert "--input" in shown.stderr
    assert server.asked == []


def test_waiting_for_a_task_that_fails_exits_1(server: Server) -> None:
    server.answers |= {"/api/v1/tasks": (200, SUBMITTED), "/api/v1/tasks/t1": (200, TASK)}

    assert run("submit", "--cmd", "exit 3", "--wait").exit_code == 1


def test_waiting_for_a_task_that_does_not_end_exits_3(server: Server) -> None:
    running = {**TASK, "status": "TASK_STATUS_RUNNING", "state": "running"}
    server.answers |= {"/api/v1/tasks": (200, SUBMITTED), "/api/v1/tasks/t1": (200, running)}

    shown = run("submit", "--cmd", "sleep 9", "--wait", "--timeout", "0.05")

    assert shown.exit_code == 3
    assert "taskloom get t1" in shown.stderr


def test_watching_shows_output_and_events_apart_and_ends_with_the_tasks_success(server: Server) -> None:
    server.answers |= {
        "/api/v1/tasks/t1": (200, {**TASK, "status": "TASK_STATUS_COMPLETED", "state": "completed"}),
        "/api/v1/stream/sse": (
            200,
            (
                b'id: 1-0\nevent: AGENT_STARTED\ndata: {"message":"started","payload":{"attempt":1}}\n\n'
                b'id: 1-1\nevent: output\ndata: {"stream":"stdout","text":"out\\n","message":"out\\n"}\n\n'
                b"id: 2-1\nevent: done\ndata: [DONE]\n\n"
            ),
        ),
    }

    shown = run("watch", "t1")

    assert (shown.exit_code, shown.stdout) == (0, "out\n")
    assert "running     started" in shown.stderr


def test_output_keeps_bytes_and_streams_apart(server: Server) -> None:
    chunk = {"attempt": 1, "at": AT}
    chunks = [
        {**chunk, "seq": 1, "stream": "stdout", "base64": "/wAK"},
        {**chunk, "seq": 2, "stream": "stderr", "text": "oops\n"},
    ]
    pages = iter([{"chunks": chunks, "next": 2, "complete": True}, {"chunks": [], "next": 2, "complete": True}])

    class Pages(dict[str, tuple[int, Any]]):
        def get(self, _path: str, _default: Any = None) -> Any:
            return 200, next(pages)

    server.answers = Pages()

    shown = run("output", "t1")

    assert (shown.stdout_bytes, shown.stderr) == (b"\xff\x00\n", "oops\n")


def test_cancel_takes_reason_and_grace(server: Server) -> None:
    done = {"success": True, "message": "Cancel signal sent", "task_id": "t1", "state": "cancelling"}
    server.answers["/api/v1/tasks/t1/cancel"] = (202, done)

    shown = run("cancel", "t1", "--reason", "enough", "--grace", "0")

    assert shown.stdout == "Cancel signal sent to t1: it is now cancelling\n"
    assert server.asked[0][2] == {"reason": "enough", "grace_s": 0.0}


def test_list_narrows_and_says_how_to_go_on(server: Server) -> None:
    page = {"tasks": [TASK], "total_count": 1000, "total_is_exact": False, "next_cursor": "c2"}
    server.answers["/api/v1/tasks"] = (200, page)

    shown = run("list", "--status", "FAILED", "--metadata", "team=a=b", "--limit", "1")

    assert server.queries == [{"status": ["FAILED"], "limit": ["1"], "metadata.team": ["a=b"]}]
    assert "1 of at least 1,000" in shown.stdout
    assert "--cursor c2" in shown.stdout


def test_why_names_gates_and_holders(server: Server) -> None:
    gate = {"gate": "slot", "detail": "all slots of e1 are taken", "since": AT, "held_by": ["t7"]}
    server.answers["/api/v1/tasks/t1/why"] = (200, {"state": "ready", "gates": [gate], "expected_start": None})

    shown = run("why", "t1")

    assert "slot: all slots of e1 are taken, since" in shown.stdout
    assert "held by t7" in shown.stdout


def test_executors_and_queues_are_tables(server: Server) -> None:
    executor = {"executor_id": "e1", "status": "lost", "kinds": ["echo"], "queues": ["q"], "slots": 2, "held": 1}
    waits = {"p50_s": 0.01, "p90_s": 0.02, "p99_s": 0.03}
    server.answers |= {
        "/api/v1/executors": (200, {"executors": [executor], "total_count": 1}),
        "/api/v1/queues": (200, {"queues": [{"name": "q", "depth": 1234, "waits": waits}], "total_count": 1}),
    }

    assert all(word in run("executors").stdout for word in ("e1", "lost", "1 of 2"))
    assert all(word in run("queues").stdout for word in ("q", "1,234", "0.030 s"))


@pytest.mark.parametrize(
    ("arguments", "method", "path", "sent"),
    [
        (("retry", "t1", "--reason", "mended"), "POST", "/api/v1/tasks/t1/retry", {"reason": "mended"}),
        (("delete", "t1"), "DELETE", "/api/v1/tasks/t1", {}),
        (
            ("update", "t1", "--priority", "4", "--executor", "none", "--metadata", "a=b", "--metadata", "c="),
            "PATCH",
            "/api/v1/tasks/t1",
            {"priority": 4, "assigned_to": None, "metadata": {"a": "b", "c": None}},
        ),
    ],
)
def test_a_task_is_changed_from_the_command_line(
    server: Server, arguments: tuple[str, ...], method: str, path: str, sent: dict[str, Any]
) -> None:
    server.answers[path] = (202, {"success": True, "message": "Done", "task_id": "t1", "state": "ready"})

    assert run(*arguments).stdout == "Done: t1 is ready\n"
    assert server.asked == [(method, path, sent)]


def test_an_update_that_names_nothing_is_not_sent(server: Server) -> None:
    assert run("update", "t1").exit_code == 1
    assert server.asked == []
