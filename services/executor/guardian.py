"""The guardian: a small process beside the executor that starts commands, watches over them and outlives a kill -9.

It runs as a script with nothing but the standard library. The executor talks to it over one socket; when that closes,
for whatever reason, every process group is killed before the guardian goes. It is the parent (and the subreaper) of all
commands, so no command can be started that it does not know.

**Order of output.** Two pipes tell nothing about which was written first. Here each pipe holds one packet (``O_DIRECT``
and a capacity of one page), so a writer waits until its last packet was read; and an edge-triggered epoll hands out
pipes in the order in which they became readable. Together that is the order of the writes, over both streams.

Frames, both ways: kind (1 byte), process id of ours (4), length (4), little-endian; then the payload.
"""

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

HEAD = struct.Struct("<BII")
WINDOW_BYTES = 256 * 1024
"""Output of one command that may be on its way to the executor; then its pipes wait."""

STDOUT, STDERR, CONTROL, STARTED, REFUSED, EXITED, SIGNALLED = range(1, 8)
SPAWN, SIGNAL, CREDIT = range(1, 4)

_PACKET_BYTES = 64 * 1024
_LEFTOVER_S = 1.0
"""What outlives the main process (``cmd &``, a process substitution) has this long to end by itself."""

_TICK_S = 0.02
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Group:
    """One command: its process group, its pipes, and what of its output may still be sent."""

    def __init__(self, number: int, pid: int, pipes: dict[int, int]) -> None:
        self.number = number
        self.pid = pid
        self.pipes = pipes
        self.window = WINDOW_BYTES
        self.held: deque[tuple[int, int]] = deque()
        self.code: int | None = None
        self.exited_at = 0.0
        self.cpu_s = 0.0
        self.memory_mb = 0.0
        self.leftover = 0
        self.is_empty = False

    def alive(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self, number: int) -> int:
        """Signals the group; returns how many processes were in it."""
        count = len(members(self.pid))
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return 0
        return count


