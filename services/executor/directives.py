"""Reads this executor's assignments and hands them to its attempts."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from services.executor.attempts import Attempts
from services.executor.outbox import Outbox
from taskloom import telemetry
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.directives import Directive
from taskloom.wire.messages import DeadLetter
from taskloom.wire.topics import Topics

POLL_MS: Final = 500
BURST: Final = 64
"""Directives carried out in a row before reports get their turn to leave."""

log = telemetry.get_logger(__name__)
_decoder: msgspec.json.Decoder[Directive] = msgspec.json.Decoder(Directive)
_encoder = msgspec.json.Encoder()


class Polls(Protocol):
    """The part of ``taskloom.bus.tail.TailConsumer`` that is used here."""

    async def poll(self, timeout_ms: int = ..., max_records: int | None = ...) -> dict[Any, list[Any]]: ...


class Directives:
    """The executor's main loop: poll, decode, carry out. New work waits while the reports of old work pile up."""

    def __init__(
        self,
        consumer: Polls,
        attempts: Attempts,
        reports: Outbox,
        *,
        executor_id: str,
        incarnation: str,
        topics: Topics,
    ) -> None:
        self._consumer = consumer
        self._attempts = attempts
        self._reports = reports
        self._key = executor_id.encode()
        self._incarnations = ("", incarnation)
        self._topics = topics

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for records in (await self._consumer.poll(POLL_MS)).values():
                for count, record in enumerate(records, start=1):
                    if record.key == self._key:
                        self._carry_out(record)
                    if count % BURST == 0:
                        await asyncio.sleep(0)
                    if self._reports.is_full:
                        await self._reports.room()

    def _carry_out(self, record: Any) -> None:
        try:
            directive = _decoder.decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._bury(record, str(error))
            return
        if directive.incarnation in self._incarnations:
            self._attempts.handle(directive)

    def _bury(self, record: Any, reason: str) -> None:
        """A directive that cannot be read goes to the dead letters; its task's own limits end the attempt."""
        log.error("a directive cannot be read", partition=record.partition, offset=record.offset, reason=reason)
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            at=datetime.now(UTC),
            reason=f"not a directive: {reason}",
            key=(record.key or b"").decode("utf-8", "replace"),
            value=record.value or b"",
            headers=tuple(record.headers),
        )
        self._reports.put(
            OutRecord(self._topics.dead_letters, record.partition, record.key, _encoder.encode(letter), [])
        )
