import json
import os
from pathlib import Path

import pytest

from taskloom.cli.beside import use_running_home


def test_tools_find_the_system_that_runs_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "dsn": "postgresql:///x"}))
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path))
    monkeypatch.setenv("TASKLOOM_URL", "http://127.0.0.1:2")
    # Set before it is deleted, so that its absence is what comes back after the test, not what the call leaves.
    monkeypatch.setenv("TASKLOOM_DATABASE_DSN", "")
    monkeypatch.delenv("TASKLOOM_DATABASE_DSN")
    use_running_home()
    assert os.environ["TASKLOOM_DATABASE_DSN"] == "postgresql:///x"
    assert os.environ["TASKLOOM_URL"] == "http://127.0.0.1:2"


def test_without_a_running_system_nothing_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path))
    monkeypatch.delenv("TASKLOOM_DATABASE_DSN", raising=False)
    use_running_home()
    assert "TASKLOOM_DATABASE_DSN" not in os.environ
