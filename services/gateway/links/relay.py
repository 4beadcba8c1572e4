"""From what an agent pushes to records for Kafka. An agent is a tenant's, not the operator's: nothing passes unseen.

A report names the agent itself and a task of its tenant, output a task of its tenant, and a reference to a large value
one that the tenant's agents have stored. What fails this is left out and counted; the rest goes on.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from psycopg import OperationalError

from services.gateway.links.door import Guest
from taskloom import telemetry
from taskloom.bus.publish import OutRecord
from taskloom.domain.ids import is_task_id
from taskloom.domain.task.commands import Report, ReportCompleted
from taskloom.domain.values import OUTPUT_SEQ_SPAN
from taskloom.views.reading import TooSlow
from taskloom.views.task_executions.query import Place
from taskloom.wire.claims import CLAIM_TEXT, claimed_digest, is_claim
from taskloom.wire.cloudevents import MAX_ATTRIBUTE_CHARS, Attributes, to_headers
from taskloom.wire.commands import Envelope, command_type, encode_command, is_too_deep
from taskloom.wire.link import Item, Push
from taskloom.wire.messages import OutputChunk
from taskloom.wire.topics import Topics, partition_of

KNOWN_TASKS: Final = 10_000
"""Tasks that a link remembers as the agent's; one that is forgotten is looked up again."""

LOOK_S: Final = 10.0
"""How long a task that the read side does not show yet is looked for."""

LOOK_EVERY_S: Final = 0.2

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_report_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)
_chunk_decoder = msgspec.json.Decoder(OutputChunk)
_encoder = msgspec.json.Encoder()
_CHUNK_TYPE: Final = str(OutputChunk.__struct_config__.tag)
_log = telemetry.get_logger(__name__)
_refused = telemetry.counter("gateway_agent_items_refused", "Reports and output of agents that were not passed on")

Places = Callable[[Sequence[str]], Awaitable[dict[str, Place]]]
Owned = Callable[[str, Collection[str]], Awaitable[set[str]]]


class Foreign(Exception):
    """An item that the agent may not send; says why."""


class Relay:
    """Of one link. ``skew``: how far the gateway's clock is ahead of the agent's."""

    def __init__(self, guest: Guest, places: Places, owned: Owned, topics: Topics, partitions: int) -> None:
        self._guest = guest
        self._places = places
        self._owned = owned
        self._topics = topics
        self._partitions = partitions
        self._tasks: OrderedDict[str, None] = OrderedDict()
        self.skew = timedelta()

    def note_task(self, task_id: str) -> None:
        """The agent was given this task over this link."""
        self._tasks[task_id] = None
        self._tasks.move_to_end(task_id)
        if len(self._tasks) > KNOWN_TASKS:
            self._tasks.popitem(last=False)

    async def records(self, push: Push) -> tuple[list[OutRecord], int]:
        """The push as records, in its order, and how many of its items are not among them."""
        await self._find([item.task_id for item in push.items])
        make = self._report if push.lane == "reports" else self._output
        records: list[OutRecord] = []
        for item in push.items:
            try:
                if item.task_id not in self._tasks:
                    raise Foreign("the agent's tenant has no such task")
                records.append(await make(item))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Foreign) as reason:
                _log.warning(
                    "not passed on", agent=self._guest.executor_id, task_id=item.task_id[:200], reason=str(reason)[:500]
                )
        refused = len(push.items) - len(records)
        if refused:
            _refused.inc(refused)
        return records, refused

    async def _report(self, item: Item) -> OutRecord:
        guest, report = self._guest, _report_decoder.decode(item.value)
        if report.executor_id != guest.executor_id:
            raise Foreign("it is a report of another executor")
        if not item.id.startswith(f"{item.task_id}/") or len(item.id) > MAX_ATTRIBUTE_CHARS:
            raise Foreign("its id does not begin with its task's")
        if is_too_deep(bytes(item.value)):
            raise Foreign("it nests too deep")
        if isinstance(report, ReportCompleted):
            await self._check_claims(report)
        attributes = Attributes(
            id=item.id,
            type=command_type(report),
            source=guest.executor_id,
            tenant_id=guest.tenant_id,
            traceparent=item.traceparent if _TRACEPARENT.fullmatch(item.traceparent) else "",
        )
        key, value, headers = encode_command(Envelope(item.task_id, report, attributes))
        return OutRecord(self._topics.commands, self._partition(item), key, value, headers)

    async def _check_claims(self, report: ReportCompleted) -> None:
        named: list[Any] = [report.response] if is_claim(report.response) else []
        if report.result.startswith(CLAIM_TEXT):
            named.append(msgspec.json.decode(report.result))
        if not named:
            return
        digests = {claimed_digest(value) or "" for value in named}
        missing = digests - await self._owned(self._guest.tenant_id, digests)
        if missing:
            raise Foreign("it refers to a value that no agent of the tenant has stored")

    async def _output(self, item: Item) -> OutRecord:
        chunk = _chunk_decoder.decode(item.value)
        if chunk.task_id != item.task_id:
            raise Foreign("it is output of another task")
        if not 0 < chunk.seq - (chunk.attempt - 1) * OUTPUT_SEQ_SPAN <= OUTPUT_SEQ_SPAN:
            raise Foreign("its number is not of its attempt")
        at = min(datetime.now(UTC), chunk.at + self.skew)
        chunk = msgspec.structs.replace(chunk, tenant_id=self._guest.tenant_id, at=at)
        headers = to_headers(
            Attributes(
                id=f"{chunk.task_id}/{chunk.seq}",
                type=_CHUNK_TYPE,
                subject=chunk.task_id,
                tenant_id=self._guest.tenant_id,
            )
        )
        return OutRecord(
            self._topics.outputs, self._partition(item), item.task_id.encode(), _encoder.encode(chunk), headers
        )

    def _partition(self, item: Item) -> int:
        return partition_of(item.task_id, self._partitions)

    async def _find(self, task_ids: Sequence[str]) -> None:
        """Looks up whose those tasks are that this link did not give out: the agent got them over an earlier one."""
        unknown = {task_id for task_id in task_ids if task_id not in self._tasks and is_task_id(task_id)}
        give_up = time.monotonic() + LOOK_S
        while unknown:
            try:
                found = await self._places(sorted(unknown))
            except (OperationalError, TooSlow):
                found, give_up = {}, time.monotonic() + LOOK_S  # PostgreSQL is away: the agent's push waits for it
            for task_id, place in found.items():
                unknown.discard(task_id)
                if place.tenant_id == self._guest.tenant_id:
                    self.note_task(task_id)
            if unknown and time.monotonic() > give_up:
                return
            if unknown:
                await asyncio.sleep(LOOK_EVERY_S)
