"""`taskloom demo` as a user runs it."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from taskloom.testing.eventually import eventually

pytestmark = pytest.mark.e2e

DEMO: Final = [sys.executable, "-m", "taskloom", "demo"]
LIMIT_S: Final = 110


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """The demo makes its home in ``tmp_path``."""
    (tmp_path / "tmp").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKLOOM_")}
    return inherited | {"TMPDIR": str(tmp_path / "tmp"), "TASKLOOM_HTTP_PORT": "0"} | more


def left_of(tmp_path: Path) -> list[str]:
    """Command lines of processes that have to do with a home under ``tmp_path``."""
    lines = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(tmp_path) in text for text in told):
            lines.append(" ".join(process.cmdline()))
    return lines


def test_demo_runs_real_tasks_tells_their_history_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(DEMO, env=environment(tmp_path), capture_output=True, text=True, timeout=LIMIT_S)

    said = done.stdout
    assert done.returncode == 0, f"{said}\n{done.stderr}"
    assert done.stderr == ""
    for title in ("machine: system", "log: worst hours", "HTTP: ask", "by Kafka: date", "ask the offline assistant"):
        assert re.search(rf"{title}.* completed ", said), title
    assert re.search(r"fails twice, then succeeds +completed +attempt 3", said)
    assert re.search(r"a stubborn process group +cancelled", said)
    assert "first → urgent → second → third" in said
    assert re.search(r"goal: a report of errors +completed", said)
    assert re.search(r"✓ Find the five most frequent errors.*\n.*✓ Group them by hour.*\n.*✓ Write a report", said)
    assert re.search(r"killed during: Find the five.*; [6-9] attempts for 5 tasks", said)
    assert "and 18 more hours in the report" in said
    assert re.search(r"requested .*\n +signalled .*\n +escalated .*\n +confirmed ", said)
    assert re.search(r"of the task before: [4-9]; left: 0", said)
    assert re.search(r"1,000 tasks taken in [\d.]+ s", said)
    assert re.search(r"state +retrying +completed", said)
    assert "capability: no executor has all of the capabilities gpu" in said
    assert "history is unbroken and the read tables match it" in said
    assert list((tmp_path / "tmp").iterdir()) == []
    assert left_of(tmp_path) == []


def test_demo_on_a_taken_port_says_so_and_exits_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            DEMO,
            env=environment(tmp_path, TASKLOOM_HTTP_PORT=port),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    assert done.returncode == 1
    assert f"127.0.0.1:{port} is taken" in done.stdout
    assert left_of(tmp_path) == []


@pytest.mark.chaos
async def test_interrupted_demo_stops_everything_and_exits_130(tmp_path: Path) -> None:
    paper = tmp_path / "said"
    with paper.open("wb") as out:
        demo = subprocess.Popen(DEMO, env=environment(tmp_path), stdout=out, stderr=subprocess.STDOUT)
        try:
            await eventually(lambda: " running" in paper.read_text(), 60.0)
            demo.send_signal(signal.SIGINT)
            code = await eventually(lambda: [demo.poll()] if demo.poll() is not None else None, 40.0)
        finally:
            demo.kill()
            demo.wait()

    assert code == [130], paper.read_text()
    assert paper.read_text().endswith("interrupted; everything is stopped\n")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert left_of(tmp_path) == []
