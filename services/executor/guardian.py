"""The guardian: a small process beside the executor that starts commands, watches over them and outlives a kill -9.

It runs with nothing but the standard library. The executor talks to it over one socket; when that closes, for whatever
reason, everything that commands started is killed before the guardian goes. Each command has a keeper (see there) as
its ancestor, and a cgroup where the host allows, so nothing leaves by a new session, a double fork or ``nohup``.

**Order of output.** Two pipes tell nothing about which was written first. Here each pipe holds one packet (``O_DIRECT``
and a capacity of one page), so a writer waits until its last packet was read; and an edge-triggered epoll hands out
pipes in the order in which they became readable. Together that is the order of the writes, over both streams.

Frames, both ways: kind (1 byte), process id of ours (4), length (4), little-endian; then the payload.
"""

import contextlib
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import time
from collections import deque
from typing import Any

from services.executor import keeper
from services.executor.cgroups import Cgroup, Cgroups, find
from services.executor.proctable import children, descendants, kill_below, send

HEAD = struct.Struct("<BII")
WINDOW_BYTES = 256 * 1024
"""Output of one command that may be on its way to the executor; then its pipes wait."""

STDOUT, STDERR, CONTROL, STARTED, REFUSED, EXITED, SIGNALLED = range(1, 8)
SPAWN, SIGNAL, CREDIT = range(1, 4)

_PACKET_BYTES = 64 * 1024
_GATHER_S = 0.001
"""Output that follows other output at once waits this long for more, so that a burst is not sent page by page."""

_GATHER_BYTES = 32 * 1024
_LEFTOVER_S = 1.0
"""What outlives the main process (``cmd &``, a process substitution) has this long to end by itself."""

_TICK_S = 0.02
_KILL_AGAIN_S = 0.1


class Group:
    """One command with all that it starts: its keeper, its pipes, and what of its output may still be sent."""

    def __init__(self, number: int, keeper: int, pipes: dict[int, int], tells: int, cgroup: Cgroup | None) -> None:
        self.number = number
        self.keeper = keeper
        self.pipes = pipes
        self.tells = tells
        self.cgroup = cgroup
        self.told = b""
        self.started = False
        self.refusal: str | None = None
        self.waiting_signals: list[int] = []
        self.gone = False
        """True once the keeper has ended: nothing is left below it."""
        self.window = WINDOW_BYTES
        self.held: deque[tuple[int, int]] = deque()
        self.code: int | None = None
        self.exited_at = self.killed_at = 0.0
        self.cpu_s = 0.0
        self.memory_mb = 0.0
        self.leftover = 0
        self.is_empty = False

    def kill(self, number: int) -> int:
        """Signals all of it; returns how many processes there were."""
        if self.gone:
            return 0
        if number != signal.SIGKILL:
            return send(descendants(self.keeper), number)
        count = kill_below(self.keeper)
        if self.cgroup is not None:
            self.cgroup.kill()
        return count

    def note(self, line: bytes) -> None:
        """What the keeper tells (see there)."""
        what, _, text = line.partition(b" ")
        if what == b"E":
            ended = json.loads(text)
            self.code, self.cpu_s, self.memory_mb = ended["code"], ended["cpu_s"], ended["memory_mb"]
            self.exited_at = time.monotonic()
        elif what == b"R":
            self.refusal = text.decode(errors="replace")


