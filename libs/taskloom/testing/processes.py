"""A whole Taskloom as processes, for tests that go through the front door or kill what is behind it."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from taskloom.local.child import ManagedProcess
from taskloom.local.home import Home
from taskloom.local.services import is_ready
from taskloom.testing.eventually import eventually


class RunningSystem(ManagedProcess):
    """``taskloom up`` in a home of its own on free ports. It dies with the test run."""

    start_timeout_s = 120.0

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__("taskloom up", home / "up.log")
        self.home = home
        self._home = Home(home)
        self._environment = dict(environment or {})

    @property
    def run(self) -> dict[str, Any]:
        """The supervisor's `run.json`; empty while none runs."""
        return self._home.read_run()

    @property
    def url(self) -> str:
        return str(self.run["url"])

    @property
    def bootstrap(self) -> str:
        return str(self.run["bootstrap"])

    @property
    def dsn(self) -> str:
        return str(self.run["dsn"])

    @property
    def pids(self) -> dict[str, int]:
        """Process name (kafka, postgres, gateway, orchestrator-1, executor-1, projection-1) to pid."""
        return {name: int(entry["pid"]) for name, entry in self.run.get("processes", {}).items()}

    def log(self, name: str) -> str:
        """Everything in the log of one process, or of the supervisor for ``up``."""
        path = self.log_path if name == "up" else self._home.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill_process(self, name: str, signum: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to one process and returns its pid."""
        pid = self.pids[name]
        os.kill(pid, signum)
        return pid

    async def wait_replaced(self, name: str, old_pid: int, timeout_s: float = 60.0) -> None:
        """Returns when another process than ``old_pid`` does the work of ``name`` and everything is ready."""
        await eventually(lambda: self.pids.get(name, old_pid) != old_pid, timeout_s)
        await self.wait_all_ready(timeout_s)

    async def wait_all_ready(self, timeout_s: float = 60.0) -> None:
        """Returns when every process runs and every service's /readiness answers 200."""
        await eventually(self._all_ready, timeout_s, 0.1)

    async def prepare(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "taskloom", "up"]

    def environment(self) -> dict[str, str]:
        return (
            dict(os.environ)
            | {"TASKLOOM_HOME": str(self.home), "TASKLOOM_HTTP_PORT": "0", "PYTHONUNBUFFERED": "1"}
            | self._environment
        )

    async def is_ready(self) -> bool:
        """Whether the line "Taskloom is ready" was printed."""
        return "Taskloom is ready at " in self.log("up")

    async def _all_ready(self) -> bool:
        entries: dict[str, dict[str, Any]] = self.run.get("processes", {})
        if not entries or not all(_alive(entry["pid"]) for entry in entries.values()):
            return False
        return all([await is_ready(entry["url"]) for entry in entries.values() if "url" in entry])


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
