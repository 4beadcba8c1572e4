"""The streams of a gateway: of one task, or of many; from a feed to frames, resumable by the id of any of them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from msgspec import Struct

from services.gateway.feed import Feed, Position
from services.gateway.frames import END, Framing, SseFraming, Told, Wanted, WsFraming, type_of
from services.gateway.gate import Gated
from services.gateway.limits import Limits
from services.gateway.live import LiveHub
from services.gateway.log import EventLog
from services.gateway.many import Choice, ManyFeed, many_frames
from services.gateway.places import NotOpened, Places, StreamIds, at_positions
from services.gateway.problems import BadRequest
from services.gateway.readside import Histories, Views
from services.gateway.sending import Frames, Headers, OpenStreams, SseResponse, WsResponse
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TERMINAL_EVENTS
from taskloom.views.timelines.stream import after_end

_MAX_NUMBER: Final = 2**62

READS_AT_ONCE: Final = 4
"""Of all single tasks' streams, from the event store and from the views: half of a pool, by default."""

_SESSION_MARGIN: Final = timedelta(minutes=2)
"""A session's stream begins so much before the session does, for clocks that differ; one that the views do not show
begins so much before now, for the read side's lag."""


class Begin(Struct, frozen=True):
    """Where a stream of many tasks begins: after the id in the header, else that in the query, else at a time."""

    header: str = ""
    query: str = ""
    since: datetime | None = None


def read_resume_id(text: str) -> Position | None:
    """``<version>-<output seq>``, a virtual event's with its place after the end, or a version alone; None when the
    text is none of these."""
    version, *more = text.strip().split("-")
    if len(more) > 2 or not all(part.isascii() and part.isdigit() for part in (version, *filter(None, more))):
        return None
    return Position(*(min(int(part or 0), _MAX_NUMBER) for part in (version, *more)))


def resume_position(header: str, query: str) -> Position:
    """The header wins; a wrong one is ignored, since browsers send back whatever they were sent by somebody.

    Raises:
        BadRequest: the query's id is wrong.
    """
    in_query = read_resume_id(query) if query else Position()
    if in_query is None:
        raise BadRequest(
            f"{query!r} is no id of this stream: send VERSION-SEQ as received, or an event's seq", field="last_event_id"
        )
    return (read_resume_id(header) if header else None) or in_query


