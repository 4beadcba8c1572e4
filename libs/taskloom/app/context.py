"""What a task's function can know of its attempt and say about it.

``Context`` is for async functions; ``SyncContext`` has the same without ``await``, for functions in threads and
processes. A function asks for one by the annotation of a parameter.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from taskloom.domain.values import Stream
from taskloom.kinds.api import Context, ProcessStream, Supervised, TaskError, Text

__all__ = ["Context", "LocalContext", "LocalSyncContext", "SyncContext", "ThreadContext"]


class SyncContext(Protocol):
    """One attempt, as a plain function sees it. ``idempotency_key`` is the same in all attempts of a task."""

    task_id: str
    attempt: int
    name: str
    idempotency_key: str

    @property
    def cancelled(self) -> bool:
        """True when the attempt shall end. In a process of its own never: that is killed."""
        ...

    def heartbeat(self, progress: float | None = None, message: str = "", **details: Any) -> None:
        """A sign of life; ``progress`` from 0.0 to 1.0. Reported at most once a second."""
        ...

    def checkpoint(self, name: str = "checkpoint") -> None:
        """A place where the attempt can be held or ended: returns at once, or when a pause is over.

        Raises:
            TaskError: the attempt shall end; let it pass.
        """
        ...

    def write(self, data: str | bytes, stream: Stream = "stdout") -> None:
        """Output, in order."""
        ...

    def sleep(self, seconds: float) -> None:
        """Sleeps; raises as ``checkpoint`` when the attempt shall end."""
        ...


class ThreadContext:
    """A ``SyncContext`` over the attempt, whose coroutines run in the executor's loop."""

    def __init__(self, ctx: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._ctx, self._loop = ctx, loop
        self.task_id, self.attempt, self.name = ctx.task_id, ctx.attempt, ctx.name
        self.idempotency_key = ctx.idempotency_key

    @property
    def cancelled(self) -> bool:
        return self._ctx.cancelled.is_set()

    def heartbeat(self, progress: float | None = None, message: str = "", **details: Any) -> None:
        self._wait(self._ctx.heartbeat(progress, message, **details))

    def checkpoint(self, name: str = "checkpoint") -> None:
        self._stop_if_cancelled()
        self._wait(self._unless_cancelled(self._ctx.checkpoint(name)))
        self._stop_if_cancelled()

    def write(self, data: str | bytes, stream: Stream = "stdout") -> None:
        self._wait(self._ctx.write(data, stream))

    def sleep(self, seconds: float) -> None:
        self._wait(self._unless_cancelled(self._ctx.sleep(seconds)))
        self._stop_if_cancelled()

    def _wait(self, coroutine: Coroutine[Any, Any, None]) -> None:
        waited: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        waited.result()

    async def _unless_cancelled(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Nothing cancels what a thread waits for, so the wish to cancel ends the wait."""
        work = asyncio.ensure_future(coroutine)
        wish = asyncio.ensure_future(self._ctx.cancelled.wait())
        try:
            await asyncio.wait({work, wish}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            wish.cancel()
        (outcome, _) = await asyncio.gather(work, wish, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    def _stop_if_cancelled(self) -> None:
        if self.cancelled:
            raise TaskError("stopped", "the attempt is being stopped")


class LocalSyncContext:
    """The attempt of a function that is called directly, as in a unit test. ``heartbeats`` and ``written`` keep what
    the function said."""

    def __init__(self, task_id: str = "local", attempt: int = 1, name: str = "") -> None:
        self.task_id, self.attempt, self.name = task_id, attempt, name
        self.idempotency_key = task_id
        self.cancelled = False
        self.heartbeats: list[tuple[float | None, str]] = []
        self.written: list[str | bytes] = []
        self.sleeper: Callable[[float], None] = time.sleep

    def heartbeat(self, progress: float | None = None, message: str = "", **_details: Any) -> None:
        self.heartbeats.append((progress, message))

    def checkpoint(self, name: str = "checkpoint") -> None:
        if self.cancelled:
            raise TaskError("stopped", f"cancelled at {name}")

    def write(self, data: str | bytes, stream: Stream = "stdout") -> None:
        self.written.append(data)

    def sleep(self, seconds: float) -> None:
        self.checkpoint()
        self.sleeper(seconds)


class LocalContext(Context):
    """The same for async functions."""

    def __init__(self, task_id: str = "local", attempt: int = 1, name: str = "", kind: str = "local") -> None:
        self.task_id, self.attempt, self.name, self.kind = task_id, attempt, name, kind
        self.query = self.tenant_id = self.session_id = ""
        self.input, self.context = {}, {}
        self._cancelled = asyncio.Event()
        self.heartbeats: list[tuple[float | None, str]] = []
        self.written: list[str | bytes] = []

    @property
    def idempotency_key(self) -> str:
        return self.task_id

    @property
    def cancelled(self) -> asyncio.Event:
        return self._cancelled

    async def heartbeat(self, progress: float | None = None, message: str = "", **_details: Any) -> None:
        self.heartbeats.append((progress, message))

    async def checkpoint(self, name: str = "checkpoint") -> None:
        if self._cancelled.is_set():
            raise asyncio.CancelledError(name)

    async def write(self, data: str | bytes, stream: Stream = "stdout") -> None:
        self.written.append(data)

    async def sleep(self, seconds: float, checkpoint: str = "sleep") -> None:
        await self.checkpoint(checkpoint)
        await asyncio.sleep(seconds)

    async def spawn(self, argv: Sequence[str], **_options: Any) -> NoReturn:
        """There is no executor here that could supervise the process."""
        raise TaskError("spawn_failed", f"{argv[0]}: only an executor starts processes", retryable=False)

    async def reveal(self, values: Mapping[str, Text]) -> dict[str, str]:
        """There are no secrets here either."""
        if named := [value.secret for value in values.values() if not isinstance(value, str)]:
            raise TaskError("secret_missing", f"{named[0]}: only an executor knows secrets", retryable=False)
        return {name: str(value) for name, value in values.items()}

    def conceal(self, secrets: Iterable[str]) -> None:
        """Nothing is told to anybody here."""

    def masked(self, output: AsyncIterator[tuple[ProcessStream, bytes]]) -> AsyncIterator[tuple[ProcessStream, bytes]]:
        return output

    def supervise(self, started: Supervised) -> NoReturn:
        """As ``spawn``: nobody here stops it."""
        raise TaskError("spawn_failed", "only an executor supervises what a task starts", retryable=False)
