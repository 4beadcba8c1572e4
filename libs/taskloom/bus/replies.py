"""Waiting for the orchestrator's reply to a command.

Each process reads one partition of the replies topic, the one that its own name falls into, and skips what is for
others by the key, before decoding. On aiokafka rather than a FastStream subscriber: that one takes its position at the
end only some time after its start returned, so a reply that comes at once would be missed, and it sleeps 5 s after
each error of the connection, longer than any caller waits.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from aiokafka import TopicPartition

from taskloom import telemetry
from taskloom.bus.errors import ReplyTimeout, TooManyWaiters
from taskloom.bus.tail import TailConsumer
from taskloom.wire.messages import Reply
from taskloom.wire.topics import Topics, partition_of

MAX_WAITERS: Final = 10_000

log = telemetry.get_logger(__name__)
_decoder = msgspec.json.Decoder(Reply)
_waiting = telemetry.gauge("bus_reply_waiters", "Callers that wait for a reply")


class Expected:
    """A reply that is to come."""

    __slots__ = ("_command_id", "_future")

    def __init__(self, command_id: str, future: "asyncio.Future[Reply]") -> None:
        self._command_id, self._future = command_id, future

    async def reply(self, timeout_s: float = 2.0) -> Reply:
        """The reply.

        Raises:
            ReplyTimeout: none came within ``timeout_s``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._future)
        except TimeoutError:
            raise ReplyTimeout(f"no reply to command {self._command_id} within {timeout_s:g} s") from None


class ReplyInbox:
    """Replies to the commands of this process: send them with ``reply_to`` as their ``Attributes.reply_to``.

    ::

        with inbox.expect(command_id) as expected:      # before the command is sent
            await publisher.publish([...])
            reply = await expected.reply(timeout_s=2.0)
    """

    def __init__(
        self, bootstrap: str, topics: Topics, partitions: int, instance: str, *, max_waiters: int = MAX_WAITERS
    ) -> None:
        self.reply_to = instance
        self._key = instance.encode()
        self._max_waiters = max_waiters
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}
        self._count = 0
        self._tail = TailConsumer(
            bootstrap,
            [TopicPartition(topics.replies, partition_of(instance, partitions))],
            client_id=f"{instance}-replies",
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self, timeout_s: float = 30.0) -> None:
        """From here on no reply is missed. Raises BusUnavailable when Kafka does not answer in time."""
        await self._tail.start(timeout_s)
        self._task = asyncio.create_task(self._read(), name="reply inbox")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._tail.stop()

    async def run(self) -> None:
        """Ends when reading ends: to be supervised as a background task after ``start``."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def ping(self, timeout_s: float = 2.0) -> None:
        """For readiness checks. Raises BusUnavailable when Kafka does not answer in time."""
        await self._tail.ping(timeout_s)

    @contextmanager
    def expect(self, command_id: str) -> Iterator[Expected]:
        """A place for the reply to ``command_id``, until the block ends; a reply that comes later is dropped.

        Raises:
            TooManyWaiters: as many wait as this process takes.
        """
        if self._count >= self._max_waiters:
            raise TooManyWaiters(f"{self._count} callers wait for a reply already; try again later")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command_id, []).append(future)
        self._count += 1
        _waiting.inc()
        try:
            yield Expected(command_id, future)
        finally:
            self._count -= 1
            _waiting.dec()
            future.cancel()
            left = [other for other in self._waiting.get(command_id, ()) if other is not future]
            if left:
                self._waiting[command_id] = left
            else:
                self._waiting.pop(command_id, None)

    async def _read(self) -> None:
        while True:
            for records in (await self._tail.poll(timeout_ms=500)).values():
                for record in records:
                    if record.key == self._key:
                        self._deliver(record.value)

    def _deliver(self, value: bytes | None) -> None:
        try:
            reply = _decoder.decode(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("a reply could not be read", error=str(error))
            return
        for future in self._waiting.get(reply.command_id, ()):
            if not future.done():
                future.set_result(reply)
