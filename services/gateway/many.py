"""The stream of many tasks: a session's, or all of a tenant's that match a filter. It has no end.

It tells events, not output. An id is the reader's position in each shard's log, so one can go on after any event ever.
A task's events come in their order; those of different tasks about as they happened.
"""

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import datetime
from typing import Final

from msgspec import Struct

from services.gateway.frames import Framing, Wanted
from services.gateway.log import Entry, EventLog, Facts, Part
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.views.timelines.stream import StreamEvent, after_end, stream_event

_BEGINNING: Final = "0"
_MAX_NUMBER: Final = 2**62

STATUS_BY: Final[dict[type[e.Event], str]] = {
    e.TaskSubmitted: "QUEUED",
    e.TaskQueued: "QUEUED",
    e.AttemptStarted: "RUNNING",
    e.PauseRequested: "PAUSED",
    e.TaskCompleted: "COMPLETED",
    e.TaskFailed: "FAILED",
    e.TaskTimedOut: "TIMEOUT",
    e.TaskCancelled: "CANCELLED",
}
"""The status that an event brings a task into."""


class Choice(Struct, frozen=True, kw_only=True):
    """Which events: all that is given must hold. All but ``statuses`` is as submitted, whatever changed later;
    ``statuses`` keeps the events that bring a task into one of them."""

    kind: str | None = None
    queue: str | None = None
    session_id: str | None = None
    tag: str | None = None
    statuses: tuple[str, ...] = ()

    @property
    def asks_for_facts(self) -> bool:
        return (self.kind, self.queue, self.session_id, self.tag) != (None, None, None, None)

    def takes(self, recorded: Recorded) -> bool:
        return not self.statuses or STATUS_BY.get(type(recorded.event)) in self.statuses

    def fits(self, facts: Facts | None) -> bool:
        return facts is not None and (
            self.kind in (None, facts.kind)
            and self.queue in (None, facts.queue)
            and self.session_id in (None, facts.session_id)
            and (self.tag is None or self.tag in facts.tags)
        )


class Places(Struct):
    """Where a reader is: by shard, the position up to which it has everything, and how many frames of the next event,
    which is then at ``positions[shard] + 1``, it has."""

    positions: list[int]
    shown: list[int]

    def text(self) -> str:
        """``p0:12,p1:9``; ``p0:12-1`` when of the event at 12 the first frame alone was shown."""
        return ",".join(
            f"p{shard}:{position + 1}-{shown}" if shown else f"p{shard}:{position}"
            for shard, (position, shown) in enumerate(zip(self.positions, self.shown, strict=True))
        )


def at_positions(positions: list[int]) -> Places:
    return Places(list(positions), [0] * len(positions))


def read_places(text: str, shards: int) -> Places | None:
    """What ``Places.text`` wrote, or 0 for the very beginning; None when the text is neither."""
    if text.strip() == _BEGINNING:
        return at_positions([0] * shards)
    places = at_positions([0] * shards)
    parts = text.strip().split(",")
    if len(parts) != shards:
        return None
    for shard, part in enumerate(parts):
        name, _, place = part.partition(":")
        position, dash, shown = place.partition("-")
        numbers = (position, shown) if dash else (position,)
        if name != f"p{shard}" or not all(each.isascii() and each.isdigit() for each in numbers):
            return None
        places.positions[shard] = min(int(position[:19]), _MAX_NUMBER) - bool(dash)
        places.shown[shard] = min(int(shown[:9] or 0), _MAX_NUMBER)
    return None if min(places.positions) < 0 else places


class ManyFeed:
    """Events behind ``places``, which moves along; None when there was nothing for ``quiet_s``."""

    def __init__(self, log: EventLog, tenant_id: str, choice: Choice, places: Places, *, quiet_s: float) -> None:
        self._log = log
        self._tenant = tenant_id.encode()
        self._choice = choice
        self._quiet_s = quiet_s
        self._waiting: list[deque[Entry]] = [deque() for _ in range(log.shards)]
        self._reach = list(places.positions)
        self._more = [True] * log.shards
        self.places = places

    async def items(self) -> AsyncGenerator[tuple[int, Entry] | None, None]:
        """Shard and event. ``passed`` has to be called once it was shown. Raises StoreUnavailable."""
        async with self._log.following():
            quiet_until = time.monotonic() + self._quiet_s
            while True:
                await self._fill()
                if (shard := self._oldest()) is not None:
                    yield shard, self._waiting[shard][0]
                    quiet_until = time.monotonic() + self._quiet_s
                    continue
                if (now := time.monotonic()) >= quiet_until:
                    yield None
                    quiet_until = now + self._quiet_s
                elif not any(self._more):
                    await self._log.news(self._tenant, self.places.positions, quiet_until - now)

    def passed(self, shard: int) -> None:
        """The oldest event of the shard was shown."""
        waiting = self._waiting[shard]
        position = waiting.popleft().position
        self.places.positions[shard] = position if waiting else self._reach[shard]
        self.places.shown[shard] = 0

    async def _fill(self) -> None:
        for shard, waiting in enumerate(self._waiting):
            if not waiting:
                part = await self._log.part(shard, self._reach[shard], self._tenant)
                waiting.extend(await self._chosen(part))
                self._reach[shard], self._more[shard] = part.up_to, part.more
                if not waiting:
                    self.places.positions[shard] = part.up_to
                    self.places.shown[shard] = 0

    async def _chosen(self, part: Part) -> list[Entry]:
        kept = [
            entry
            for entry in part.entries
            if not is_entity_id(entry.recorded.task_id) and self._choice.takes(entry.recorded)
        ]
        if not self._choice.asks_for_facts or not kept:
            return kept
        facts = await self._log.facts(kept)
        return [entry for entry in kept if self._choice.fits(facts.get(entry.recorded.task_id))]

    def _oldest(self) -> int | None:
        found: int | None = None
        first: datetime | None = None
        for shard, waiting in enumerate(self._waiting):
            if waiting and (first is None or waiting[0].recorded.meta.at < first):
                found, first = shard, waiting[0].recorded.meta.at
        return found


async def many_frames(
    what: str, feed: ManyFeed, wanted: Wanted, told: Callable[[str, int], None], framing: Framing
) -> AsyncGenerator[bytes, None]:
    """``told`` gets a task's id and the version of its end before the reader does."""
    yield framing.opening(what, feed.places.text())
    async with aclosing(feed.items()) as items:
        async for item in items:
            if item is None:
                yield framing.ping(feed.places.text())
                continue
            shard, entry = item
            if isinstance(entry.recorded.event, e.TERMINAL_EVENTS):
                told(entry.recorded.task_id, entry.recorded.version)
            # A resumed reader may have the first frames of its next event already.
            skip = feed.places.shown[shard] if entry.position == feed.places.positions[shard] + 1 else 0
            frames = list(_events(entry.recorded))
            for place, event in enumerate(frames, start=1):
                if place == len(frames):
                    feed.passed(shard)
                else:
                    feed.places.positions[shard] = entry.position - 1
                    feed.places.shown[shard] = place
                if place > skip and event.type in wanted:
                    yield framing.event(event, feed.places.text())


def _events(recorded: Recorded) -> Iterator[StreamEvent]:
    """The event, and behind an answer that the task is completed. No STREAM_END: this stream goes on."""
    yield stream_event(recorded)
    for event in after_end(recorded):
        if event.type != "STREAM_END":
            yield event
