"""One task's events and output as they happen, with no gap and no double.

Subscribe to live first, read the store up to event n, go on live from n+1; whatever is not contiguous is read from the
store again. Output likewise, by seq, from its table. Two rules order the two against each other:

- output of an attempt is shown once the attempt's start was shown;
- an event that ends an attempt is shown once all output that it names (``output.last_seq``) was shown.
"""

import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.gateway.gate import Gated
from services.gateway.live import Live, LiveHub, Source, Subscription
from services.gateway.shapes import attempt_of_seq
from taskloom import telemetry
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TERMINAL_EVENTS, AttemptStarted, OutputStarted, TaskRetried
from taskloom.domain.values import OUTPUT_SEQ_SPAN, OutputSummary
from taskloom.views.outputs.query import Chunk
from taskloom.wire.errors import WireError
from taskloom.wire.messages import OutputChunk

PAGE: Final = 500
HELD_AT_MOST: Final = 2 * PAGE
"""Events or chunks held in memory for their turn; more stay in the store until there is room."""

HELD_BYTES_AT_MOST: Final = 8 * 1024 * 1024

HOLD_LIMIT_S: Final = 30.0
"""An end waits this long for output that its executor says Kafka has; then it is shown all the same, and logged."""

LOOK_BACK: Final = 50
_EVERY_ATTEMPT: Final = 2**31
_FIRST_LOOK_S: Final = 0.02
_LAST_LOOK_S: Final = 1.0
_SETTLE_S: Final = (0.3, 1.0, 3.0)
"""Output published before the subscription may be on its way to the table still: it is looked at again after these."""

_log = telemetry.get_logger(__name__)
_chunk_decoder = msgspec.json.Decoder(OutputChunk)

Item = Recorded | Chunk | None


class Position(Struct, frozen=True):
    """The last event's version and the last chunk's seq that a reader has; ``behind_end`` counts the virtual events
    after the one that ends the task."""

    version: int = 0
    seq: int = 0
    behind_end: int = 0