class Streams:
    """All open streams of this gateway."""

    def __init__(
        self,
        histories: Histories,
        views: Views,
        hub: LiveHub,
        log: EventLog,
        ids: StreamIds,
        limits: Limits,
        *,
        ping_interval_s: float,
    ) -> None:
        self._store = Gated(histories, views, READS_AT_ONCE)
        self._views = views
        self._hub = hub
        self._limits = limits
        self._ping_interval_s = ping_interval_s
        self._log = log
        self._ids = ids
        self.open = OpenStreams()
        self._as_told = Told()
        self._sse_framing = SseFraming()
        self._ws_framing = WsFraming()

    async def close(self) -> None:
        """Cuts every stream, and refuses new ones."""
        self.open.cut_all()
        await self._hub.close()
        await self._log.close()

    def of_task(self, task_id: str, after: Position, types: str, told: Callable[[int], None]) -> "Chosen":
        """The stream of ``task_id``; the caller has checked whose it is.

        ``told`` gets the version of the end before the reader does, so that the read that follows can wait for it.
        """

        def frames(framing: Framing) -> Frames:
            feed = self.feed_of(task_id, after)
            return _frames(task_id, feed, after, Wanted(types), told, framing, self._as_told)

        return Chosen(frames, self)

    async def nothing_left(self, task_id: str, after: Position, types: str) -> bool:
        """Whether a reader that comes back after ``after`` had all that it asked for, and there will be no more."""
        if not after.behind_end and not types:
            return False  # it has not had STREAM_END: that comes
        feed = Feed(task_id, self._store, self._hub, after=after, quiet_s=self._ping_interval_s)
        if not after.version or not await feed.had_end() or feed.end is None:
            return False
        virtual = enumerate(after_end(feed.end), start=1)
        left = [event for place, event in virtual if (feed.end.version, place) > (after.version, after.behind_end)]
        wanted = Wanted(types)
        return not any(event.type in wanted for event in left)

    def feed_of(self, task_id: str, after: Position) -> Feed:
        """The items of ``task_id``'s stream, for who makes frames of their own; the caller has checked whose it is."""
        return Feed(task_id, self._store, self._hub, after=after, quiet_s=self._ping_interval_s)

    def sse_of(self, frames: Frames, headers: Headers = ()) -> SseResponse:
        """Sends frames that are made already."""
        return SseResponse(frames, self._limits, self.open, headers)

    async def of_many(
        self, what: str, tenant_id: str, choice: Choice, begin: Begin, types: str, told: Callable[[str, int], None]
    ) -> "Chosen":
        """The stream of all the tenant's tasks that fit.

        Raises:
            BadRequest: the query's id is wrong, or the header's is another tenant's.
            StoreUnavailable: the logs cannot be read now.
        """
        places = await self._places(tenant_id, choice, begin)

        def frames(framing: Framing) -> Frames:
            feed = ManyFeed(self._log, tenant_id, choice, places, quiet_s=self._ping_interval_s)
            return many_frames(what, feed, Wanted(types), told, partial(self._ids.text, tenant_id), framing)

        return Chosen(frames, self)

    async def _places(self, tenant_id: str, choice: Choice, begin: Begin) -> Places:
        places = self._told_before(tenant_id, begin)
        ends = await self._log.ends()
        if places is not None:
            # A position that is not there yet is nobody's: its reader would miss what comes up to it.
            return Places(list(map(min, places.positions, ends)), places.shown)
        if begin.since is not None:
            return at_positions(await self._log.since(begin.since))
        if choice.session_id is None:
            return at_positions(ends)
        session = await self._views.session(tenant_id, choice.session_id)
        began = datetime.now(UTC) if session is None else session.created_at
        return at_positions(await self._log.since(began - _SESSION_MARGIN))

    def _told_before(self, tenant_id: str, begin: Begin) -> Places | None:
        """Where the ids that came with the request lead; the header wins, unless it is no id at all."""
        try:
            in_query = self._ids.read(tenant_id, begin.query) if begin.query else None
            if begin.query and in_query is None:
                raise NotOpened
            # One that does not open is no reason to begin somewhere else: there would be a gap.
            return (self._ids.read(tenant_id, begin.header) if begin.header else None) or in_query
        except NotOpened as error:
            raise BadRequest(
                "the id to go on behind is none of this tenant's streams of many tasks: send one as received, or 0 for "
                "the very beginning",
                field="last_event_id",
            ) from error

    def sse(self, frames: Callable[[Framing], Frames]) -> SseResponse:
        return SseResponse(frames(self._sse_framing), self._limits, self.open)

    def ws(self, frames: Callable[[Framing], Frames]) -> WsResponse:
        return WsResponse(frames(self._ws_framing), self._limits, self.open)


class Chosen:
    """A stream that can be sent in either way."""

    def __init__(self, frames: Callable[[Framing], Frames], streams: Streams) -> None:
        self._frames = frames
        self._streams = streams

    def sse(self) -> SseResponse:
        return self._streams.sse(self._frames)

    def ws(self) -> WsResponse:
        return self._streams.ws(self._frames)


async def _frames(
    task_id: str,
    feed: Feed,
    after: Position,
    wanted: Wanted,
    told: Callable[[int], None],
    framing: Framing,
    as_told: Told,
) -> AsyncGenerator[bytes, None]:
    if opening := framing.opening(f"workflow {task_id}"):
        yield opening
    async with aclosing(feed.items()) as items:
        async for item in items:
            if item is None:
                if ping := framing.ping():
                    yield ping
            elif isinstance(item, Recorded):
                if isinstance(item.event, TERMINAL_EVENTS):
                    told(item.version)
                event = as_told(item)
                if event.type in wanted:
                    yield framing.event(event, f"{event.seq}-{feed.seq}")
            elif type_of(item) in wanted:
                yield framing.chunk(task_id, item, f"{feed.version}-{item.seq}")
    if feed.end is not None:
        version = feed.end.version
        for place, event in enumerate(after_end(feed.end), start=1):
            # A reader that had the end already is told again that there is no more. A virtual event has the id of the
            # end with its own place behind it, since a stored event may come to have its number.
            is_news = (version, place) > (after.version, after.behind_end) or event.type == END
            if is_news and event.type in wanted:
                yield framing.event(event, f"{version}-{feed.seq}-{place}")
