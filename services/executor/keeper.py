"""The keeper: a fork of the guardian, one for each command, that is the ancestor of everything the command starts.

It is a subreaper, so a process that leaves its group or session, or whose parents exit, becomes the keeper's child and
no stranger. The keeper ends when nothing is left below it; the end of its pipe to the guardian confirms that. Should
the guardian be killed, the keeper kills what is below it.

What it tells, a line each: ``S pid`` the command runs; ``R text`` it cannot be started; ``E`` with JSON: the command
itself has ended.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from services.executor import proctable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_MIB = 1024 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    _libc.prctl(option, value)


def fork(
    order: dict[str, Any], stdio: tuple[int, int, int], extra: tuple[int, ...], joins: int | None
) -> tuple[int, int]:
    """Forks a keeper for a command; its process id and the pipe on which it tells.

    Args:
        stdio: what the command reads and writes; ``extra`` are further pipes that it inherits.
        joins: a cgroup's ``cgroup.procs``, open for writing, or None.
    """
    guardian = os.getpid()
    hears, tells = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(tells)
        return pid, hears
    try:
        signal.set_wakeup_fd(-1)
        _close_others({0, 1, 2, tells, *stdio, *extra, *(() if joins is None else (joins,))})
        _keep(order, stdio, extra, joins, tells, guardian)
    except BaseException as error:  # noqa: BLE001 - the guardian is told, and nothing above here may run twice
        with contextlib.suppress(OSError):
            os.write(tells, b"R " + str(error).replace("\n", " ").encode() + b"\n")
    finally:
        os._exit(0)


def _keep(
    order: dict[str, Any],
    stdio: tuple[int, int, int],
    extra: tuple[int, ...],
    joins: int | None,
    tells: int,
    guardian: int,
) -> None:
    signals = {signal.SIGCHLD, signal.SIGTERM}
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    become(order.get("user"))
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != guardian:
        return
    started = subprocess.Popen(
        order["argv"],
        stdin=stdio[0],
        stdout=stdio[1],
        stderr=stdio[2],
        cwd=order["cwd"],
        env=order["env"],
        start_new_session=True,
        pass_fds=extra,
        preexec_fn=_prepare(order["limits"], joins),  # noqa: PLW1509 - there are no threads here
    )
    started.returncode = 0  # it is waited for below, not through this object
    for fd in {*stdio, *extra, *(() if joins is None else (joins,))}:
        os.close(fd)
    os.write(tells, f"S {started.pid}\n".encode())
    _watch(started.pid, tells, guardian)


def _watch(main: int, tells: int, guardian: int) -> None:
    """Returns when nothing is left below."""
    cpu_s = 0.0
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            cpu_s += used.ru_utime + used.ru_stime
            if pid == main:
                _tell_end(tells, status, cpu_s, used.ru_maxrss)
        elif signal.sigwait({signal.SIGCHLD, signal.SIGTERM}) == signal.SIGTERM and os.getppid() != guardian:
            while proctable.kill_below(os.getpid()):
                pass
            return


def _tell_end(tells: int, status: int, cpu_s: float, peak_kb: int) -> None:
    # The kernel's peak begins with the forked keeper's own; below that it says nothing of the command.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = {
        "code": os.waitstatus_to_exitcode(status),
        "cpu_s": cpu_s,
        "memory_mb": peak_kb / 1024 if peak_kb > own else 0.0,
    }
    with contextlib.suppress(OSError):
        os.write(tells, b"E " + json.dumps(ended).encode() + b"\n")


def become(user: dict[str, Any] | None) -> None:
    """Takes the user's identity before anything of the command's is touched: its directory is entered as that user."""
    if user is not None:
        os.setgroups(user["groups"])
        os.setgid(user["gid"])
        os.setuid(user["uid"])


def _prepare(limits: dict[str, int], joins: int | None) -> Callable[[], None]:
    keeper = os.getpid()
    wished = (
        (resource.RLIMIT_CPU, limits.get("cpu_s")),
        (resource.RLIMIT_AS, limits.get("memory_mb", 0) * _MIB),
        (resource.RLIMIT_NOFILE, limits.get("files")),
        (resource.RLIMIT_FSIZE, limits.get("file_size_mb", 0) * _MIB),
    )

    def prepare() -> None:
        # Should the keeper be killed, the command goes at once; the guardian then kills the rest, which it inherits.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)
        if joins is not None:
            os.write(joins, b"0")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        for kind, value in wished:
            if value:
                resource.setrlimit(kind, (value, value))

    return prepare


def _close_others(kept: set[int]) -> None:
    """Above all the guardian's end of the executor's socket: the executor must see it close when the guardian dies."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - quicker
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