class Guardian:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.epoll()
        self._inbox = bytearray()
        self._outbox: deque[tuple[int, int, bytearray]] = deque()
        self._unsent = b""
        self._groups: dict[int, Group] = {}
        self._by_pid: dict[int, Group] = {}
        self._by_pipe: dict[int, Group] = {}
        self._child_signal, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        control.setblocking(False)
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._poll.register(self._child_signal, select.EPOLLIN)

    def serve(self) -> None:
        """Returns when the executor is gone and nothing that was started here runs any more."""
        try:
            while self._turn():
                pass
        finally:
            self._kill_all()

    def _turn(self) -> bool:
        for fd, event in self._poll.poll(self._patience_s()):
            if fd == self._control.fileno():
                if event & (select.EPOLLIN | select.EPOLLHUP) and not self._receive():
                    return False
            elif fd == self._child_signal:
                os.read(self._child_signal, 4096)
            elif fd in self._by_pipe:
                self._read(self._by_pipe[fd], fd, event)
        self._reap()
        for group in [group for group in self._groups.values() if group.code is not None]:
            self._finish(group)
        return self._flush()

    def _patience_s(self) -> float | None:
        """How long to wait for news: for ever, unless a command has ended and its group is still to be looked at."""
        ending = [group for group in self._groups.values() if group.code is not None]
        if any(group.is_empty and not group.held and group.window > 0 for group in ending):
            return 0
        return _TICK_S if ending else None

    # From the executor.

    def _receive(self) -> bool:
        try:
            data = self._control.recv(1 << 20)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not data:
            return False
        self._inbox += data
        at = 0
        while len(self._inbox) - at >= HEAD.size:
            kind, number, length = HEAD.unpack_from(self._inbox, at)
            if len(self._inbox) - at - HEAD.size < length:
                break
            payload = bytes(self._inbox[at + HEAD.size : at + HEAD.size + length])
            at += HEAD.size + length
            self._obey(kind, number, payload)
        del self._inbox[:at]
        return True

    def _obey(self, kind: int, number: int, payload: bytes) -> None:
        if kind == SPAWN:
            size = int.from_bytes(payload[:4], "little")
            self._spawn(number, json.loads(payload[4 : 4 + size]), payload[4 + size :])
            return
        group = self._groups.get(number)
        if kind == SIGNAL:
            self._send(SIGNALLED, number, str(group.kill(payload[0]) if group else 0).encode())
        elif kind == CREDIT and group is not None:
            group.window += int.from_bytes(payload, "little")
            while group.held and group.window > 0:
                self._read(group, *group.held.popleft())

    def _spawn(self, number: int, order: dict[str, Any], stdin: bytes) -> None:
        ours: dict[int, int] = {}
        theirs: list[int] = []
        source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if not stdin else _memory_file(stdin)
        try:
            for stream in (STDOUT, STDERR) + ((CONTROL,) if order["control"] else ()):
                readable, writable = _pipe(ordered=stream != CONTROL)
                ours[readable] = stream
                theirs.append(writable)
            environment = {**_environment(), **order["env"]}
            if order["control"]:
                environment["TASKLOOM_CONTROL_FD"] = str(theirs[2])
            started = subprocess.Popen(
                order["argv"],
                stdin=source,
                stdout=theirs[0],
                stderr=theirs[1],
                cwd=order["cwd"],
                env=environment,
                start_new_session=True,
                pass_fds=theirs[2:],
                preexec_fn=_prepare(order["limits"]),  # noqa: PLW1509 - there are no threads here
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            for fd in ours:
                os.close(fd)
            self._send(REFUSED, number, str(error).encode())
            return
        finally:
            for fd in (source, *theirs):
                os.close(fd)
        started.returncode = 0  # it is waited for in _reap, not through this object
        group = Group(number, started.pid, ours)
        self._groups[number] = self._by_pid[started.pid] = group
        for fd in ours:
            self._by_pipe[fd] = group
            self._poll.register(fd, select.EPOLLIN | select.EPOLLET)
        self._send(STARTED, number, str(started.pid).encode())

    # From the commands.

    def _read(self, group: Group, fd: int, event: int) -> None:
        """One packet, since each announces itself; everything at the end, since that is announced once."""
        if group.window <= 0:
            group.held.append((fd, event))
            return
        while fd in group.pipes:
            try:
                data = os.read(fd, _PACKET_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._close(group, fd)
                return
            self._send(group.pipes[fd], group.number, data)
            group.window -= len(data)
            if not event & select.EPOLLHUP:
                return
            if group.window <= 0:
                group.held.append((fd, event))
                return

    def _close(self, group: Group, fd: int) -> None:
        self._poll.unregister(fd)
        os.close(fd)
        del group.pipes[fd], self._by_pipe[fd]

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            group = self._by_pid.pop(pid, None)
            if group is not None:
                group.code = os.waitstatus_to_exitcode(status)
                group.exited_at = time.monotonic()
                group.cpu_s = used.ru_utime + used.ru_stime
                # The kernel's peak begins with the forked guardian's own; below that it says nothing of the command.
                own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                group.memory_mb = used.ru_maxrss / 1024 if used.ru_maxrss > own else 0.0

    def _finish(self, group: Group) -> None:
        """Ends the group of a command that has exited: nothing of it runs, and all it wrote has been sent."""
        if group.alive():
            if time.monotonic() - group.exited_at > _LEFTOVER_S:
                group.leftover = max(group.leftover, group.kill(signal.SIGKILL))
            return
        if group.pipes and not group.is_empty:
            # Its last writes have announced themselves: one more poll hands them out in their order.
            group.is_empty = True
            return
        if group.held or group.window <= 0:
            return
        for fd in list(group.pipes):
            # Open still: a process that left the group holds the pipe. What is in it is taken, then it is closed.
            self._read(group, fd, select.EPOLLHUP)
            if group.held:
                return
            if fd in group.pipes:
                self._close(group, fd)
        del self._groups[group.number]
        ended = {"code": group.code, "cpu_s": group.cpu_s, "memory_mb": group.memory_mb, "leftover": group.leftover}
        self._send(EXITED, group.number, json.dumps(ended).encode())

    # To the executor.

    def _send(self, kind: int, number: int, payload: bytes) -> None:
        if self._outbox and kind <= CONTROL and self._outbox[-1][:2] == (kind, number):
            self._outbox[-1][2].extend(payload)
        else:
            self._outbox.append((kind, number, bytearray(payload)))

    def _flush(self) -> bool:
        while self._unsent or self._outbox:
            if not self._unsent:
                frames = [HEAD.pack(kind, number, len(data)) + data for kind, number, data in self._outbox]
                self._unsent = b"".join(frames)
                self._outbox.clear()
            try:
                sent = self._control.send(self._unsent)
            except BlockingIOError:
                self._poll.modify(self._control.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return True
            except OSError:
                return False
            self._unsent = self._unsent[sent:]
        self._poll.modify(self._control.fileno(), select.EPOLLIN)
        return True

    def _kill_all(self) -> None:
        """Kills every group, and whoever left its group, until nothing is left (for ten seconds at most)."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for group in self._groups.values():
                group.kill(signal.SIGKILL)
            for pid in children(os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._reap()
            if not children(os.getpid()) and not any(group.alive() for group in self._groups.values()):
                return
            time.sleep(0.005)


def members(pgid: int) -> list[int]:
    """Living processes of a process group (zombies do not count)."""
    return [pid for pid, state, _, group in _processes() if group == pgid and state != "Z"]


def children(parent: int) -> list[int]:
    return [pid for pid, _, ppid, _ in _processes() if ppid == parent]


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


def _pipe(*, ordered: bool) -> tuple[int, int]:
    if ordered:
        try:
            readable, writable = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
            fcntl.fcntl(writable, fcntl.F_SETPIPE_SZ, resource.getpagesize())
        except OSError:
            ordered = False  # a kernel without packet pipes: each stream keeps its order, the two may cross
    if not ordered:
        readable, writable = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(readable, False)
    return readable, writable


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _environment() -> dict[str, str]:
    """The executor's environment without its own settings: a task has no business with the database's password, and
    PYTHONUNBUFFERED, set for a service's log, would make a task's Python program write byte by byte."""
    ours = ("TASKLOOM_", "OTEL_", "PG", "PYTHONUNBUFFERED")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _prepare(limits: dict[str, int]) -> Callable[[], None]:
    guardian = os.getpid()
    mib = 1024 * 1024
    wished = (
        (resource.RLIMIT_CPU, limits.get("cpu_s")),
        (resource.RLIMIT_AS, limits.get("memory_mb", 0) * mib),
        (resource.RLIMIT_NOFILE, limits.get("files")),
        (resource.RLIMIT_FSIZE, limits.get("file_size_mb", 0) * mib),
    )

    def prepare() -> None:
        # Should the guardian itself be killed, the command goes at once; the executor then kills the rest of its group.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(127)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for kind, value in wished:
            if value:
                resource.setrlimit(kind, (value, value))

    return prepare


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its executor, not before
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    Guardian(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