class Guardian:
    def __init__(self, control: socket.socket, cgroups: Cgroups | None = None) -> None:
        self._control = control
        self._cgroups = cgroups
        self._poll = select.epoll()
        self._inbox = bytearray()
        self._outbox: deque[tuple[int, int, bytearray]] = deque()
        self._unsent = b""
        self._gathered = 0
        self._gathering_since = self._sent_at = 0.0
        self._blocked = False
        self._groups: dict[int, Group] = {}
        self._by_keeper: dict[int, Group] = {}
        self._by_pipe: dict[int, Group] = {}
        self._by_tell: dict[int, Group] = {}
        self._adopts = False
        self._old_cgroups: list[Cgroup] = []
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
            elif fd in self._by_tell:
                self._hear(self._by_tell[fd])
            elif fd in self._by_pipe:
                self._read(self._by_pipe[fd], fd, event)
        self._reap()
        if self._adopts:
            self._bury_orphans()
        for group in [group for group in self._groups.values() if group.code is not None]:
            self._finish(group)
        self._old_cgroups = [old for old in self._old_cgroups if not old.remove()]
        return self._gathers() or self._flush()

    def _gathers(self) -> bool:
        """Whether what waits to be sent is some output of a burst, of which more is to come in a moment."""
        if not 0 < self._gathered < _GATHER_BYTES or self._unsent or self._outbox[-1][0] > CONTROL:
            return False
        now = time.monotonic()
        if not self._gathering_since:
            self._gathering_since = now
        return now - self._gathering_since < _GATHER_S and now - self._sent_at < 5 * _GATHER_S

    def _patience_s(self) -> float | None:
        """How long to wait for news: for ever, unless a command has ended and its group is still to be looked at."""
        if self._gathered and not self._unsent:
            return _GATHER_S
        ending = [group for group in self._groups.values() if group.code is not None]
        if any(group.is_empty and not group.held and group.window > 0 for group in ending):
            return 0
        return _TICK_S if ending or self._adopts or self._old_cgroups else None

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
        if kind == SIGNAL and group is not None and not group.started and not group.gone:
            group.waiting_signals.append(payload[0])
        elif kind == SIGNAL:
            self._send(SIGNALLED, number, str(group.kill(payload[0]) if group else 0).encode())
        elif kind == CREDIT and group is not None:
            group.window += int.from_bytes(payload, "little")
            while group.held and group.window > 0:
                self._read(group, *group.held.popleft())

    def _spawn(self, number: int, order: dict[str, Any], stdin: bytes) -> None:
        ours: dict[int, int] = {}
        theirs: list[int] = []
        cgroup: Cgroup | None = None
        joins: int | None = None
        source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if not stdin else _memory_file(stdin)
        try:
            for stream in (STDOUT, STDERR) + ((CONTROL,) if order["control"] else ()):
                readable, writable = _pipe(ordered=stream != CONTROL)
                ours[readable] = stream
                theirs.append(writable)
            order["env"] = {**_environment(), **order["env"]}
            if order["control"]:
                order["env"]["TASKLOOM_CONTROL_FD"] = str(theirs[2])
            cgroup = self._cgroup(number, order["limits"])
            joins = None if cgroup is None else cgroup.open_procs()
            kept, tells = keeper.fork(order, (source, theirs[0], theirs[1]), tuple(theirs[2:]), joins)
        except (OSError, ValueError) as error:
            for fd in ours:
                os.close(fd)
            if cgroup is not None:
                self._old_cgroups.append(cgroup)
            self._send(REFUSED, number, str(error).encode())
            return
        finally:
            for fd in (source, *theirs, *(() if joins is None else (joins,))):
                os.close(fd)
        group = Group(number, kept, ours, tells, cgroup)
        self._groups[number] = self._by_keeper[kept] = self._by_tell[tells] = group
        self._poll.register(tells, select.EPOLLIN)
        for fd in ours:
            self._by_pipe[fd] = group
            self._poll.register(fd, select.EPOLLIN | select.EPOLLET)

    def _cgroup(self, number: int, limits: dict[str, Any]) -> Cgroup | None:
        memory_mb, pids = limits.get("total_memory_mb"), limits.get("processes")
        if self._cgroups is not None:
            return self._cgroups.make(str(number), memory_mb=memory_mb, pids=pids)
        if memory_mb is None and pids is None:
            return None
        raise OSError("this executor's host has no cgroup for commands, so input.limits cannot hold for all of them")

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

    def _hear(self, group: Group) -> None:
        data = os.read(group.tells, 4096)
        if not data:
            self._poll.unregister(group.tells)
            os.close(group.tells)
            del self._by_tell[group.tells]
            group.gone = True
            if group.code is None:
                group.code, group.exited_at = -signal.SIGKILL, time.monotonic()  # its keeper was killed, and it with it
            self._start_signals(group)
            return
        *lines, group.told = (group.told + data).split(b"\n")
        for line in lines:
            if line.startswith(b"S "):
                group.started = True
                self._send(STARTED, group.number, line[2:])
                self._start_signals(group)
            else:
                group.note(line)

    def _start_signals(self, group: Group) -> None:
        """Sends what was to be sent before the command ran."""
        waiting, group.waiting_signals = group.waiting_signals, []
        for number in waiting:
            self._send(SIGNALLED, group.number, str(group.kill(number)).encode())

    def _reap(self) -> None:
        while True:
            try:
                pid, status, _ = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._by_keeper.pop(pid, None) is not None and os.WIFSIGNALED(status):
                self._adopts = True  # what was below the keeper is our child now

    def _bury_orphans(self) -> None:
        """Kills what killed keepers have left: our children that are no keepers."""
        orphans = [pid for pid in children(os.getpid()) if pid not in self._by_keeper]
        kill_below(*orphans)
        send(orphans, signal.SIGKILL)
        self._adopts = bool(orphans)

    def _finish(self, group: Group) -> None:
        """Ends the group of a command that has exited: nothing of it runs, and all it wrote has been sent."""
        if not group.gone or group.keeper in self._by_keeper or self._adopts:
            now = time.monotonic()
            if now - group.exited_at > _LEFTOVER_S and now - group.killed_at > _KILL_AGAIN_S:
                group.killed_at = now
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
        if group.cgroup is not None:
            ended["out_of_memory"] = group.cgroup.out_of_memory()
            self._old_cgroups.append(group.cgroup)
        if group.refusal is not None:
            self._send(REFUSED, group.number, group.refusal.encode())
            return
        if not group.started:  # it was quick to kill its keeper
            self._send(STARTED, group.number, b"0")
        self._send(EXITED, group.number, json.dumps(ended).encode())

    # To the executor.

    def _send(self, kind: int, number: int, payload: bytes) -> None:
        self._gathered += len(payload)
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
                self._wait_to_send(True)
                return True
            except OSError:
                return False
            self._unsent = self._unsent[sent:]
            self._sent_at, self._gathering_since, self._gathered = time.monotonic(), 0.0, 0
        self._wait_to_send(False)
        return True

    def _wait_to_send(self, blocked: bool) -> None:
        if blocked != self._blocked:
            self._blocked = blocked
            self._poll.modify(self._control.fileno(), select.EPOLLIN | (select.EPOLLOUT if blocked else 0))

    def _kill_all(self) -> None:
        """Kills everything that was started here until nothing is left (for ten seconds at most)."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for group in self._groups.values():
                group.kill(signal.SIGKILL)
            self._reap()
            self._bury_orphans()
            # A keeper ends by itself when nothing is below it.
            if not children(os.getpid()):
                break
            time.sleep(0.005)
        for cgroup in [*self._old_cgroups, *(group.cgroup for group in self._groups.values() if group.cgroup)]:
            cgroup.remove()
        if self._cgroups is not None:
            self._cgroups.close()


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


def main(control: int, cgroup: str) -> None:
    """``control``: the socket's number. ``cgroup``: as in ``cgroups.find``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its executor, not before
    signal.signal(signal.SIGCHLD, lambda *_: None)
    keeper.prctl(keeper.PR_SET_CHILD_SUBREAPER, 1)
    groups: Cgroups | None = None
    with contextlib.suppress(OSError):
        groups = find(cgroup)
    gc.freeze()  # keepers are forks: what they do not touch they share
    Guardian(socket.socket(fileno=control), groups).serve()
