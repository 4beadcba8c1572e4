"""The event logs of all shards as streams of many tasks read them: one reader at the end for all of them.

While such a stream is open, one loop reads what is new in each shard's log, once for all of them, and keeps the newest
in memory, by tenant. A stream that is behind that reads the store itself, in bounded parts. So nothing is queued for a
stream: a slow one holds its position, and nothing else. Positions are in commit order and nothing is ever added below
the newest, so a position says exactly what its reader has.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from msgspec import Struct

from services.gateway.readside import Histories
from taskloom import telemetry
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TaskSubmitted
from taskloom.store.errors import StoreUnavailable
from taskloom.wire.recorded import unseal

PAGE: Final = 500
"""Events that one read gives at most."""

SPAN: Final = 50_000
"""Positions that one read of the store looks at, at most."""

KEPT_EVENTS: Final = 10_000
KEPT_BYTES: Final = 16 * 1024 * 1024
"""What is kept of each shard's newest events; older ones are read from the store again."""

KEPT_FACTS: Final = 50_000
"""Tasks whose submission is remembered, for filters; that of others is read from the store."""

POLL_S: Final = 0.05
IDLE_S: Final = 10.0
_AFTER_FAULT_S: Final = 1.0
_TENANT_OPEN: Final = b'"tenant_id":"'

_log = telemetry.get_logger(__name__)


class Entry:
    """An event at its place in a log, decoded at most once, and only when somebody wants it."""

    __slots__ = ("_recorded", "body", "position")

    def __init__(self, position: int, body: bytes) -> None:
        self.position = position
        self.body = body
        self._recorded: Recorded | None = None

    @property
    def recorded(self) -> Recorded:
        if self._recorded is None:
            self._recorded = unseal(self.body)
        return self._recorded

    @property
    def tenant(self) -> bytes:
        """The envelope stands at the front, and its ids hold no quotes: the first tenant is the event's."""
        return self.body.partition(_TENANT_OPEN)[2].partition(b'"')[0]


class Part(Struct):
    """A tenant's events behind a position, and how far this looked; ``more``: there is something behind that."""

    entries: list[Entry]
    up_to: int
    more: bool


class Facts(Struct, frozen=True):
    """What a task was submitted with, as far as filters ask for it."""

    kind: str
    queue: str
    session_id: str
    tags: tuple[str, ...]


class Newest:
    """One shard's newest events: all with a position above ``low``, up to ``high``."""

    def __init__(self, most_events: int, most_bytes: int) -> None:
        self._most_events, self._most_bytes = most_events, most_bytes
        self.reset(0)

    def reset(self, position: int) -> None:
        self.low = self.high = position
        self._all: deque[Entry] = deque()
        self._of: dict[bytes, deque[Entry]] = {}
        self._bytes = 0

    def add(self, rows: Iterable[tuple[int, bytes]]) -> set[bytes]:
        """The tenants that have something new."""
        tenants = set()
        for position, body in rows:
            entry = Entry(position, body)
            tenant = entry.tenant
            self._all.append(entry)
            self._of.setdefault(tenant, deque()).append(entry)
            self._bytes += len(body)
            self.high = position
            tenants.add(tenant)
        while len(self._all) > self._most_events or self._bytes > self._most_bytes:
            self._drop_oldest()
        return tenants

    def part(self, after: int, tenant: bytes) -> Part:
        """Only for an ``after`` that is not below ``low``."""
        found: deque[Entry] = deque()
        for entry in reversed(self._of.get(tenant, ())):
            if entry.position <= after:
                break
            found.appendleft(entry)
        entries = list(found)[:PAGE]
        more = len(found) > PAGE
        return Part(entries, entries[-1].position if more else max(after, self.high), more)

    def _drop_oldest(self) -> None:
        entry = self._all.popleft()
        tenant = entry.tenant
        self._of[tenant].popleft()
        if not self._of[tenant]:
            del self._of[tenant]
        self._bytes -= len(entry.body)
        self.low = entry.position


