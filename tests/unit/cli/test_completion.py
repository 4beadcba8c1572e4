"""What bash proposes, asked as bash asks: by the script that the program prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Server

PROGRAM = Path(sys.executable).with_name("taskloom")


@pytest.fixture
def proposed(tmp_path: Path) -> "Proposed":
    return Proposed(tmp_path)


class Proposed:
    def __init__(self, home: Path) -> None:
        self._environment = {
            "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "TASKLOOM_HOME": str(home),
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        }

    def __call__(self, line: str, url: str = "http://127.0.0.1:9") -> list[str]:
        """The words that bash would show after ``line`` and TAB."""
        words = line.split(" ")
        script = (
            'eval "$(_TASKLOOM_COMPLETE=source_bash taskloom)"\n'
            f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}')\nCOMP_CWORD={len(words) - 1}\n"
            f'complete -p taskloom >/dev/null\n_taskloom_completion taskloom\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        environment = {**self._environment, "TASKLOOM_URL": url}
        done = subprocess.run(
            ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()


def test_verbs_their_verbs_and_options_are_proposed_without_a_server(proposed: Proposed) -> None:
    assert proposed("taskloom web") == ["webhooks"]
    assert {"submit", "sessions", "schedules", "steps"} <= set(proposed("taskloom s"))
    assert proposed("taskloom webhooks re") == ["resume", "remove", "redeliver"]
    assert "--metadata" in proposed("taskloom list --")
    assert proposed("taskloom get t") == []


def test_ids_and_names_are_asked_of_the_server(proposed: Proposed, server: Server) -> None:
    at = "2026-01-01T00:00:00Z"
    task = {
        "queue": "default",
        "priority": 2,
        "attempt": 1,
        "status": "TASK_STATUS_RUNNING",
        "state": "running",
        "kind": "echo",
        "created_at": at,
    }
    tasks = [{"task_id": name, **task} for name in ("task-2", "task-1", "other")]
    server.answers["/api/v1/tasks"] = (200, {"tasks": tasks, "total_count": 3})
    queue = {"name": "slow", "depth": 3, "open": 3, "started": 0, "completed": 0, "completed_per_s": 0.0}
    server.answers["/api/v1/queues"] = (200, {"queues": [queue]})
    hook = {"webhook_id": "wh-1", "url": "https://example.com/"}
    server.answers["/api/v1/webhooks"] = (200, {"webhooks": [hook], "total_count": 1})
    server.answers["/api/v1/sessions"] = (503, {"error": "not now"})

    assert proposed("taskloom cancel task-", server.url) == ["task-2", "task-1"]
    assert proposed("taskloom list --queue ", server.url) == ["slow"]
    assert proposed("taskloom webhooks pause ", server.url) == ["wh-1"]
    assert proposed("taskloom sessions show ", server.url) == []
