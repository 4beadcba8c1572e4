"""An executor as a process, and the other end of its topics: directives in, reports and output out.

``Rig(…, beside=other)`` talks to the executor that another rig has started.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import msgspec
from aiokafka import TopicPartition

from taskloom.bus.admin import ensure_topics
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.bus.tail import TailConsumer
from taskloom.domain.task.commands import (
    Report,
    ReportCompleted,
    ReportDeclined,
    ReportFailed,
    ReportStopped,
    ReportTimedOut,
)
from taskloom.domain.task.directives import Directive, PauseAttempt, ResumeAttempt, RunAttempt, StopAttempt
from taskloom.wire.commands import decode_command
from taskloom.wire.messages import ExecutorHeartbeat, OutputChunk
from taskloom.wire.topics import Topics, partition_of

PARTITIONS = 4
ENDS = (ReportCompleted, ReportFailed, ReportTimedOut, ReportStopped, ReportDeclined)
NO_DATABASE = "postgresql://127.0.0.1:1/none"
FUNCTIONS = "tests.integration.executor.functions"
ROOT = Path(__file__).parents[3]


class Rig:
    """Collects what the executor tells, by task; ``heard`` waits for a condition over it."""

    def __init__(
        self, bootstrap: str, prefix: str, log: Path, dsn: str = NO_DATABASE, beside: "Rig | None" = None
    ) -> None:
        self.bootstrap = bootstrap
        self.topics = Topics(prefix)
        self.executor_id: str = beside.executor_id if beside else f"executor-{uuid4().hex[:8]}"
        self.reports: dict[str, list[Report]] = defaultdict(list)
        self.report_ids: dict[str, list[str]] = defaultdict(list)
        self.chunks: dict[str, list[OutputChunk]] = defaultdict(list)
        self.heartbeats: list[ExecutorHeartbeat] = beside.heartbeats[-1:] if beside else []
        self.process: subprocess.Popen[bytes] | None = beside.process if beside else None
        self._owns_process = beside is None
        self.prefix = prefix
        self.log = log
        self._dsn = dsn
        self._publisher = Publisher(bootstrap, "rig")
        topics = (self.topics.commands, self.topics.outputs, self.topics.executors)
        places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        self._consumer = TailConsumer(bootstrap, places, start="end" if beside else "beginning", client_id="rig")
        self._changed = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._owns_process:
            await ensure_topics(self.bootstrap, self.prefix, PARTITIONS)
        await self._publisher.start()
        await self._consumer.start()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owns_process:
            self.stop()
        await self.leave()

    async def leave(self) -> None:
        """Closes this end; the executor goes on."""
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._consumer.stop()
        await self._publisher.stop()

    async def start(self, **settings: Any) -> ExecutorHeartbeat:
        """Starts an executor process; returns its registration."""
        known = {beat.incarnation for beat in self.heartbeats}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKLOOM_")}
        own = {
            "kafka_bootstrap": self.bootstrap,
            "topic_prefix": self.prefix,
            "partitions": PARTITIONS,
            "shards": 1,
            "executor_id": self.executor_id,
            "python_modules": FUNCTIONS,
            "database_dsn": self._dsn,
            "heartbeat_s": 0.5,
            "drain_timeout_s": 4.5,
            **settings,
        }
        environment |= {f"TASKLOOM_{name.upper()}": str(value) for name, value in own.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from taskloom.cli.executor import executor; executor()"],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        await self.heard(lambda: any(beat.incarnation not in known for beat in self.heartbeats), 30)
        return self.heartbeats[-1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signals the executor and waits for its end; its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.process = None
        return code

    @property
    def incarnation(self) -> str:
        return self.heartbeats[-1].incarnation

    def order(self, kind: str, given: dict[str, Any], **fields: Any) -> RunAttempt:
        fields = {"task_id": f"t-{uuid4().hex[:12]}", "attempt": 1, **fields}
        return RunAttempt(
            executor_id=self.executor_id,
            incarnation=fields.pop("incarnation", self.incarnation),
            kind=kind,
            input=given,
            **fields,
        )

    async def send(self, *directives: Directive) -> None:
        partition = partition_of(self.executor_id, PARTITIONS)
        key = self.executor_id.encode()
        values = [msgspec.json.encode(directive) for directive in directives]
        await self._publisher.publish([OutRecord(self.topics.assignments, partition, key, value) for value in values])

    async def begin(self, kind: str, given: dict[str, Any], **fields: Any) -> RunAttempt:
        order = self.order(kind, given, **fields)
        await self.send(order)
        return order

    async def run(self, kind: str, given: dict[str, Any], *, timeout_s: float = 30, **fields: Any) -> Any:
        """The end report of one attempt."""
        order = await self.begin(kind, given, **fields)
        return await self.end(order, timeout_s)

    async def end(self, order: RunAttempt, timeout_s: float = 30) -> Any:
        await self.heard(lambda: self.ended(order) is not None, timeout_s)
        return self.ended(order)

    def ended(self, order: RunAttempt) -> Report | None:
        found = [
            report
            for report in self.reports[order.task_id]
            if report.attempt == order.attempt and isinstance(report, ENDS)
        ]
        return found[0] if found else None

    def said(self, order: RunAttempt, kind: type) -> list[Any]:
        return [report for report in self.reports[order.task_id] if isinstance(report, kind)]

    async def cancel(self, order: RunAttempt, grace_s: float = 5.0) -> None:
        await self.send(StopAttempt(order.task_id, order.attempt, order.executor_id, order.incarnation, grace_s))

    async def pause(self, order: RunAttempt) -> None:
        await self.send(PauseAttempt(order.task_id, order.attempt, order.executor_id, order.incarnation))

    async def resume(self, order: RunAttempt) -> None:
        await self.send(ResumeAttempt(order.task_id, order.attempt, order.executor_id, order.incarnation))

    async def output(self, order: RunAttempt, last_seq: int) -> list[OutputChunk]:
        """All chunks up to ``last_seq``, in order, doubles dropped."""

        def whole() -> dict[int, OutputChunk]:
            return {chunk.seq: chunk for chunk in self.chunks[order.task_id] if chunk.attempt == order.attempt}

        await self.heard(lambda: last_seq in whole(), 30)
        return [chunk for _, chunk in sorted(whole().items())]

    async def heard(self, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(condition)

    async def _read(self) -> None:
        while True:
            for place, records in (await self._consumer.poll(200)).items():
                for record in records:
                    self._take(place.topic, record)
            async with self._changed:
                self._changed.notify_all()

    def _take(self, topic: str, record: Any) -> None:
        if topic == self.topics.commands:
            envelope = decode_command(record.key, record.value, record.headers, fallback_id="none")
            assert record.partition == partition_of(envelope.task_id, PARTITIONS)
            self.reports[envelope.task_id].append(envelope.command)  # type: ignore[arg-type]
            self.report_ids[envelope.task_id].append(envelope.attributes.id)
        elif topic == self.topics.outputs:
            chunk = msgspec.json.decode(record.value, type=OutputChunk)
            self.chunks[chunk.task_id].append(chunk)
        else:
            self.heartbeats.append(msgspec.json.decode(record.value, type=ExecutorHeartbeat))


@asynccontextmanager
async def started(rig: Rig, **settings: Any) -> AsyncIterator[Rig]:
    async with rig:
        await rig.start(**settings)
        yield rig