class EventLog:
    """Shared by all streams of many tasks. Positions are lists with one of each shard."""

    def __init__(
        self,
        histories: Histories,
        *,
        most_events: int = KEPT_EVENTS,
        most_bytes: int = KEPT_BYTES,
        poll_s: float = POLL_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._histories = histories
        self._newest = [Newest(most_events, most_bytes) for _ in range(histories.shards)]
        self._poll_s, self._idle_s = poll_s, idle_s
        self._readers = 0
        self._running: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._news: dict[bytes, asyncio.Event] = {}
        self._facts: OrderedDict[str, Facts] = OrderedDict()

    @property
    def shards(self) -> int:
        return len(self._newest)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """While this is open, ``part`` and ``news`` work. Raises StoreUnavailable."""
        self._readers += 1
        try:
            async with self._starting:
                if self._running is None or self._running.done():
                    for newest, position in zip(self._newest, await self.ends(), strict=True):
                        newest.reset(position)
                    self._running = asyncio.create_task(self._read(), name="the logs' newest events")
            yield
        finally:
            self._readers -= 1

    async def close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def ends(self) -> list[int]:
        """Positions behind all that there is. Raises StoreUnavailable."""
        return [await self._histories.log_end(shard) for shard in range(self.shards)]

    async def since(self, at: datetime) -> list[int]:
        """Positions before the first events of that time; near it, where an orchestrator's clock was set back."""
        return [await self._before(shard, at) for shard in range(self.shards)]

    async def part(self, shard: int, after: int, tenant: bytes) -> Part:
        """What the tenant has behind ``after``, with up to 500 events of others' between. Raises StoreUnavailable."""
        newest = self._newest[shard]
        if after >= newest.low:
            return newest.part(after, tenant)
        up_to = min(after + SPAN, newest.high)
        needle = _TENANT_OPEN + tenant + b'"'
        rows = await self._histories.log(shard, after, up_to, limit=PAGE, holding=needle)
        # The bytes may stand in an event's data too.
        entries = [entry for entry in (Entry(*row) for row in rows) if entry.tenant == tenant]
        return Part(entries, rows[-1][0] if len(rows) == PAGE else up_to, more=True)

    async def news(self, tenant: bytes, positions: list[int], within_s: float) -> None:
        """Returns when the tenant may have events behind these positions, or the time is over.

        Raises:
            StoreUnavailable: nobody looks for news any more, since something failed.
        """
        if self._running is None or self._running.done():
            raise StoreUnavailable("the logs are not read any more")
        if any(newest.high > position for newest, position in zip(self._newest, positions, strict=True)):
            return
        try:
            async with asyncio.timeout(within_s):
                await self._news.setdefault(tenant, asyncio.Event()).wait()
        except TimeoutError:
            return

    async def facts(self, entries: Iterable[Entry]) -> dict[str, Facts]:
        """Those of the tasks of these events, by id. Raises StoreUnavailable."""
        found: dict[str, Facts] = {}
        missing: set[str] = set()
        for entry in entries:
            recorded = entry.recorded
            if isinstance(recorded.event, TaskSubmitted):
                self._note(recorded)
            known = self._facts.get(recorded.task_id)
            if known is None:
                missing.add(recorded.task_id)
            else:
                found[recorded.task_id] = known
        for recorded in await self._histories.firsts(sorted(missing)) if missing else ():
            if (noted := self._note(recorded)) is not None:
                found[recorded.task_id] = noted
        return found

    def _note(self, recorded: Recorded) -> Facts | None:
        event = recorded.event
        if not isinstance(event, TaskSubmitted):
            return None
        spec = event.spec
        facts = self._facts[recorded.task_id] = Facts(spec.kind, spec.queue, spec.session_id, spec.tags)
        while len(self._facts) > KEPT_FACTS:
            self._facts.popitem(last=False)
        return facts

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        idle_since = clock()
        while self._readers or clock() - idle_since < self._idle_s:
            if self._readers:
                idle_since = clock()
            try:
                moved = [await self._read_shard(shard) for shard in range(self.shards)]
            except StoreUnavailable as error:
                _log.warning("the logs cannot be read; streams go on when they can", error=str(error))
                await asyncio.sleep(_AFTER_FAULT_S)
            else:
                if not any(moved):
                    await asyncio.sleep(self._poll_s)
        self._news.clear()

    async def _read_shard(self, shard: int) -> bool:
        newest = self._newest[shard]
        rows = await self._histories.log(shard, newest.high, limit=PAGE)
        for tenant in newest.add(rows):
            if (waiting := self._news.pop(tenant, None)) is not None:
                waiting.set()
        return bool(rows)

    async def _before(self, shard: int, at: datetime) -> int:
        low, high = 0, await self._histories.log_end(shard)
        while low < high:
            middle = (low + high) // 2
            found = await self._histories.log(shard, middle, limit=1)
            if found and unseal(found[0][1]).meta.at < at:
                low = found[0][0]
            else:
                high = middle
        return low
