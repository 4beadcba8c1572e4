"""The stream of many tasks: a session's, or all of a tenant's that match a filter. It has no end.

It tells events, not output. An id is the reader's place in each shard's log, so one can go on after any event ever.
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
from services.gateway.places import Places
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.views.timelines.stream import StreamEvent, after_end, stream_event

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
    what: str,
    feed: ManyFeed,
    wanted: Wanted,
    told: Callable[[str, int], None],
    named: Callable[[Places], str],
    framing: Framing,
) -> AsyncGenerator[bytes, None]:
    """``told`` gets a task's id and the version of its end before the reader does; ``named`` makes ids of places."""
    yield framing.opening(what, named(feed.places))
    async with aclosing(feed.items()) as items:
        async for item in items:
            if item is None:
                yield framing.ping(named(feed.places))
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
                    yield framing.event(event, named(feed.places))


def _events(recorded: Recorded) -> Iterator[StreamEvent]:
    """The event, and behind an answer that the task is completed. No STREAM_END: this stream goes on."""
    yield stream_event(recorded)
    for event in after_end(recorded):
        if event.type != "STREAM_END":
            yield event
