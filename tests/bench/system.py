"""The system under measurement: what it runs on, with which settings, and what its processes use."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg

from taskloom.testing.processes import RunningSystem

SETTINGS = {"TASKLOOM_LOG_LEVEL": "warning"}
"""What differs from the defaults."""


def processes(system: RunningSystem) -> dict[str, list[psutil.Process]]:
    """The system's processes by name, children included (PostgreSQL's backends, handlers' helpers)."""
    found: dict[str, list[psutil.Process]] = {}
    for name, pid in system.pids.items():
        parent = psutil.Process(pid)
        found[name.rstrip("-0123456789")] = [parent, *parent.children(recursive=True)]
    supervisor = system.pid
    if supervisor is not None:
        found["supervisor"] = [psutil.Process(supervisor)]
    return found


def cpu_seconds(system: RunningSystem) -> dict[str, float]:
    """CPU seconds used so far, by process name."""
    return {name: sum(_cpu(process) for process in members) for name, members in processes(system).items()}


def memory_mib(system: RunningSystem) -> dict[str, float]:
    """Proportional set size in MiB, by process name: shared pages are counted once."""
    return {name: round(sum(_pss(process) for process in members)) for name, members in processes(system).items()}


def facts(system: RunningSystem) -> dict[str, Any]:
    """What ran where, with which settings."""
    with psycopg.connect(system.dsn) as connection:
        server, fsync = connection.execute("SELECT version(), current_setting('fsync')").fetchone() or ("", "")
        commit = connection.execute("SHOW synchronous_commit").fetchone()
    return {
        "taskloom": version("taskloom"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgresql": str(server).split(" on ")[0],
        "fsync": fsync,
        "synchronous_commit": commit[0] if commit else "",
        "kafka": "embedded, one broker, log.flush.interval.messages=1",
        "settings": SETTINGS,
    }


def refuse_without_fsync(measured: dict[str, Any]) -> None:
    """A figure taken without fsync would not be a figure of this system.

    Raises:
        SystemExit: fsync or synchronous_commit is off.
    """
    if measured["fsync"] != "on" or measured["synchronous_commit"] not in ("on", "local", "remote_apply"):
        raise SystemExit("fsync or synchronous_commit is off: nothing is measured that may be lost")


def difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}


def per_task_ms(seconds: Iterable[float], tasks: int) -> float:
    return round(1000 * sum(seconds) / tasks, 3)


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _pss(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss / 2**20)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
