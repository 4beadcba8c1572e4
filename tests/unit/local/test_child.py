import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from taskloom.local.child import ManagedProcess, describe_exit, run_to_end
from taskloom.local.errors import StartFailed
from taskloom.local.watch import Watch
from taskloom.testing.eventually import eventually

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
PARENT = (
    "import subprocess, sys, signal; c = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
    "print('up', c.pid, flush=True); signal.pause()"
)


class Script(ManagedProcess):
    """Ready when it has printed a line that begins with ``up``."""

    def __init__(self, log_path: Path, program: str) -> None:
        super().__init__("script", log_path)
        self.program = program

    async def prepare(self) -> None:
        self.log_path.unlink(missing_ok=True)

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.program]

    async def is_ready(self) -> bool:
        return self.log_path.exists() and self.log_path.read_text().startswith("up")


async def test_a_process_that_ends_before_it_is_ready_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    script = Script(tmp_path / "log", "import sys; print('no such thing'); sys.exit(3)")
    with pytest.raises(StartFailed, match=r"script ended with code 3 before it was ready.*\n.*no such thing"):
        await script.start()


async def test_a_process_that_is_not_ready_in_time_is_reported(tmp_path: Path) -> None:
    script = Script(tmp_path / "log", "import signal; signal.pause()")
    try:
        with pytest.raises(StartFailed, match=r"not ready within 0\.1 s"):
            await script.start(0.1)
    finally:
        script.kill()


async def test_a_process_that_ignores_sigterm_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    script = Script(tmp_path / "log", STUBBORN)
    await script.start()
    assert not await script.stop(0.2)
    assert script.exit_code() == -signal.SIGKILL


async def test_killing_a_process_ends_what_it_started_too(tmp_path: Path) -> None:
    script = Script(tmp_path / "log", PARENT)
    await script.start()
    grandchild = psutil.Process(int(script.log_path.read_text().split()[1]))
    os.kill(script.pid or 0, signal.SIGKILL)
    await eventually(lambda: not script.is_running)
    assert grandchild.is_running()

    script.kill()

    await eventually(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


async def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from taskloom.local import child\n"
        "waits = 'import signal; print(1, flush=True); signal.pause()'\n"
        "command = child.launch_command([sys.executable, '-c', waits])\n"
        "import subprocess; c = subprocess.Popen(command, stdout=subprocess.PIPE); c.stdout.readline()\n"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
        await eventually(lambda: not psutil.pid_exists(pid))


async def test_a_command_that_fails_is_reported_with_what_it_said() -> None:
    program = [sys.executable, "-c", "import sys; print('disk is full'); sys.exit(1)"]
    with pytest.raises(StartFailed, match=r"cannot format:\ndisk is full"):
        await run_to_end(program, 10, dict(os.environ), "cannot format")


async def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(StartFailed, match=r"cannot format: not done within 0\.1 s"):
        await run_to_end([sys.executable, "-c", "import signal; signal.pause()"], 0.1, {}, "cannot format")


@pytest.mark.parametrize(
    ("code", "text"), [(0, "ended with code 0"), (-9, "was killed by SIGKILL"), (-99, "was killed by signal 99")]
)
def test_the_end_of_a_process_is_said_in_words(code: int, text: str) -> None:
    assert describe_exit(code) == text


async def test_a_process_that_keeps_dying_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    script = Script(tmp_path / "log", "print('up', flush=True)")
    said: list[str] = []
    await script.start()
    watch = Watch(script, backoff_s=0.01, backoff_cap_s=0.04, say=said.append, changed=lambda: None)
    watching = asyncio.create_task(watch.run())
    try:
        await eventually(lambda: len([line for line in said if "starting it again" in line]) >= 4)
    finally:
        watching.cancel()
    pauses = [line.rpartition(" in ")[2] for line in said if "starting it again" in line]
    assert pauses[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]
