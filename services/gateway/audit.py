"""Every mutating call, as an event on the audit topic: who, what, from where, with what result. Never bodies or keys.

Entries gather in memory and go out in batches a tenth of a second apart, so that no call waits for Kafka twice. What
cannot be written is kept and tried again. When the buffer is full, mutating calls are refused with 503 before anything
is done: what cannot be written down does not happen. A gateway that is killed takes with it what it had not written.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec

from services.gateway.ids import new_command_id
from services.gateway.problems import Unavailable
from services.gateway.security import NOBODY, Caller
from taskloom import telemetry
from taskloom.bus.errors import BusError
from taskloom.bus.publish import OutRecord
from taskloom.wire.messages import AuditEntry
from taskloom.wire.topics import Topics, partition_of

CAPACITY: Final = 10_000
"""Entries that wait to be written."""

BATCH: Final = 500
EVERY_S: Final = 0.1
AGAIN_S: Final = 1.0
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_log = telemetry.get_logger(__name__)
_written = telemetry.counter("gateway_audit_entries", "Audit entries that Kafka has")
_waiting = telemetry.gauge("gateway_audit_waiting", "Audit entries that wait to be written")
_refused = telemetry.counter("gateway_audit_full", "Calls refused because the audit could not be written")


class AuditSink(Protocol):
    """Where entries go; returns once they are there."""

    async def write(self, entries: Sequence[AuditEntry]) -> None: ...


class RecordPublisher(Protocol):
    async def publish(self, records: Sequence[OutRecord]) -> None: ...


class AuditTopic:
    """The audit topic. A tenant's entries are in one partition."""

    def __init__(self, publisher: RecordPublisher, topics: Topics, partitions: int) -> None:
        self._publisher, self._topic, self._partitions = publisher, topics.audit, partitions

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        """Raises BusError."""
        await self._publisher.publish([self._record(entry) for entry in entries])

    def _record(self, entry: AuditEntry) -> OutRecord:
        partition = partition_of(entry.tenant_id, self._partitions)
        return OutRecord(self._topic, partition, entry.tenant_id.encode(), msgspec.json.encode(entry))


class Auditor:
    """``sink`` None: nothing is written down."""

    def __init__(self, sink: AuditSink | None, instance: str, *, capacity: int = CAPACITY) -> None:
        self._sink = sink
        self._instance = instance
        self._capacity = capacity
        self._waiting: deque[AuditEntry] = deque()
        self._failing = False

    def admit(self, method: str) -> None:
        """Raises Unavailable: the call would change something, and could not be written down."""
        if method not in _READS and len(self._waiting) >= self._capacity:
            _refused.inc()
            raise Unavailable("the audit cannot be written now, so nothing is changed", retry_after_s=5)

    def note(self, scope: Mapping[str, Any], status: int, task_id: str, trace_id: str) -> None:
        """Remembers a call that is over; reads are left out. ``task_id``: what the answer says was made."""
        method = scope["method"]
        if self._sink is None or method in _READS or len(self._waiting) >= self._capacity:
            return
        caller: Caller = scope["state"].get("caller", NOBODY)
        named = {name: _clean(str(value)) for name, value in (scope.get("path_params") or {}).items()}
        client = scope.get("client")
        entry = AuditEntry(
            id=new_command_id(),
            at=datetime.now(UTC),
            tenant_id=caller.tenant_id,
            user_id=caller.user_id,
            key_id=caller.key_id,
            by=caller.by,
            role=caller.role,
            home_tenant=caller.home_tenant,
            home_user=caller.home_user,
            method=method,
            route=_template(str(scope.get("path_template") or _clean(scope.get("path", "")))),
            task_id=named.get("task_id") or named.get("run_id") or _clean(task_id),
            named=named,
            status=status or 499,
            remote=str(client[0]) if client else "",
            trace_id=trace_id[:128],
            gateway=self._instance,
        )
        self._waiting.append(entry)

    async def run(self, stopping: asyncio.Event) -> None:
        """Writes until ``stopping``; ``close`` writes the rest."""
        while not stopping.is_set():
            done = await self._write_some()
            if done and len(self._waiting) >= BATCH:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S if done else AGAIN_S):
                    await stopping.wait()

    async def close(self, timeout_s: float = 5.0) -> None:
        """Writes what waits, once no more calls come; says how many it lost when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._waiting and await self._write_some():
                    continue
        if self._waiting:
            _log.error("audit entries are lost", entries=len(self._waiting))

    async def _write_some(self) -> bool:
        """False when it failed; the entries then stay."""
        _waiting.set(len(self._waiting))  # not with each entry: that was a tenth of what one costs
        batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
        if not batch or self._sink is None:
            return True
        try:
            await self._sink.write(batch)
        except BusError as fault:
            if not self._failing:
                _log.warning("the audit cannot be written", reason=str(fault), entries=len(self._waiting))
            self._failing = True
            return False
        self._failing = False
        for _ in batch:
            self._waiting.popleft()
        _written.inc(len(batch))
        _waiting.set(len(self._waiting))
        return True


def _clean(text: str) -> str:
    """What can be stored of a part of a path; what was asked for may be anything."""
    return text.replace("\x00", "")[:512]


@lru_cache(maxsize=1024)
def _template(path: str) -> str:
    """The path as the OpenAPI document writes it."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
