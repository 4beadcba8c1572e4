"""The executor's end of the guardian: start commands, read their output in order, signal and confirm."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from services.executor import guardian as wire
from services.executor import marks
from services.executor.users import identity
from taskloom.kinds.api import Exit, Limits, ProcessStream, Supervised, TaskError

_STREAMS: Final[dict[int, ProcessStream]] = {wire.STDOUT: "stdout", wire.STDERR: "stderr", wire.CONTROL: "control"}
_CREDIT_BYTES: Final = wire.WINDOW_BYTES // 4
_MAIN: Final = (
    f"import sys; sys.path.append({str(Path(wire.__file__).parents[2])!r}); "
    "from services.executor.guardian import main; main(int(sys.argv[1]), sys.argv[2])"
)
_exit_decoder = msgspec.json.Decoder(Exit)
_log = structlog.get_logger(__name__)


class GuardedProcess:
    """A command under the guardian (see ``taskloom.kinds.Process``)."""

    def __init__(self, guardian: "Guardian", number: int) -> None:
        loop = asyncio.get_running_loop()
        self._guardian = guardian
        self._number = number
        self._pid = 0
        self._chunks: deque[tuple[ProcessStream, bytes]] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self._consumed = 0
        self._discards = False
        self._counts: deque[asyncio.Future[int]] = deque()
        self._started: asyncio.Future[int] = loop.create_future()
        self._exited: asyncio.Future[Exit] = loop.create_future()

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._pid

    @property
    def ended(self) -> bool:
        return self._exited.done()

    async def output(self) -> AsyncIterator[tuple[ProcessStream, bytes]]:
        """Output in the order of the writes; ends when the group is empty."""
        while True:
            while self._chunks:
                piece = self._chunks.popleft()
                self._consume(len(piece[1]))
                yield piece
            if self._exited.done():
                return
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived

    async def signal(self, number: int) -> int:
        """Signals the group; returns how many processes were in it, 0 once it is empty."""
        if self._exited.done():
            return 0
        count: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._counts.append(count)
        self._guardian.send(wire.SIGNAL, self._number, bytes([number]))
        return await count

    async def wait(self) -> Exit:
        """Returns once the group is empty.

        Raises:
            TaskError: the guardian was lost (``guardian_lost``, retryable).
        """
        return await asyncio.shield(self._exited)

    async def kill(self) -> None:
        """Kills the group, throws unread output away and returns once the group is confirmed empty."""
        self._discards = True
        self._consume(sum(len(data) for _, data in self._chunks))
        self._chunks.clear()
        with contextlib.suppress(TaskError):
            await self.signal(signal.SIGKILL)
            await self.wait()

    def _consume(self, size: int) -> None:
        self._consumed += size
        if self._consumed >= _CREDIT_BYTES or (self._discards and self._consumed):
            self._guardian.send(wire.CREDIT, self._number, self._consumed.to_bytes(8, "little"))
            self._consumed = 0

    def on_frame(self, kind: int, payload: bytes) -> None:
        if kind in _STREAMS:
            if self._discards:
                self._consume(len(payload))
            else:
                self._chunks.append((_STREAMS[kind], payload))
        elif kind == wire.STARTED:
            self._pid = int(payload)
            _resolve(self._started, self._pid)
        elif kind == wire.REFUSED:
            self.fail(TaskError("spawn_failed", f"the command cannot be started: {payload.decode()}", retryable=False))
        elif kind == wire.SIGNALLED:
            _resolve(self._counts.popleft(), int(payload))
        else:
            _resolve(self._exited, _exit_decoder.decode(payload))
            self._forget_counts()
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def fail(self, error: TaskError) -> None:
        for future in (self._started, self._exited):
            if not future.done():
                future.set_exception(error)
                future.exception()  # looked at here, so that an attempt that ended meanwhile leaves no complaint
        self._forget_counts()
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _forget_counts(self) -> None:
        while self._counts:
            _resolve(self._counts.popleft(), 0)

    async def started(self) -> None:
        await asyncio.shield(self._started)


class Guardian(asyncio.Protocol):
    """Starts the guardian process when the first command needs it, and again should it be lost."""

    def __init__(self, cgroup: str = "off", users: tuple[str, ...] = (), executor_id: str = "") -> None:
        """``cgroup``: as in ``cgroups.find``. ``users``: who commands may run as (see ``users.identity``).
        ``executor_id``: whose commands they are, for finding again what a killed guardian left (see ``marks``)."""
        self._cgroup = cgroup
        self._users = users
        self._executor_id = executor_id or f"process-{os.getpid()}"
        self._mark = ""
        self._burials: set[asyncio.Task[None]] = set()
        self._processes: dict[int, GuardedProcess] = {}
        self._next = 0
        self._inbox = bytearray()
        self._transport: asyncio.Transport | None = None
        self._helper: subprocess.Popen[bytes] | None = None
        self._starting = asyncio.Lock()

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes = b"",
        limits: Limits | None = None,
        user: str | None = None,
        control: bool = False,
        register: list[Supervised] | None = None,
    ) -> GuardedProcess:
        """Starts a command; ``control`` gives it a third pipe, its number in ``TASKLOOM_CONTROL_FD``.

        ``register`` gets the process before it is started, so that it is known even when this call is cancelled.

        Raises:
            TaskError: it cannot be started.
        """
        ids, environment = identity(user, self._users)
        await self._ensure()
        self._next += 1
        process = self._processes[self._next] = GuardedProcess(self, self._next)
        if register is not None:
            register.append(process)
        order = {
            "argv": list(argv),
            "env": {**environment, **(env or {}), marks.VARIABLE: self._mark},
            "cwd": cwd,
            "user": ids,
            "limits": msgspec.to_builtins(limits or Limits()),
            "control": control,
        }
        head = msgspec.json.encode(order)
        self.send(wire.SPAWN, self._next, len(head).to_bytes(4, "little") + head + stdin)
        await process.started()
        return process

    async def close(self) -> None:
        """Ends the guardian; it kills what still runs. Waits for it, ten seconds at most."""
        if self._transport is not None:
            self._transport.close()
        if self._helper is not None:
            await asyncio.to_thread(_wait, self._helper)
            self._helper = None
        await asyncio.gather(*self._burials)

    def send(self, kind: int, number: int, payload: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.HEAD.pack(kind, number, len(payload)) + payload)

    async def _ensure(self) -> None:
        async with self._starting:
            while self._transport is not None and self._transport.is_closing():  # noqa: ASYNC110 - it is one turn
                await asyncio.sleep(0)  # until connection_lost has failed what ran under the old one
            if self._transport is not None:
                return
            await asyncio.to_thread(self._sweep)
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            with theirs:
                self._helper = subprocess.Popen(  # noqa: ASYNC220  (milliseconds, once in the executor's life)
                    [sys.executable, "-I", "-S", "-c", _MAIN, str(theirs.fileno()), self._cgroup],
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                )
            self._mark = marks.mark_of(self._executor_id, self._helper.pid)
            self._inbox.clear()
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_connection(lambda: self, sock=ours)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        inbox = self._inbox
        inbox += data
        at, head = 0, wire.HEAD.size
        while len(inbox) - at >= head:
            kind, number, length = wire.HEAD.unpack_from(inbox, at)
            if len(inbox) - at - head < length:
                break
            self._on_frame(kind, number, bytes(inbox[at + head : at + head + length]))
            at += head + length
        del inbox[:at]

    def _on_frame(self, kind: int, number: int, payload: bytes) -> None:
        process = self._processes.get(number)
        if process is None:
            return
        if kind in (wire.EXITED, wire.REFUSED):
            del self._processes[number]
        process.on_frame(kind, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        """The guardian is gone: the keepers of the commands kill what is below them. Should one be gone too, its
        command died with it, the command's group is killed here, and what had left that is looked for by its mark."""
        self._transport = None
        lost, self._processes = self._processes, {}
        if lost:
            _log.error("the guardian of commands was lost; killing their process groups", commands=len(lost))
        for process in lost.values():
            if process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        burial = asyncio.create_task(self._bury(self._helper, lost.values()))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    async def _bury(self, helper: subprocess.Popen[bytes] | None, lost: Iterable[GuardedProcess]) -> None:
        """Tells of the loss once nothing of the commands runs any more."""
        try:
            if helper is not None:
                await asyncio.to_thread(_wait, helper)
            await asyncio.to_thread(self._sweep)
        finally:
            for process in lost:
                process.fail(
                    TaskError(
                        "guardian_lost", "the command's supervisor was killed, and the command with it", fault=True
                    )
                )

    def _sweep(self) -> None:
        if count := marks.sweep(self._executor_id):
            _log.warning("killed processes that a killed guardian had left", processes=count)


def _wait(helper: subprocess.Popen[bytes]) -> None:
    try:
        helper.wait(12)
    except subprocess.TimeoutExpired:
        helper.kill()
        helper.wait()


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
