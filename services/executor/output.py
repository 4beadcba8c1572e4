"""An attempt's output as chunks: text cut at UTF-8 borders, small writes joined, in order, in Kafka before the end."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from services.executor.outbox import Outbox
from taskloom.bus.publish import OutRecord
from taskloom.domain.values import OUTPUT_SEQ_SPAN, OutputSummary, Stream
from taskloom.wire.cloudevents import Attributes, to_headers
from taskloom.wire.messages import OutputChunk

CHUNK_BYTES: Final = 64 * 1024
JOIN_S: Final = 0.02
"""Small writes of this span travel together; the very first goes at once, so that a watcher sees life."""

_MARK: Final = "output cut: over {} bytes (TASKLOOM_MAX_OUTPUT_MB); what follows is dropped\n"
_encoder = msgspec.json.Encoder()
_CHUNK_TYPE: Final = str(OutputChunk.__struct_config__.tag)


def incomplete_tail(data: bytes) -> int:
    """Number of last bytes that are the beginning of a UTF-8 character whose rest is missing: 0 to 3."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 1
        return back if needed > back else 0
    return 0


def cut(data: bytes, limit: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Pieces of at most ``limit`` bytes that split no UTF-8 character (bytes that are not UTF-8 are split anywhere)."""
    at = 0
    while len(data) - at > limit:
        piece = data[at : at + limit]
        end = limit - incomplete_tail(piece)
        yield piece[:end]
        at += end
    if at < len(data):
        yield data[at:]


def _encode(text: str) -> bytes:
    """UTF-8; a lone surrogate, which UTF-8 cannot hold, makes bytes that travel as data."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


class OutputWriter:
    """Output of one attempt. ``write`` is called from one task at a time."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        topic: str,
        partition: int,
        task_id: str,
        attempt: int,
        tenant_id: str,
        on_first: Callable[[Stream], None],
        limit_bytes: int = 0,
    ) -> None:
        """``limit_bytes``: what comes after so many is dropped and counted; 0 is no limit."""
        self._outbox = outbox
        self._topic = topic
        self._partition = partition
        self._task_id = task_id
        self._key = task_id.encode()
        self._attempt = attempt
        self._tenant_id = tenant_id
        self._on_first = on_first
        self._limit = limit_bytes
        self._taken = self._dropped = 0
        self._marked = False
        self._stream: Stream = "stdout"
        self._joined = bytearray()
        self._tails: dict[Stream, bytes] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._base = (attempt - 1) * OUTPUT_SEQ_SPAN
        self._chunks = 0
        self._bytes = 0
        self._unacknowledged = 0
        self._all_acknowledged: asyncio.Future[None] | None = None

    async def write(self, data: str | bytes, stream: Stream) -> None:
        """Takes output; waits while the executor holds too much that is not in Kafka."""
        content = _encode(data) if isinstance(data, str) else data
        if self._limit and self._taken + len(content) > self._limit:
            content = self._cut(content)
        if content:
            self._taken += len(content)
            self._join(content, stream)
        if self._dropped and not self._marked:
            self._marked = True
            self._join(_MARK.format(self._limit).encode(), "log")
        if self._outbox.is_full:
            await self._outbox.room()

    def _cut(self, content: bytes) -> bytes:
        """What still fits, without half a character. From the first cut on nothing does."""
        room = 0 if self._dropped else self._limit - self._taken
        kept = content[: room - incomplete_tail(content[:room])]
        self._dropped += len(content) - len(kept)
        return kept

    def _join(self, content: bytes, stream: Stream) -> None:
        if stream != self._stream:
            self._switch(stream)
        self._joined += content
        if not self._chunks:
            self._flush()
        elif len(self._joined) >= CHUNK_BYTES:
            self._put_full()
        if self._joined and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(JOIN_S, self._flush)

    async def close(self) -> OutputSummary:
        """Returns when Kafka has all of it."""
        self._switch("log")
        for stream, tail in self._tails.items():
            self._stream = stream
            self._put(tail)
        self._tails.clear()
        if self._unacknowledged:
            self._all_acknowledged = asyncio.get_running_loop().create_future()
            await self._all_acknowledged
        last = self._base + self._chunks if self._chunks else 0
        return OutputSummary(last, self._chunks, self._bytes, self._dropped)

    def _switch(self, stream: Stream) -> None:
        """Goes on with another stream; the beginning of a character waits in its own stream for the rest."""
        self._flush()
        if self._joined:
            self._tails[self._stream] = bytes(self._joined)
            self._joined.clear()
        self._stream = stream
        self._joined += self._tails.pop(stream, b"")

    def _flush(self) -> None:
        """Sends what is joined, but for a last character that is not complete yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._joined:
            return
        data = bytes(self._joined)
        self._joined.clear()
        tail = incomplete_tail(data)
        if tail:
            self._joined += data[-tail:]
            data = data[:-tail]
        for piece in cut(data):
            self._put(piece)

    def _put_full(self) -> None:
        """Sends what makes full pieces; the rest goes with what comes, or a moment later."""
        data, at = bytes(self._joined), 0
        while len(data) - at >= CHUNK_BYTES:
            piece = data[at : at + CHUNK_BYTES]
            end = CHUNK_BYTES - incomplete_tail(piece)
            self._put(piece[:end])
            at += end
        del self._joined[:at]

    def _put(self, piece: bytes) -> None:
        if not self._chunks:
            self._on_first(self._stream)
        self._chunks += 1
        self._bytes += len(piece)
        self._unacknowledged += 1
        self._outbox.put(self._record(self._base + self._chunks, piece), self._acknowledged)

    def _record(self, seq: int, piece: bytes) -> OutRecord:
        text, data = "", b""
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            data = piece
        chunk = OutputChunk(
            task_id=self._task_id,
            attempt=self._attempt,
            seq=seq,
            stream=self._stream,
            at=datetime.now(UTC),
            text=text,
            data=data,
            tenant_id=self._tenant_id,
        )
        headers = to_headers(
            Attributes(id=f"{self._task_id}/{seq}", type=_CHUNK_TYPE, subject=self._task_id, tenant_id=self._tenant_id)
        )
        return OutRecord(self._topic, self._partition, self._key, _encoder.encode(chunk), headers)

    def _acknowledged(self) -> None:
        self._unacknowledged -= 1
        if not self._unacknowledged and self._all_acknowledged is not None and not self._all_acknowledged.done():
            self._all_acknowledged.set_result(None)
