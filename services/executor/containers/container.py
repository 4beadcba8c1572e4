"""One container of an attempt: created, attached, started, stopped, removed; ended only when it is gone."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiodocker import Docker, DockerError
from aiodocker.containers import DockerContainer
from aiodocker.stream import Stream as Attached

from services.executor.containers import archive
from services.executor.containers.daemon import told
from services.executor.containers.stats import Stats
from services.executor.workspace import Workspace
from taskloom import telemetry
from taskloom.kinds.api import Exit, ProcessStream, TaskError

_STREAMS: Final[dict[int, ProcessStream]] = {1: "stdout", 2: "stderr"}
AWAY_AGAIN_S: Final = 1.0
CALL_S: Final = 30.0
STDIN_BYTES: Final = 64 * 1024
_log = telemetry.get_logger(__name__)


class Container:
    """A ``taskloom.kinds.Supervised``. A stop that comes before its start lets it not start."""

    pid = 0

    def __init__(self, docker: Docker, name: str, host: str) -> None:
        self._docker = docker
        self._name = name
        self._host = host
        self._container: DockerContainer = docker.containers.container(name)
        self._attached: Attached | None = None
        self._fed: Attached | None = None
        self._changing = asyncio.Lock()
        self._started = self._unwanted = self._killed = False
        self._stats = Stats()
        self._beside: set[asyncio.Task[None]] = set()
        self._code = 0
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        return self._ended.done()

    async def start(self, request: dict[str, Any], files: Path | None = None, stdin: bytes = b"") -> None:
        """Creates it, puts what is below ``files`` into its workspace, attaches and starts it.

        Raises:
            TaskError: the engine did not; ``stopped`` when it is not wanted any more.
        """
        # A request that is given up half-way may still create a container: it is waited for, so that it can be removed.
        creating = asyncio.ensure_future(self._docker.containers.create(request, name=self._name))
        with told("creating the container", self._host):
            try:
                await asyncio.shield(creating)
            except asyncio.CancelledError:
                await asyncio.wait({creating}, timeout=CALL_S)
                if creating.done() and not creating.cancelled():
                    creating.exception()  # looked at here: there is nobody left to be told
                raise
        if files is not None:
            with told("putting files into the container", self._host):
                await archive.put(self._docker, self._name, files)
        async with self._changing:
            if self._unwanted:
                raise TaskError("stopped", "the attempt is being stopped")
            with told("starting the container", self._host):
                self._attached = self._container.attach(stdout=True, stderr=True)
                await self._attached.__aenter__()
                if stdin:
                    # A connection of its own: over one that has both, the engine ends the output when all was read.
                    self._fed = self._container.attach(stdin=True)
                    await self._fed.__aenter__()
                await self._container.start()
            self._started = True
        self._run_beside(self._stats.follow(self._docker, self._name))
        if self._fed is not None:
            self._run_beside(_feed(self._fed, stdin))

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        self._beside.add(asyncio.create_task(work))

    async def output(self) -> AsyncIterator[tuple[ProcessStream, bytes]]:
        """Its output, in order within each stream; ends when it has closed both."""
        assert self._attached is not None
        with told("reading the container's output", self._host):
            while message := await self._attached.read_out():
                if message.data:
                    yield _STREAMS.get(message.stream, "stdout"), message.data

    async def finish(self) -> dict[str, Any]:
        """Waits for its end; its state as the engine tells it. What it left is there until ``remove``.

        Raises:
            TaskError: the engine went away, or somebody else removed it.
        """
        with told("waiting for the container", self._host):
            answer = await self._container.wait()
            self._code = int(answer["StatusCode"])
            about = await self._container.show()
        return {"id": about["Id"], "code": self._code, **about["State"]}

    async def take(self, patterns: Sequence[str], space: Workspace, max_bytes: int) -> None:
        """Copies what it left in its workspace and fits a pattern into the space.

        Raises:
            TaskError: as ``archive.take``, or the engine went away.
        """
        with told("reading files of the container", self._host):
            await archive.take(self._docker, self._name, patterns, space, max_bytes)

    # taskloom.kinds.Supervised

    async def signal(self, number: int) -> int:
        async with self._changing:
            self._unwanted = True
            if self.ended or not self._started:
                return 0
            count = await self._count()
            with contextlib.suppress(DockerError, aiohttp.ClientError, TimeoutError, OSError):
                async with asyncio.timeout(CALL_S):
                    await self._container.kill(signal=signal.Signals(number).name)
            return count

    async def kill(self) -> None:
        """Removes it by force. While the engine is away it is not known whether it runs, and that is waited for."""
        self._unwanted = self._killed = True
        await self.remove()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def _count(self) -> int:
        try:
            async with asyncio.timeout(CALL_S):
                return len((await self._container.top())["Processes"])
        except (DockerError, aiohttp.ClientError, TimeoutError, OSError, KeyError, TypeError):
            return 1  # the engine asks the host's ps, which not every host has

    async def remove(self) -> None:
        """Returns when it is gone. While the engine is away that is not known, and is waited for."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        self._beside.clear()
        if self._fed is not None and (transport := _transport_of(self._fed)) is not None:
            transport.abort()  # a close would wait until all was read
        for attached in (self._attached, self._fed):
            if attached is not None:
                with contextlib.suppress(AssertionError):  # aiodocker's way to say that the connection is lost already
                    await attached.close()
        self._attached = self._fed = None
        told_already = False
        while not self.ended:
            try:
                async with asyncio.timeout(CALL_S):
                    await self._container.delete(force=True, v=True)
            except DockerError as error:
                if error.status == 404:
                    break
                if error.status == 409:  # its removal is under way
                    await asyncio.sleep(0.05)
                    continue
                reason = error.message
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = str(error)
            else:
                break
            if not told_already:
                _log.warning("a container cannot be removed yet", container=self._name, reason=reason)
                told_already = True
            await asyncio.sleep(AWAY_AGAIN_S)
        if not self.ended:
            code = -signal.SIGKILL if self._killed and not self._code else self._code
            used = self._stats
            self._ended.set_result(
                Exit(code, used.cpu_s, used.memory_mb, cpu_percent=used.cpu_percent, samples=used.samples)
            )


async def _feed(attached: Attached, stdin: bytes) -> None:
    """Writes it as fast as the container reads, and closes it. One that stops reading gets no more."""
    with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError, RuntimeError):
        for start in range(0, len(stdin), STDIN_BYTES):
            await attached.write_in(stdin[start : start + STDIN_BYTES])
        # aiodocker closes both directions or none: the container's end of file is the end of ours alone.
        transport = _transport_of(attached)
        if transport is not None and transport.can_write_eof():
            transport.write_eof()


def _transport_of(attached: Attached) -> asyncio.Transport | None:
    answer = attached._resp
    return None if answer is None or answer.connection is None else answer.connection.transport
