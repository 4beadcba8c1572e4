"""What the executor publishes on, over the link: reports, output, heartbeats."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from msgspec import Raw

from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord
from taskloom.wire import link as wire

FIRST_BEAT_AGAIN_S: Final = 0.1
LEAST_PART_BYTES: Final = 128 * 1024


class Lane:
    """``outbox.Publishes`` over the link."""

    def __init__(self, name: wire.Lane, push: Callable[[wire.Lane, list[list[OutRecord]]], Awaitable[None]]) -> None:
        self._name = name
        self._push = push

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Returns when the gateway has acknowledged them, however many links that takes."""
        await self._push(self._name, in_parts(records))


class Heartbeats:
    """``outbox.Publishes`` for heartbeats: those that find no link are not sent, since the next one says it all. Only
    the first, which registers the agent, waits for one."""

    def __init__(self, beat: Callable[[bytes], Awaitable[None]]) -> None:
        self._beat = beat
        self._sent = 0

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Raises BusUnavailable: there is no link now."""
        while True:
            try:
                await self._beat(records[-1].value or b"{}")
            except BusUnavailable:
                if self._sent:
                    raise
                await asyncio.sleep(FIRST_BEAT_AGAIN_S)
            else:
                self._sent += 1
                return


def in_parts(records: Sequence[OutRecord]) -> list[list[OutRecord]]:
    """The same in order, as up to four pushes: while one goes to Kafka, the next is on its way to the gateway."""
    target = max(LEAST_PART_BYTES, sum(map(_size, records)) / wire.PUSHES_AT_ONCE)
    parts: list[list[OutRecord]] = []
    size = target
    for record in records:
        if size >= target:
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += _size(record)
    return parts


def _size(record: OutRecord) -> int:
    return len(record.value or b"")


def item_of(record: OutRecord) -> wire.Item:
    named = dict(record.headers)
    return wire.Item(
        task_id=record.key.decode(),
        id=named.get("ce_id", b"").decode(),
        type=named.get("ce_type", b"").decode(),
        traceparent=named.get("traceparent", b"").decode(),
        value=Raw(record.value or b"{}"),
    )
