"""What a handler is, what it gets, and what it gives back."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

from msgspec import Meta, Struct

from taskloom.domain.values import Identifier, Stream, Usage
from taskloom.errors import TaskloomError

ProcessStream = Literal["stdout", "stderr", "control"]


class Outcome(Struct, frozen=True, omit_defaults=True):
    """A success: ``result`` is text for people, ``response`` the structured value (anything JSON can hold)."""

    result: str = ""
    response: Any = None
    exit_code: int | None = None
    usage: Usage = Usage()


class TaskError(TaskloomError):
    """The attempt failed. ``type`` is what ``retry.non_retryable`` names; ``retryable=False`` ends the task.

    ``fault=True`` says that not the task is to blame, but the handler or its executor: after many in a row such work
    rests there for a while. An exception that is no ``TaskError`` counts as one.
    """

    def __init__(
        self,
        type: str,  # noqa: A002  (the field's public name)
        message: str,
        *,
        retryable: bool = True,
        details: Mapping[str, Any] | None = None,
        exit_code: int | None = None,
        usage: Usage | None = None,
        fault: bool = False,
    ) -> None:
        super().__init__(message)
        self.type = type
        self.message = message
        self.retryable = retryable
        self.details = dict(details or {})
        self.exit_code = exit_code
        self.usage = usage or Usage()
        self.fault = fault


class SecretRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Stands for the value of the tenant's secret of this name; only the executor puts it in."""

    secret: Identifier


Text = str | SecretRef


