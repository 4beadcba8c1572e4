"""The home directory: one supervisor at a time, and a file that says what runs where."""

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from taskloom.local.errors import HomeBusy, LocalError

RUN_FILE: Final = "run.json"
LEFTOVER_TIMEOUT_S: Final = 10.0


class Home:
    """A directory with everything that one embedded system keeps: data, logs and `run.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def webhook_key(self) -> str:
        """The key that webhooks' secrets follow from: made once, readable by its owner alone."""
        return self._key("webhook.key")

    def secrets_key(self) -> str:
        """The key that tenants' secrets are sealed with, likewise. Without the file they cannot be opened any more."""
        return self._key("secrets.key")

    def _key(self, name: str) -> str:
        path = self.path / name
        try:
            return path.read_text()
        except FileNotFoundError:
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
            return path.read_text()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other supervisors out while the block runs.

        Raises:
            HomeBusy: another one is in; says its pid.
            LocalError: the directory cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise LocalError(
                f"cannot use {self.path} as home: {error.strerror}; set TASKLOOM_HOME to a directory of yours"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip() or "unknown"
                raise HomeBusy(
                    f"{self.path} is in use by another Taskloom (pid {owner}); stop that one, "
                    "or set TASKLOOM_HOME to another directory"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._end_leftovers()
            yield

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Replaces `run.json` at once, so that a reader never sees half of it."""
        new = self.path / f"{RUN_FILE}.new"
        new.write_text(json.dumps(run, indent=2) + "\n")
        new.replace(self.path / RUN_FILE)

    def read_run(self) -> dict[str, Any]:
        """What the supervisor wrote last; empty when none runs."""
        try:
            run: dict[str, Any] = json.loads((self.path / RUN_FILE).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return run

    def clear_run(self) -> None:
        (self.path / RUN_FILE).unlink(missing_ok=True)

    def _end_leftovers(self) -> None:
        """Waits for the children of a killed supervisor, which are ending already, and kills what does not end."""
        left = [
            process for process in map(_process, self.read_run().get("processes", {}).values()) if process is not None
        ]
        _, alive = psutil.wait_procs(left, timeout=LEFTOVER_TIMEOUT_S)
        for process in alive:
            os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=LEFTOVER_TIMEOUT_S)
        self.clear_run()


def _process(entry: Mapping[str, Any]) -> psutil.Process | None:
    """The running process of a `run.json` entry, unless its pid belongs to another one by now."""
    try:
        process = psutil.Process(entry["pid"])
        same = abs(process.create_time() - entry["started"]) < 1.0 and os.getpgid(process.pid) == process.pid
    except (psutil.Error, ProcessLookupError, KeyError, TypeError):
        return None
    return process if same else None


def run_entry(pid: int) -> dict[str, Any]:
    """pid and start time (Unix seconds), which together name a process for good."""
    try:
        return {"pid": pid, "started": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return {"pid": pid, "started": time.time()}
