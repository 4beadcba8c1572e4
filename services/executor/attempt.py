"""One attempt: the context of its handler, its limits, its pause, and how it is stopped."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from services.executor.figures import peaks
from services.executor.masking import MaskedStream, Masker
from services.executor.outbox import Outbox
from services.executor.output import OutputWriter
from services.executor.processes import GuardedProcess, Guardian
from services.executor.reports import Reporter
from services.executor.secrets import Secrets, SecretSource
from taskloom.domain.task.commands import ReportHeartbeat, ReportOutputStarted, ReportPaused, ReportStopSignalled
from taskloom.domain.task.directives import RunAttempt
from taskloom.domain.values import OutputSummary, ResourceUse, Stream, TimeoutKind
from taskloom.kinds.api import Handler, Limits, ProcessStream, Supervised, TaskError, Text
from taskloom.rules import Rules, TenantRules
from taskloom.wire.topics import partition_of

HEARTBEAT_REPORT_S: Final = 1.0
"""Least time between two heartbeats of an attempt that are reported: each becomes an event for ever."""

CANCEL_AGAIN_S: Final = 5.0
Key = tuple[str, int]


class Stop(Struct, frozen=True):
    """Why an attempt is stopped; it decides how its end is reported, whatever the handler still returns."""

    why: Literal["cancel", "timeout", "drain"]
    grace_s: float
    timeout: TimeoutKind = "start_to_close"
    limit_s: float = 0.0


class Tools(Struct, frozen=True):
    """What all attempts of an executor share."""

    reporter: Reporter
    outputs: Outbox
    outputs_topic: str
    partitions: int
    guardian: Guardian
    stop_grace_s: float
    max_output_bytes: int = 0
    rules: TenantRules = TenantRules()
    own_rules: Rules = Rules()
    secrets: SecretSource = Secrets()


class Attempt:
    """Implements ``taskloom.kinds.Context`` for one directive."""

    __slots__ = (
        "_beat_sent_at",
        "_beats",
        "_cancelled",
        "_heard_at",
        "_held_since",
        "_limits",
        "_masked",
        "_nap",
        "_pauses",
        "_resumed",
        "_started_at",
        "_tools",
        "_writer",
        "attempt",
        "context",
        "handler",
        "input",
        "kind",
        "masker",
        "name",
        "on_timeout",
        "order",
        "paused_s",
        "processes",
        "query",
        "running",
        "sampled",
        "session_id",
        "stop",
        "task",
        "task_id",
        "tenant_id",
    )

    def __init__(self, order: RunAttempt, handler: Handler, tools: Tools) -> None:
        self.order = order
        self.handler = handler
        self._tools = tools
        self.task_id = order.task_id
        self.attempt = order.attempt
        self.kind = order.kind
        self.input = order.input
        self.query = order.query
        self.context = order.context
        self.tenant_id = order.tenant_id
        self.session_id = order.session_id
        self.name = order.name
        self.processes: list[Supervised] = []
        self.stop: Stop | None = None
        self.task: asyncio.Task[None] | None = None
        self.running = False
        self.sampled: ResourceUse | None = None
        self.paused_s = 0.0
        self.on_timeout: Callable[[Attempt, Stop], None] | None = None
        self.masker = Masker()
        self._masked: dict[Stream, MaskedStream] = {}
        self._cancelled: asyncio.Event | None = None
        self._writer: OutputWriter | None = None
        self._resumed: asyncio.Event | None = None
        self._nap: asyncio.Future[None] | None = None
        self._limits: asyncio.TimerHandle | None = None
        self._started_at = self._heard_at = self._beat_sent_at = 0.0
        self._held_since: float | None = None
        self._beats = self._pauses = 0

    @property
    def key(self) -> Key:
        return self.task_id, self.attempt

    # taskloom.kinds.Context

    @property
    def idempotency_key(self) -> str:
        return self.task_id

    @property
    def cancelled(self) -> asyncio.Event:
        if self._cancelled is None:
            self._cancelled = asyncio.Event()
            if self.stop is not None:
                self._cancelled.set()
        return self._cancelled

    async def write(self, data: str | bytes, stream: Stream = "stdout") -> None:
        if self._writer is None:
            tools = self._tools
            self._writer = OutputWriter(
                tools.outputs,
                topic=tools.outputs_topic,
                partition=partition_of(self.task_id, tools.partitions),
                task_id=self.task_id,
                attempt=self.attempt,
                tenant_id=self.tenant_id,
                on_first=self._output_started,
                limit_bytes=tools.max_output_bytes,
            )
        if self.masker:
            data = self._masked_stream(stream).feed(
                data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            )
        await self._writer.write(data, stream)
        if self.order.heartbeat_s is not None:
            self._alive(self.order.heartbeat_s / 3, None, "", {})

    async def heartbeat(self, progress: float | None = None, message: str = "", **details: Any) -> None:
        if progress is not None and not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress must be from 0.0 to 1.0, not {progress}")
        limit = self.order.heartbeat_s
        self._alive(
            HEARTBEAT_REPORT_S if limit is None else min(HEARTBEAT_REPORT_S, limit / 3), progress, message, details
        )

    async def checkpoint(self, name: str = "checkpoint") -> None:
        if self._resumed is None:
            return
        self._pauses += 1
        reporter, loop = self._tools.reporter, asyncio.get_running_loop()
        reporter.send(
            self.order, ReportPaused(self.attempt, reporter.executor_id, name[:256]), f"paused-{self._pauses}"
        )
        self._held_since = loop.time()
        try:
            await self._resumed.wait()
        finally:
            self._heard_at = loop.time()
            self.paused_s += self._heard_at - self._held_since
            self._held_since = None

    async def sleep(self, seconds: float, checkpoint: str = "sleep") -> None:
        loop, left = asyncio.get_running_loop(), seconds
        while True:
            await self.checkpoint(checkpoint)
            if left <= 0:
                return
            since = loop.time()
            self._nap = loop.create_future()
            timer = loop.call_later(left, _wake, self._nap)
            try:
                await self._nap
            finally:
                timer.cancel()
                self._nap = None
            left -= loop.time() - since

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
    ) -> GuardedProcess:
        """As in ``taskloom.kinds.Context``; ``control`` adds a third pipe back (see ``processes.Guardian.spawn``)."""
        if self.stop is not None:
            raise TaskError("stopped", "the attempt is being stopped")
        return await self._tools.guardian.spawn(
            argv,
            env={"TASKLOOM_TASK_ID": self.task_id, "TASKLOOM_ATTEMPT": str(self.attempt), **(env or {})},
            cwd=cwd,
            stdin=stdin,
            limits=limits,
            user=user,
            control=control,
            register=self.processes,
        )

    def supervise(self, started: Supervised) -> None:
        if self.stop is not None:
            raise TaskError("stopped", "the attempt is being stopped")
        self.processes.append(started)

    async def reveal(self, values: Mapping[str, Text]) -> dict[str, str]:
        named = {value.secret for value in values.values() if not isinstance(value, str)}
        found = await self._tools.secrets.find(self.order, named) if named else {}
        self.conceal(found.values())
        return {name: value if isinstance(value, str) else found[value.secret] for name, value in values.items()}

    def conceal(self, secrets: Iterable[str]) -> None:
        self.masker.add(secrets)

    async def masked(
        self, output: AsyncIterator[tuple[ProcessStream, bytes]]
    ) -> AsyncIterator[tuple[ProcessStream, bytes]]:
        streams: dict[ProcessStream, MaskedStream] = {}
        async for stream, data in output:
            if not self.masker:
                yield stream, data
            elif told := streams.setdefault(stream, MaskedStream(self.masker)).feed(data):
                yield stream, told
        for stream, masked in streams.items():
            if rest := masked.finish():
                yield stream, rest

    def _masked_stream(self, stream: Stream) -> MaskedStream:
        return self._masked.setdefault(stream, MaskedStream(self.masker))

    # What the executor does with it.

    def check_rules(self) -> None:
        """
        Raises:
            RuleBroken: what is to be run is not allowed to this tenant, or on this executor.
        """
        self._tools.rules.check(self.tenant_id, self.kind, self.input)
        self._tools.own_rules.check(self.kind, self.input)

    def begin(self) -> None:
        """Its time runs from here."""
        loop = asyncio.get_running_loop()
        self.running = True
        self._started_at = self._heard_at = loop.time()
        self._watch()

    def finish(self) -> None:
        """The handler has returned or raised: from here on the attempt cannot be stopped, only reported."""
        self.running = False
        if self._limits is not None:
            self._limits.cancel()
            self._limits = None

    async def output(self) -> OutputSummary:
        """Returns when Kafka has all output."""
        if self._writer is None:
            return OutputSummary()
        for stream, masked in self._masked.items():
            await self._writer.write(masked.finish(), stream)
        return await self._writer.close()

    def pause(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.Event()
            if self._nap is not None:
                _wake(self._nap)

    def resume(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def end(self, stop: Stop) -> None:
        """Signals, waits, kills; returns when the handler has ended. Its end is reported by who runs it.

        Processes get SIGTERM, then SIGKILL. A handler in this process is cancelled; one that does not listen (a thread,
        which nothing can stop) is waited for, however long it takes: an end is only confirmed when it is one.
        """
        if self.stop is not None or not self.running or self.task is None:
            return
        self.stop = stop
        if self._cancelled is not None:
            self._cancelled.set()
        task, live = self.task, [process for process in self.processes if not process.ended]
        if not live:
            task.cancel()
        self._tell(stop, "signalled", await self._signal(live, signal.SIGTERM))
        await asyncio.wait({task}, timeout=stop.grace_s)
        if task.done() or not self.running:
            return
        live = [process for process in self.processes if not process.ended]
        self._tell(stop, "escalated", await self._signal(live, signal.SIGKILL))
        while self.running:
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S if live else 0)
            if self.running:
                task.cancel()
                await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)

    async def bury(self) -> int | None:
        """Kills what is left of its processes; returns once nothing runs. The last one's exit code."""
        code = None
        for process in self.processes:
            if not process.ended:
                await process.kill()
            try:
                code = (await process.wait()).code
            except TaskError:
                code = None
        return code

    async def use(self) -> ResourceUse:
        """Peaks of its processes: what was sampled, and what the kernel counted."""
        return await peaks(self.sampled, self.processes)

    @staticmethod
    async def _signal(processes: Sequence[Supervised], number: int) -> int:
        return sum([await process.signal(number) for process in processes])

    def _tell(self, stop: Stop, stage: Literal["signalled", "escalated"], processes: int) -> None:
        if stop.why != "cancel":
            return
        name = "SIGTERM" if stage == "signalled" else "SIGKILL"
        reporter = self._tools.reporter
        report = ReportStopSignalled(self.attempt, reporter.executor_id, stage, name, processes)
        reporter.send(self.order, report, f"stop-{stage}")

    def _output_started(self, stream: Stream) -> None:
        reporter = self._tools.reporter
        reporter.send(self.order, ReportOutputStarted(self.attempt, reporter.executor_id, stream), "output-started")

    def _alive(self, least_s: float, progress: float | None, message: str, details: dict[str, Any]) -> None:
        now = asyncio.get_running_loop().time()
        self._heard_at = now
        if now - self._beat_sent_at < least_s and progress != 1.0:
            return
        self._beat_sent_at = now
        self._beats += 1
        reporter = self._tools.reporter
        message, details = self.masker.text(message)[:4096], self.masker.value(details)
        beat = ReportHeartbeat(self.attempt, reporter.executor_id, progress, message, details)
        reporter.send(self.order, beat, f"heartbeat-{self._beats}")

    def _watch(self) -> None:
        """Ends the attempt when a limit is over, else looks again when one can be. Held time does not count."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        held_s = self.paused_s + (now - self._held_since if self._held_since is not None else 0.0)
        close_s = self.order.start_to_close_s
        left = close_s - (now - self._started_at - held_s)
        stop = Stop("timeout", self._tools.stop_grace_s, "start_to_close", close_s)
        beat_s = self.order.heartbeat_s
        if beat_s is not None:
            silent_s = 0.0 if self._held_since is not None or self._resumed is not None else now - self._heard_at
            if beat_s - silent_s < left:
                left = beat_s - silent_s
                stop = Stop("timeout", self._tools.stop_grace_s, "heartbeat", beat_s)
        if left > 0:
            self._limits = loop.call_later(left, self._watch)
        elif self.on_timeout is not None:
            self.on_timeout(self, stop)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
