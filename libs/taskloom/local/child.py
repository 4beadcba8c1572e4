"""One child process: started in its own process group, tied to our life, its output in a file."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from taskloom.local.errors import StartFailed

POLL_S: Final = 0.05
TAIL_BYTES: Final = 4096
_LAUNCH: Final = str(Path(__file__).with_name("launch.py"))


class ManagedProcess(ABC):
    """A process that can be started until ready, stopped, killed and started again under the same addresses.

    It dies with this process, whatever ends this process. Start it from the main thread: the kernel ties a child to the
    thread that made it.
    """

    start_timeout_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL

    def __init__(self, name: str, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    async def prepare(self) -> None:
        """Makes what the process needs on disk; called before each start, does nothing when all is there."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether it does its work now; answers within 2 s and does not raise."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def user(self) -> tuple[int, int]:
        """(uid, gid) to run as; (-1, -1) for ours."""
        return -1, -1

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; otherwise the code, negative for the signal that killed it."""
        return 0 if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Starts the process and returns at once."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.launched(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )

    def launched(self, command: list[str]) -> list[str]:
        """``command`` run as this process's user and tied to our life."""
        return launch_command(command, self.death_signal, self.user())

    async def start(self, timeout_s: float | None = None) -> None:
        """Returns when the process is ready.

        Raises:
            StartFailed: it ended or was not ready within ``timeout_s`` (default: its own); with its log's last lines.
        """
        await self.prepare()
        self.spawn()
        await self.wait_ready(self.start_timeout_s if timeout_s is None else timeout_s)

    async def wait_ready(self, timeout_s: float) -> None:
        """As ``start``, for a process that is already spawned."""
        deadline = time.monotonic() + timeout_s
        while not await self.is_ready():
            if (code := self.exit_code()) is not None:
                raise StartFailed(f"{self.name} {describe_exit(code)} before it was ready; {self.log_hint()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.name} was not ready within {timeout_s:g} s; {self.log_hint()}")
            await asyncio.sleep(POLL_S)

    async def stop(self, timeout_s: float = 5.0) -> bool:
        """Asks it to end, waits, kills its group when the time is over. True when it ended by itself."""
        process = self._process
        if process is None:
            return True
        if process.poll() is None:
            process.send_signal(self.stop_signal)
        ended = await self._wait(process, timeout_s)
        self.kill()
        return ended

    def kill(self) -> None:
        """SIGKILL to its whole process group, also when the process itself has ended; returns when it is gone."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()

    def log_tail(self) -> str:
        """The last lines of its log, at most 4 KiB."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-15:])

    def log_hint(self) -> str:
        tail = self.log_tail()
        return f"see {self.log_path}" + (f", which ends:\n{tail}" if tail else " (empty)")

    @staticmethod
    async def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while process.poll() is None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True


def launch_command(
    command: list[str], death_signal: signal.Signals = signal.SIGKILL, user: tuple[int, int] = (-1, -1)
) -> list[str]:
    """``command``, run so that it gets ``death_signal`` when this process ends; as ``user`` (uid, gid) unless -1."""
    arguments = [os.getpid(), int(death_signal), *user]
    return [sys.executable, "-I", "-S", _LAUNCH, *map(str, arguments), *command]


async def run_to_end(command: list[str], timeout_s: float, environment: dict[str, str], trouble: str) -> None:
    """Runs a command that prepares something, and returns when it ended well.

    Raises:
        StartFailed: ``trouble``, and what the command said or that it took longer than ``timeout_s``.
    """
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, stdin=null, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment, cwd="/"
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await process.communicate()
    except TimeoutError:
        raise StartFailed(f"{trouble}: not done within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise StartFailed(f"{trouble}:\n{said.decode(errors='replace')[-1500:]}")


def describe_exit(code: int) -> str:
    """``ended with code 3`` or ``was killed by SIGKILL``."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