class Feed:
    """Items after ``after``, ending with the event that ends the task. None stands for ``quiet_s`` without anything."""

    def __init__(self, task_id: str, store: Gated, hub: LiveHub, *, after: Position, quiet_s: float) -> None:
        self._task_id = task_id
        self._store = store
        self._hub = hub
        self._quiet_s = quiet_s
        self.version = after.version
        self.seq = after.seq
        self.end: Recorded | None = None
        self._events: deque[Recorded] = deque()
        self._chunks: deque[Chunk] = deque()
        self._held_bytes = 0
        # Which starts a resumed reader has seen is told by the history; of a long one not all of it is read for that.
        self._started = 0 if after.version <= LOOK_BACK else _EVERY_ATTEMPT
        self._ends: dict[int, int] = {}
        self._events_stale = True
        self._chunks_stale = True
        self._wanted_seq = 0
        self._retired_seq = 0
        self._looks = 0
        self._look_at = 0.0
        self._held_since: float | None = None

    @property
    def ended(self) -> bool:
        """The event that ends the task was shown, now or to this reader before."""
        return self.end is not None

    async def items(self) -> AsyncGenerator[Item, None]:
        """Raises StoreUnavailable or BusUnavailable when history or live cannot be read now."""
        await self._find_end_before()
        while await self._goes_on():
            async for item in self._from_store():
                yield item
            if not self.ended:
                async for item in self._live():
                    yield item

    async def had_end(self) -> bool:
        """Whether the reader had the task's end before, and no retry has taken it back."""
        await self._find_end_before()
        return self.ended and not await self._goes_on()

    async def _goes_on(self) -> bool:
        """Whether the task has not ended, or was retried after the end that was shown."""
        if self.end is None:
            return True
        version = self.end.version
        while page := await self._store.events(self._task_id, after=version, limit=PAGE):
            if any(isinstance(recorded.event, TaskRetried) for recorded in page):
                self.end, self._events_stale = None, True
                return True
            version = page[-1].version
        return False

    async def _from_store(self) -> AsyncGenerator[Item, None]:
        """What is there already: a task that has ended is told without any live reading."""
        while (self._events_stale or self._chunks_stale) and not self.ended:
            before = (self.version, self.seq)
            await self._read_events()
            await self._read_chunks()
            for item in self._due():
                yield item
            if before == (self.version, self.seq):
                break
        if not self.ended and await self._find_retired():
            for item in self._due():
                yield item

    async def _find_retired(self) -> bool:
        """Whether output that is waited for was retired, so that nobody waits for it."""
        if not self._behind():
            return False
        gone = await self._store.retired_output(self._task_id)
        found, self._retired_seq = gone > self._retired_seq, max(gone, self._retired_seq)
        return found

    async def _live(self) -> AsyncGenerator[Item, None]:
        async with self._hub.subscribe(self._task_id) as subscription:
            self._events_stale = self._chunks_stale = True
            settle = [time.monotonic() + delay for delay in reversed(_SETTLE_S)]
            quiet_until = time.monotonic() + self._quiet_s
            while True:
                await self._gather(subscription)
                for item in self._due():
                    yield item
                    quiet_until = time.monotonic() + self._quiet_s
                if self.ended:
                    return
                now = time.monotonic()
                if now >= quiet_until:
                    yield None
                    quiet_until = time.monotonic() + self._quiet_s
                if settle and now >= settle[-1]:
                    settle.pop()
                    self._chunks_stale = True
                elif not self._more_at_once():
                    await subscription.arrived(max(0.0, self._next_look(settle, quiet_until) - now))

    async def _gather(self, subscription: Subscription) -> None:
        if subscription.lost:
            subscription.lost = False
            subscription.take()
            await self._hub.ensure_running()
            self._events_stale = self._chunks_stale = True
        for source, record in subscription.take():
            self._accept(source, record)
        if self._events_stale and len(self._events) < HELD_AT_MOST:
            await self._read_events()
        if (self._chunks_stale or self._behind()) and time.monotonic() >= self._look_at:
            await self._read_chunks()

    def _accept(self, source: Source, record: Live) -> None:
        try:
            if source == "event":
                self._accept_event(record.recorded())
            else:
                self._accept_chunk(_stored_form(_chunk_decoder.decode(record.value)))
        except (WireError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning("a live record could not be read", task_id=self._task_id, source=source, error=str(error))

    def _accept_event(self, recorded: Recorded) -> None:
        expected = self._last_version() + 1
        if recorded.version > expected or len(self._events) >= HELD_AT_MOST:
            self._events_stale = True
        elif recorded.version == expected:
            self._hold(recorded)

    def _accept_chunk(self, chunk: Chunk) -> None:
        last = self._last_seq()
        if chunk.seq <= last:
            return
        if not self._chunks_full() and not self._chunks_stale and self._follows(chunk.seq, last):
            self._chunks.append(chunk)
            self._held_bytes += len(chunk.body)
        else:
            self._wanted_seq = max(self._wanted_seq, chunk.seq)

    def _follows(self, seq: int, last: int) -> bool:
        if seq == last + 1:
            return True
        if seq % OUTPUT_SEQ_SPAN != 1:
            return False
        first = attempt_of_seq(last) if last else 1
        return all(self._ends.get(each, last + 1) <= last for each in range(first, attempt_of_seq(seq)))

    def _hold(self, recorded: Recorded) -> None:
        self._events.append(recorded)
        if isinstance(recorded.event, OutputStarted):
            # A first piece that came before the subscription is looked for until it is in the table.
            self._wanted_seq = max(self._wanted_seq, (recorded.event.attempt - 1) * OUTPUT_SEQ_SPAN + 1)
        attempt, output = _end_of_attempt(recorded)
        if output is not None:
            self._ends[attempt] = output.last_seq

    async def _read_events(self) -> None:
        found = await self._store.events(self._task_id, after=self._last_version(), limit=PAGE)
        for recorded in found:
            self._hold(recorded)
        self._events_stale = len(found) == PAGE

    async def _read_chunks(self) -> None:
        if self._chunks_full():
            self._look_at = time.monotonic() + _LAST_LOOK_S
            return
        if not self._may_have_output():
            self._chunks_stale = False
            return
        found = await self._store.chunks(self._task_id, after=self._last_seq(), limit=PAGE)
        self._chunks.extend(found)
        self._held_bytes += sum(len(chunk.body) for chunk in found)
        self._chunks_stale = bool(found)  # a page may end early, by its bytes
        self._looks = 0 if found else self._looks + 1
        self._look_at = time.monotonic() + (
            0.0 if self._chunks_stale else min(_LAST_LOOK_S, _FIRST_LOOK_S * 1.6 ** min(self._looks, 12))
        )

    def _due(self) -> Iterator[Recorded | Chunk]:
        """What may be shown now, in order. Whoever takes an item has it: the position moves with it."""
        while not self.ended:
            if self._chunks and self._may_show(self._chunks[0]):
                chunk = self._chunks.popleft()
                self._held_bytes -= len(chunk.body)
                if chunk.seq > self.seq:
                    self.seq = chunk.seq
                    yield chunk
            elif self._events and self._output_is_shown(self._events[0]):
                recorded = self._events.popleft()
                self.version = recorded.version
                self._note_start(recorded)
                if isinstance(recorded.event, TERMINAL_EVENTS):
                    self.end = recorded
                yield recorded
            else:
                return

    def _may_show(self, chunk: Chunk) -> bool:
        ending = _end_of_attempt(self._events[0])[0] if self._events else 0
        return attempt_of_seq(chunk.seq) <= max(self._started, ending)

    def _output_is_shown(self, recorded: Recorded) -> bool:
        needed = _needed_seq(recorded)
        if needed <= max(self.seq, self._retired_seq):
            self._held_since = None
            return True
        now = time.monotonic()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < HOLD_LIMIT_S:
            self._wanted_seq = max(self._wanted_seq, needed)
            return False
        _log.error(
            "output is missing, the end is shown without it", task_id=self._task_id, seq=self.seq, last_seq=needed
        )
        self._held_since = None
        return True

    def _may_have_output(self) -> bool:
        """Before its first attempt a task has none: then no look into the table is needed."""
        return (
            self._started > 0
            or self._wanted_seq > 0
            or any(isinstance(recorded.event, AttemptStarted) for recorded in self._events)
        )

    def _chunks_full(self) -> bool:
        return len(self._chunks) >= HELD_AT_MOST or self._held_bytes >= HELD_BYTES_AT_MOST

    def _behind(self) -> bool:
        """Output is known to be there that is neither shown nor held."""
        return max(self._last_seq(), self._retired_seq) < self._wanted_seq

    def _more_at_once(self) -> bool:
        """The store has more, and there is room for it: go on without waiting for live records."""
        events = self._events_stale and len(self._events) < HELD_AT_MOST
        return events or (self._chunks_stale and not self._chunks_full())

    def _next_look(self, settle: list[float], quiet_until: float) -> float:
        times = [quiet_until, *settle[-1:]]
        if self._behind() or self._chunks_stale:
            times.append(self._look_at)
        return min(times)

    def _last_version(self) -> int:
        return self._events[-1].version if self._events else self.version

    def _last_seq(self) -> int:
        return self._chunks[-1].seq if self._chunks else self.seq

    async def _find_end_before(self) -> None:
        """A reader that comes back after the end gets no more; one with a version that never was, what is new."""
        if not self.version:
            return
        found = await self._store.events(self._task_id, after=max(0, self.version - LOOK_BACK), up_to=self.version)
        self._note_end(found)
        for recorded in found:
            self._note_start(recorded)
        if not found:
            self.version = await self._newest_version()

    async def _newest_version(self) -> int:
        newest, page = 0, await self._store.events(self._task_id, limit=PAGE)
        while page:
            newest = page[-1].version
            self._note_end(page)
            page = await self._store.events(self._task_id, after=newest, limit=PAGE)
        return newest

    def _note_start(self, recorded: Recorded) -> None:
        if isinstance(recorded.event, AttemptStarted):
            self._started = max(self._started, recorded.event.attempt)

    def _note_end(self, history: list[Recorded]) -> None:
        for recorded in history:
            if isinstance(recorded.event, TERMINAL_EVENTS):
                self.end = recorded
            elif isinstance(recorded.event, TaskRetried):
                self.end = None


def _end_of_attempt(recorded: Recorded) -> tuple[int, OutputSummary | None]:
    event: Any = recorded.event
    output = getattr(event, "output", None)  # the end of a workflow has one too, of any kind
    return (event.attempt, output) if isinstance(output, OutputSummary) else (0, None)


def _needed_seq(recorded: Recorded) -> int:
    output = _end_of_attempt(recorded)[1]
    return 0 if output is None else output.last_seq


def _stored_form(chunk: OutputChunk) -> Chunk:
    body = chunk.data or chunk.text.encode()
    return Chunk(chunk.seq, chunk.attempt, chunk.stream, chunk.at, not chunk.data, body)
