"""A cgroup (version 2) for each command, where the host lets us have one: limits of the whole group, and a kill that
nothing escapes. Standard library only.

Without a named directory the executor's own cgroup is used: then commands are kept together, and limited as far as
that cgroup already hands its controllers on. A named one has to be empty of processes (systemd: ``Delegate=yes``).
"""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

CONTROLLERS = ("memory", "pids")
_MIB = 1024 * 1024
_REMOVE_S = 2.0


class Unsupported(OSError):
    """This host cannot set the limit."""


class Cgroups:
    """A directory of ours below ``parent``; ``abilities`` says what can be limited: memory, pids."""

    def __init__(self, parent: Path, *, hands_on: bool) -> None:
        """``hands_on``: the parent is there for us, so its controllers are handed on to children.

        Raises:
            OSError: there is no cgroup v2 at ``parent``, or it is not ours to write.
        """
        if not (parent / "cgroup.procs").exists() or not (parent / "cgroup.controllers").exists():
            raise FileNotFoundError(errno.ENOENT, "no cgroup of version 2", str(parent))
        _sweep(parent)
        self._folder = parent / f"taskloom-{os.getpid()}"
        if hands_on:
            _hand_on(parent)
        # Held for as long as this process lives: what another one finds unlocked was left by a dead one.
        self._lock = _locked(self._folder)
        _hand_on(self._folder)
        handed_on = (self._folder / "cgroup.subtree_control").read_text().split()
        self.abilities = frozenset(name for name in CONTROLLERS if name in handed_on)

    def make(self, name: str, *, memory_mb: int | None = None, pids: int | None = None) -> "Cgroup":
        """
        Raises:
            Unsupported: of a limit that is asked for.
            OSError: it cannot be made.
        """
        for ability, wished in (("memory", memory_mb), ("pids", pids)):
            if wished is not None and ability not in self.abilities:
                raise Unsupported(errno.ENOTSUP, f"this executor's host cannot limit a group's {ability}")
        made = Cgroup(self._folder / name)
        made.folder.mkdir()
        if memory_mb is not None:
            made.write("memory.max", str(memory_mb * _MIB))
            made.write("memory.oom.group", "1")
            with contextlib.suppress(OSError):  # a host without swap accounting
                made.write("memory.swap.max", "0")
        if pids is not None:
            made.write("pids.max", str(pids))
        return made

    def close(self) -> None:
        """Removes our directory; what is in it should have ended."""
        _remove(self._folder)
        os.close(self._lock)


class Cgroup:
    """One command's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, value: str) -> None:
        (self.folder / name).write_text(value)

    def open_procs(self) -> int:
        """For the command to join by writing ``0``. The right to is that of who opened it."""
        return os.open(self.folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def kill(self) -> None:
        with contextlib.suppress(
            OSError
        ):  # before Linux 5.14 there is none; the keeper's descendants are killed anyway
            self.write("cgroup.kill", "1")

    def out_of_memory(self) -> bool:
        """Whether the kernel killed it for its memory."""
        with contextlib.suppress(OSError):
            told = dict(line.split() for line in (self.folder / "memory.events").read_text().splitlines())
            return int(told.get("oom_kill", 0)) > 0
        return False

    def remove(self) -> bool:
        """Whether it is gone; the kernel needs a moment to forget a last process."""
        try:
            self.folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def own() -> Path:
    """The cgroup of this process in the version 2 hierarchy.

    Raises:
        OSError: there is no such hierarchy.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        about, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            mounted = Path(about.split()[4])
            for member in Path("/proc/self/cgroup").read_text().splitlines():
                if member.startswith("0::"):
                    return mounted / member[len("0::") :].lstrip("/")
    raise FileNotFoundError(errno.ENOENT, "no cgroup of version 2 is mounted")


def find(setting: str) -> Cgroups | None:
    """By the setting ``auto``, ``off`` or a directory; None where there is none.

    Raises:
        OSError: the named directory cannot be used.
    """
    if setting == "off":
        return None
    if setting != "auto":
        return Cgroups(Path(setting), hands_on=True)
    with contextlib.suppress(OSError):
        return Cgroups(own(), hands_on=False)
    return None


def capabilities(setting: str) -> tuple[str, ...]:
    """What an executor with this setting can do for commands: ``cgroup`` (none escapes), ``cgroup.memory``,
    ``cgroup.pids``.

    Raises:
        OSError: the named directory cannot be used.
    """
    found = find(setting)
    if found is None:
        return ()
    found.close()
    return ("cgroup", *(f"cgroup.{ability}" for ability in sorted(found.abilities)))


def _locked(folder: Path) -> int:
    for again in (True, True, False):
        folder.mkdir(exist_ok=True)
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not again:
                raise  # twice another one swept it before it was locked, which cannot be
        else:
            return held
    raise AssertionError


def _hand_on(folder: Path) -> None:
    """Hands the controllers on to children, as far as the kernel allows: not from a cgroup that has processes."""
    for name in CONTROLLERS:
        with contextlib.suppress(OSError):
            if name in (folder / "cgroup.controllers").read_text().split():
                (folder / "cgroup.subtree_control").write_text(f"+{name}")


def _sweep(parent: Path) -> None:
    """Kills and removes what guardians left that were killed themselves."""
    for folder in parent.glob("taskloom-*"):
        with contextlib.suppress(OSError):
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Cgroup(folder).kill()
                _remove(folder)
            finally:
                os.close(held)


def _remove(folder: Path) -> None:
    until = time.monotonic() + _REMOVE_S
    for inner in [each for each in folder.glob("*") if each.is_dir()] if folder.exists() else []:
        _remove(inner)
    while time.monotonic() < until:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.005)  # the kernel has not yet forgotten its last process
        else:
            return
