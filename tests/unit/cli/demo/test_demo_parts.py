"""Parts of the demo that work without the system."""

import hashlib
import re
import socket
import subprocess
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from taskloom.cli.demo.acts import BY_SERVICE, TOP_MESSAGES, WORST_HOURS
from taskloom.cli.demo.board import Board, Row
from taskloom.cli.demo.functions import MODULE, generate, latencies
from taskloom.cli.demo.home import DemoHome
from taskloom.cli.demo.http_server import price_server
from taskloom.cli.demo.log_file import write_log
from taskloom.cli.demo.waiting import DemoFailed, until
from taskloom.client import Followed
from taskloom.kinds import registered


def test_log_file_is_the_same_for_the_same_seed_and_another_for_another(tmp_path: Path) -> None:
    def digest(name: str, seed: int) -> str:
        write_log(tmp_path / name, 1, seed)
        return hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()

    assert digest("a", 1) == digest("b", 1) != digest("c", 2)


def test_function_and_pipelines_read_the_same_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "shop.log"
    made = generate(str(log), 2)

    def piped(cmd: str) -> str:
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {cmd}"], env={"LOG": str(log), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    found = latencies(str(log))
    assert made["bytes"] == log.stat().st_size >= 2_000_000
    assert made["lines"] == found["requests"]
    assert {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", piped(BY_SERVICE))} == found["errors"]
    assert re.match(r"\s*\d+ upstream timed out\n", piped(TOP_MESSAGES))
    assert len(re.findall(r"^\d\d:00 \d+ errors in \d+ requests$", piped(WORST_HOURS), re.MULTILINE)) == 3


def test_functions_are_registered_under_the_names_the_tasks_use() -> None:
    for name in ("generate", "latencies"):
        assert registered(f"{MODULE}:{name}").process


def test_price_server_adds_up() -> None:
    with price_server() as url, httpx.Client(trust_env=False) as client:
        answer = client.post(url, json={"items": {"loom": 1, "thread": 10}})
    assert answer.json() == {"total": 381.0}


def test_board_without_a_terminal_prints_a_line_for_each_change() -> None:
    paper = StringIO()
    board = Board(Console(file=paper, width=100))
    row = Row("crunch", "shell", followed=Followed(state="completed", attempt=1, last_line="42 [red]lines"))
    with board.live():
        board.add(row)
        board.changed(row)
    board.changed(row)

    [line] = paper.getvalue().splitlines()
    assert re.fullmatch(r" +\d+\.\d s  crunch +completed +42 \[red\]lines", line)


def test_board_keeps_the_rows_of_an_act_together() -> None:
    board = Board(Console(file=StringIO(), width=100))
    for title, place in (("b1", 2), ("a1", 1), ("b2", 2), ("a2", 1)):
        board.add(Row(title, "echo", place=place))

    assert [row.title for row in board.rows] == ["a1", "a2", "b1", "b2"]


def test_demo_without_a_home_lives_in_a_temporary_one_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKLOOM_HOME", raising=False)
    home = DemoHome()
    assert home.path.is_dir()

    home.remove()

    assert not home.path.exists()


def test_demo_keeps_a_home_it_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path / "home"))
    home = DemoHome()
    home.log_file.write_text("x")

    home.remove()

    assert home.path.is_dir()
    assert not home.log_file.exists()


def test_demo_takes_another_port_when_the_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path))
    monkeypatch.setenv("TASKLOOM_PYTHON_MODULES", "mine")
    monkeypatch.delenv("TASKLOOM_HTTP_PORT", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("taskloom.cli.demo.home.USUAL_PORT", taken.getsockname()[1])
        assert DemoHome().settings().http_port == 0
        monkeypatch.setenv("TASKLOOM_HTTP_PORT", "8123")
        assert DemoHome().settings().http_port == 8123


async def test_waiting_in_vain_says_for_what() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(DemoFailed, match=r"the moon is full: not within 0\.05 s"):
        await until(never, "the moon is full", within_s=0.05)
