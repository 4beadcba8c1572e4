"""One container of an attempt: created, attached, started, stopped, removed; ended only when it is gone."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from aiodocker import Docker, DockerError
from aiodocker.containers import DockerContainer
from aiodocker.stream import Stream as Attached

from services.executor.containers.daemon import told
from taskloom import telemetry
from taskloom.kinds.api import Exit, ProcessStream, TaskError

_STREAMS: Final[dict[int, ProcessStream]] = {1: "stdout", 2: "stderr"}
AWAY_AGAIN_S: Final = 1.0
CALL_S: Final = 30.0
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
        self._changing = asyncio.Lock()
        self._started = self._unwanted = self._killed = False
        self._code = 0
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        return self._ended.done()

    async def start(self, request: dict[str, Any]) -> None:
        """Creates, attaches and starts it.

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
        async with self._changing:
            if self._unwanted:
                raise TaskError("stopped", "the attempt is being stopped")
            with told("starting the container", self._host):
                self._attached = self._container.attach(stdout=True, stderr=True)
                await self._attached.__aenter__()
                await self._container.start()
            self._started = True

    async def output(self) -> AsyncIterator[tuple[ProcessStream, bytes]]:
        """Its output, in order within each stream; ends when it has closed both."""
        assert self._attached is not None
        with told("reading the container's output", self._host):
            while message := await self._attached.read_out():
                if message.data:
                    yield _STREAMS.get(message.stream, "stdout"), message.data

    async def finish(self) -> dict[str, Any]:
        """Waits for its end and removes it; its state as the engine told it last.

        Raises:
            TaskError: the engine went away, or somebody else removed it.
        """
        with told("waiting for the container", self._host):
            answer = await self._container.wait()
            self._code = int(answer["StatusCode"])
            about = await self._container.show()
        await self._remove()
        return {"id": about["Id"], "code": self._code, **about["State"]}

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
        await self._remove()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def _count(self) -> int:
        try:
            async with asyncio.timeout(CALL_S):
                return len((await self._container.top())["Processes"])
        except (DockerError, aiohttp.ClientError, TimeoutError, OSError, KeyError, TypeError):
            return 1  # the engine asks the host's ps, which not every host has

    async def _remove(self) -> None:
        if self._attached is not None:
            attached, self._attached = self._attached, None
            with contextlib.suppress(AssertionError):  # aiodocker's way to say that the connection is lost already
                await attached.close()
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
            self._ended.set_result(Exit(code=-signal.SIGKILL if self._killed and not self._code else self._code))
