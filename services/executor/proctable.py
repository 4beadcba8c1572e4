"""Who runs, from /proc. Standard library only: the guardian, which must start fast, uses it too."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterable

MAX_PASSES = 100
"""Of looking for processes that were forked while the others were being stopped."""


def members(pgid: int) -> list[int]:
    """Living processes of a process group (zombies do not count)."""
    return [pid for pid, state, _, group in _processes() if group == pgid and state != "Z"]


def children(parent: int) -> list[int]:
    return [pid for pid, _, ppid, _ in _processes() if ppid == parent]


def descendants(*roots: int) -> list[int]:
    """Living processes below ``roots``, whatever group or session they moved to (zombies do not count)."""
    below: defaultdict[int, list[int]] = defaultdict(list)
    dead = set()
    for pid, state, ppid, _ in _processes():
        below[ppid].append(pid)
        if state == "Z":
            dead.add(pid)
    found: list[int] = []
    wanted = list(roots)
    while wanted:
        next_ones = below.pop(wanted.pop(), [])
        found += next_ones
        wanted += next_ones
    return [pid for pid in found if pid not in dead]


def send(pids: Iterable[int], number: int) -> int:
    """Signals each; how many could be."""
    count = 0
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
        count += 1
    return count


def kill_below(*roots: int) -> int:
    """Kills all descendants; how many there were. They are stopped before, so that none forks away meanwhile."""
    found: set[int] = set()
    for _ in range(MAX_PASSES):
        fresh = set(descendants(*roots)) - found
        if not fresh:
            break
        send(fresh, signal.SIGSTOP)
        found |= fresh
    send(found, signal.SIGKILL)
    return len(found)


def _processes() -> list[tuple[int, str, int, int]]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - quicker, and so is open
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    # The command's name stands in brackets and may hold anything, brackets included.
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            found.append((int(name), fields[0].decode(), int(fields[1]), int(fields[2])))
    return found
