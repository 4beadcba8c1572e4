"""Commands by a mark in their environment: the last look for what outlived its keeper and its guardian.

Both killed at once, and without a cgroup, what has left its session is a stranger's child like any other. But it has
inherited a variable that names its executor and the guardian that it ran under; where that guardian is gone, so should
it be. What took the mark off (``env -i``) is not found.
"""

import os
import signal
import time
from pathlib import Path
from typing import Final

from services.executor.proctable import kill_below, send

VARIABLE: Final = "TASKLOOM_KEPT_BY"
GIVE_UP_S: Final = 10.0
PAUSE_S: Final = 0.02


def mark_of(executor_id: str, guardian: int) -> str:
    """What the commands of this guardian carry. Process ids come again, so its time of start is part of it; and they
    are those of one namespace, so that is too: another one's guardians cannot be looked for."""
    return f"{_begin(executor_id)}{guardian}/{_started(guardian)}"


def _begin(executor_id: str) -> str:
    return f"{executor_id}/{Path('/proc/self/ns/pid').stat().st_ino}/"


def sweep(executor_id: str) -> int:
    """Kills what dead guardians of this executor have left; returns when nothing of it is there (after ten seconds at
    most). How many there were."""
    found: set[int] = set()
    until = time.monotonic() + GIVE_UP_S
    while left := _left_by_the_dead(executor_id):
        found.update(left)
        send(left, signal.SIGSTOP)  # so that none forks away meanwhile
        kill_below(*left)
        send(left, signal.SIGKILL)
        if time.monotonic() > until:
            break
        time.sleep(PAUSE_S)
    return len(found)


def _left_by_the_dead(executor_id: str) -> list[int]:
    begin = f"{VARIABLE}={_begin(executor_id)}".encode()
    alive: dict[bytes, bool] = {}
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - quicker, and so is open
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                mark = next((each for each in file.read().split(b"\0") if each.startswith(begin)), None)
        except OSError:
            continue  # it has ended, or is somebody else's
        if mark is not None:
            if mark not in alive:
                alive[mark] = _is_alive(mark[len(begin) :].decode(errors="replace"))
            if not alive[mark]:
                found.append(int(name))
    return found


def _is_alive(guardian: str) -> bool:
    pid, _, started = guardian.partition("/")
    return pid.isdigit() and started == _started(int(pid)) != ""


def _started(pid: int) -> str:
    """Time of start in the kernel's ticks; empty when there is no such process, or only what is left of one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == b"Z" else fields[19].decode()
