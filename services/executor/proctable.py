"""Who runs, from /proc. Standard library only: the guardian, which must start fast, uses it too."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterable

MAX_PASSES = 100
"""Of looking for processes that were forked while the others were being stopped."""

_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110 - pathlib starts slowly


def members(pgid: int) -> list[int]:
    """Living processes of a process group (zombies do not count)."""
    return [pid for pid, state, _, group in _processes() if group == pgid and state != "Z"]


def children(parent: int) -> list[int]:
    return [pid for pid, _, ppid, _ in _processes() if ppid == parent]


def descendants(*roots: int) -> list[int]:
    """Living processes below ``roots``, whatever group or session they moved to (zombies do not count).

    A process that ends meanwhile can hide a sister for this once: who must have all asks until there are none.
    """
    if _LISTS_CHILDREN:
        return _by_lists(roots)
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


def _by_lists(roots: Iterable[int]) -> list[int]:
    """From the kernel's lists of children: a few files, where the whole table is some hundred."""
    found: list[int] = []
    wanted = list(roots)
    while wanted:
        next_ones = _listed(wanted.pop())
        found += next_ones
        wanted += next_ones
    return [pid for pid in dict.fromkeys(found) if _state(pid) not in ("", "Z")]


def _listed(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - quicker, and so is open
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    except OSError:
        pass  # it has ended; its children are its subreaper's now
    return found


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split(maxsplit=1)[0].decode()
    except OSError:
        return ""


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
