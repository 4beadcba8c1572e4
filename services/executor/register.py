"""Registration and sign of life: what this executor can do, and which attempts it holds."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final, Literal

import msgspec

from services.executor.outbox import Publishes
from services.executor.prefetch import Reserve
from services.executor.settings import ExecutorSettings
from taskloom import telemetry
from taskloom.bus.errors import BusError
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.submission import WEBHOOK_KIND, WEBHOOK_QUEUE
from taskloom.kinds import Handler
from taskloom.kinds.schemas import announced
from taskloom.wire.cloudevents import Attributes, to_headers
from taskloom.wire.messages import ExecutorHeartbeat, HostMetrics, LiveAttempt
from taskloom.wire.topics import Topics, partition_of

LOOK_S: Final = 0.5
MUCH_MORE: Final = 20

Status = Literal["ready", "draining", "stopped"]
log = telemetry.get_logger(__name__)
_encoder = msgspec.json.Encoder()
_TYPE = str(ExecutorHeartbeat.__struct_config__.tag)


class Announcer:
    """Publishes ``ExecutorHeartbeat`` on the executors topic."""

    def __init__(
        self,
        publisher: Publishes,
        settings: ExecutorSettings,
        *,
        incarnation: str,
        handlers: Mapping[str, Handler],
        capabilities: tuple[str, ...],
        live: Callable[[], tuple[LiveAttempt, ...]],
        reserve: Reserve,
        measure: Callable[[], HostMetrics] | None = None,
    ) -> None:
        self.status: Status = "ready"
        self._publisher = publisher
        self._settings = settings
        self._topic = Topics(settings.topic_prefix).executors
        self._handlers = handlers
        self._live = live
        self._reserve = reserve
        self._measure = measure
        self._prefetch = 0
        self._count = 0
        self._template = ExecutorHeartbeat(
            executor_id=settings.executor_id,
            incarnation=incarnation,
            status="ready",
            at=datetime.now(UTC),
            kinds=(),
            queues=(*settings.queues, *((WEBHOOK_QUEUE,) if WEBHOOK_KIND in handlers else ())),
            capabilities=capabilities,
            labels=settings.labels,
            slots=settings.slots,
            resources=settings.resources,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("taskloom"),
            started_at=datetime.now(UTC),
            interval_s=settings.heartbeat_s,
        )

    async def announce(self, status: Status) -> None:
        """Publishes the status, which later heartbeats repeat.

        Raises:
            BusUnavailable: Kafka did not take it.
        """
        self.status = status
        self._count += 1
        available = {kind: handler for kind, handler in self._handlers.items() if handler.available}
        schemas = {kind: handler.schema for kind, handler in available.items() if handler.schema is not None}
        beat = msgspec.structs.replace(
            self._template,
            status=status,
            at=datetime.now(UTC),
            kinds=tuple(sorted(available)),
            schemas=announced(schemas),
            live=self._live(),
            prefetch=self._prefetch,
        )
        if self._measure is not None:
            beat = msgspec.structs.replace(beat, metrics=self._measure())
        executor_id = beat.executor_id
        headers = to_headers(
            Attributes(
                f"{executor_id}/{beat.incarnation}/{self._count}", _TYPE, source=executor_id, subject=executor_id
            )
        )
        partition = partition_of(executor_id, self._settings.partitions)
        record = OutRecord(self._topic, partition, executor_id.encode(), _encoder.encode(beat), headers)
        await self._publisher.publish([record])

    async def run(self) -> None:
        """Repeats the status until cancelled; a heartbeat that Kafka did not take is followed by the next one.

        Between two of them the reserve is looked at: when much more may wait here than was said, that is said at once.
        """
        due = time.monotonic() + self._settings.heartbeat_s
        while True:
            await asyncio.sleep(min(LOOK_S, max(0.0, due - time.monotonic())))
            wanted = self._reserve.look()
            if time.monotonic() < due and wanted < 2 * self._prefetch + MUCH_MORE:
                continue
            due = time.monotonic() + self._settings.heartbeat_s
            self._prefetch = wanted
            try:
                await self.announce(self.status)
            except BusError as error:
                log.warning("no heartbeat: Kafka does not take it", reason=str(error))