class Limits(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Limits of each process of a group (setrlimit): CPU seconds, address space, open files, size of a file; and of all
    of them together (cgroup, where the executor has the capability ``cgroup.memory`` or ``cgroup.pids``):
    ``total_memory_mb``, and ``processes`` with their threads."""

    cpu_s: Annotated[int, Meta(ge=1)] | None = None
    memory_mb: Annotated[int, Meta(ge=1)] | None = None
    files: Annotated[int, Meta(ge=8)] | None = None
    file_size_mb: Annotated[int, Meta(ge=1)] | None = None
    total_memory_mb: Annotated[int, Meta(ge=1)] | None = None
    processes: Annotated[int, Meta(ge=1)] | None = None


class Exit(Struct, frozen=True):
    """How a process group ended. ``code`` is negative for a signal (``-9``), ``cpu_s`` user + system of all its
    waited-for processes, ``memory_mb`` the largest resident size of one of them, ``leftover`` the processes that had
    outlived the main one and were killed. ``out_of_memory``: the kernel killed it at ``limits.total_memory_mb``.
    ``cpu_percent``: the most of ``samples`` measurements, where what runs it takes them."""

    code: int
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    leftover: int = 0
    out_of_memory: bool = False
    cpu_percent: float = 0.0
    samples: int = 0


class Process(Protocol):
    """A process group under supervision: it dies with its attempt and with the executor, however that ends."""

    @property
    def pid(self) -> int: ...

    def output(self) -> AsyncIterator[tuple[ProcessStream, bytes]]:
        """Pieces of output in the order in which they were written, over all streams; ends when all are closed."""
        ...

    async def signal(self, number: int) -> int:
        """Signals the whole group; returns how many processes were in it."""
        ...

    async def wait(self) -> Exit:
        """Returns once the group is empty; read ``output`` to its end first, since unread output holds the group back.

        Raises:
            TaskError: the supervisor was lost (retryable); the group was killed.
        """
        ...


class Supervised(Protocol):
    """Something that an attempt runs outside the executor's process: stopped and confirmed like a process group."""

    @property
    def pid(self) -> int:
        """Its process group on this host, 0 when it has none."""
        ...

    @property
    def ended(self) -> bool: ...

    async def signal(self, number: int) -> int:
        """Signals all of it; returns how many processes it had, 0 once it has ended."""
        ...

    async def kill(self) -> None:
        """Ends it by force; returns once it is confirmed that nothing of it runs."""
        ...

    async def wait(self) -> Exit:
        """Returns once it has ended.

        Raises:
            TaskError: how it ended cannot be known.
        """
        ...


class Context(Protocol):
    """One attempt, as its handler sees it. Coroutines may be awaited from the handler's own task only."""

    task_id: str
    attempt: int
    kind: str
    input: dict[str, Any]
    query: str
    context: dict[str, Any]
    tenant_id: str
    session_id: str
    name: str

    @property
    def idempotency_key(self) -> str:
        """The same in all attempts of the task, another one in every other task: what an outside system can tell a
        repeat by."""
        ...

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when the attempt shall end (cancel, time limit, drain). ``is_set()`` may be asked from any thread."""
        ...

    async def write(self, data: str | bytes, stream: Stream = "stdout") -> None:
        """Output, in order; waits when the executor holds too much that is not yet in Kafka."""
        ...

    async def heartbeat(self, progress: float | None = None, message: str = "", **details: Any) -> None:
        """A sign of life; ``progress`` from 0.0 to 1.0. Reported at most once a second, so call it as you like."""
        ...

    async def checkpoint(self, name: str = "checkpoint") -> None:
        """A place where the attempt can be held: returns at once, or when a pause is over."""
        ...

    async def sleep(self, seconds: float, checkpoint: str = "sleep") -> None:
        """Sleeps; a pause holds it at once and the rest is slept after the resume."""
        ...

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes = b"",
        limits: Limits | None = None,
        user: str | None = None,
    ) -> Process:
        """Starts a process in a session and group of its own. ``env`` is added to the executor's.

        ``user``: whose rights it has; None for the first user that the executor's settings name, or the executor's own.

        Raises:
            TaskError: it could not be started (``spawn_failed``, ``user_denied``, not retryable).
        """
        ...

    async def reveal(self, values: Mapping[str, Text]) -> dict[str, str]:
        """The same with secrets in the place of their references. From here on they are masked in everything that the
        attempt tells: output, heartbeats, result, error.

        Raises:
            TaskError: there is no such secret (``secret_missing``, not retryable), or they cannot be looked up now.
        """
        ...

    def conceal(self, secrets: Iterable[str]) -> None:
        """Masks further texts from here on, as those that ``reveal`` gives."""
        ...

    def masked(self, output: AsyncIterator[tuple[ProcessStream, bytes]]) -> AsyncIterator[tuple[ProcessStream, bytes]]:
        """A process's output without the secrets that were revealed; for what is kept of it beside ``write``."""
        ...

    def supervise(self, started: Supervised) -> None:
        """Ties something that the handler starts to the attempt, from before it is started: a stop signals it (SIGTERM,
        grace time, SIGKILL) instead of cancelling ``run``, and the attempt does not end before it has.

        Raises:
            TaskError: the attempt is being stopped, so start nothing (``stopped``).
        """
        ...


class Handler(ABC):
    """Runs one kind of work. One instance serves all attempts of an executor, many at once."""

    kind: ClassVar[str]
    immediate: ClassVar[bool] = False
    """True promises that ``run`` never waits: it is then run on the spot, without a task, limits or pause."""

    schema: Mapping[str, Any] | None = None
    """JSON Schema of the input. It is announced, so that a wrong input is refused before it is queued; ``run`` may all
    the same get what another executor's schema let through."""

    @property
    def available(self) -> bool:
        """False while what it needs is away: the kind is then not announced, and gets no new work."""
        return True

    async def open(self) -> None:  # noqa: B027 - most handlers need none
        """Called once before the first attempt."""

    async def close(self) -> None:  # noqa: B027
        """Called once after the last attempt."""

    @abstractmethod
    async def run(self, ctx: Context) -> Outcome:
        """Does the work. ``asyncio.CancelledError`` is raised in it when the attempt shall end.

        Raises:
            TaskError: a failure with its own type; any other exception is a retryable failure named after its class.
        """
