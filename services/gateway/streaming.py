"""Streams over HTTP: from a feed to server-sent events, one bounded task a reader, cut when the gateway drains."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from litestar.types import Receive, Scope, Send

from services.gateway.feed import Feed, Position
from services.gateway.frames import END, PING, Wanted, chunk_frame, event_frame, opening
from services.gateway.limits import Limits
from services.gateway.live import LiveHub
from services.gateway.problems import BadRequest
from services.gateway.readside import Histories, Views
from taskloom import telemetry
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TERMINAL_EVENTS
from taskloom.errors import TaskloomError
from taskloom.views.timelines.stream import after_end, stream_event

_log = telemetry.get_logger(__name__)

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_MAX_NUMBER: Final = 2**62


class StreamCut(TaskloomError):
    """The stream was cut on purpose: readers come back with the id of the last frame they have."""


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
        self, histories: Histories, views: Views, hub: LiveHub, limits: Limits, *, ping_interval_s: float
    ) -> None:
        self._histories = histories
        self._views = views
        self._hub = hub
        self._limits = limits
        self._ping_interval_s = ping_interval_s
        self._closing = asyncio.Event()

    async def close(self) -> None:
        """Cuts every stream, and refuses new ones."""
        self._closing.set()
        await self._hub.close()

    def sse(self, task_id: str, after: Position, types: str, told: Callable[[int], None]) -> "SseResponse":
        """The answer that streams ``task_id``; the caller has checked whose it is.

        ``told`` gets the version of the end before the reader does, so that the read that follows can wait for it.
        """
        feed = Feed(task_id, self._histories, self._views, self._hub, after=after, quiet_s=self._ping_interval_s)
        return SseResponse(_frames(task_id, feed, after, Wanted(types), told), self._limits, self._closing)


async def _frames(
    task_id: str, feed: Feed, after: Position, wanted: Wanted, told: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    yield opening(task_id)
    async with aclosing(feed.items()) as items:
        async for item in items:
            if item is None:
                yield PING
            elif isinstance(item, Recorded):
                if isinstance(item.event, TERMINAL_EVENTS):
                    told(item.version)
                if frame := event_frame(stream_event(item), feed.seq, wanted):
                    yield frame
            elif frame := chunk_frame(task_id, item, feed.version, wanted):
                yield frame
    if feed.end is not None:
        for place, event in enumerate(after_end(feed.end), start=1):
            # A reader that had the end already is told again that there is no more.
            if (feed.end.version, place) > (after.version, after.behind_end) or event.type == END:
                yield event_frame(event, feed.seq, wanted, place)


class SseResponse:
    """Sends frames until they end, the reader goes, or the gateway drains. A slow reader holds only its own feed back:
    ``send`` waits while the socket's buffer is full, and the feed meanwhile drops what it can read again."""

    def __init__(self, frames: AsyncGenerator[bytes, None], limits: Limits, closing: asyncio.Event) -> None:
        self._frames = frames
        self._limits = limits
        self._closing = closing

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        with self._limits.stream():
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            sending = asyncio.ensure_future(self._send_all(send))
            gone = asyncio.ensure_future(_disconnected(receive))
            closing = asyncio.ensure_future(self._closing.wait())
            try:
                await asyncio.wait({sending, gone, closing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, gone, closing):
                    if not task.done():
                        task.cancel()
                await asyncio.gather(sending, gone, closing, return_exceptions=True)
            if sending.cancelled():
                if not gone.cancelled():
                    return
                raise StreamCut("the gateway stops; come back with the last id")
            if (fault := sending.exception()) is not None:
                _log.warning("stream cut by a fault", error=repr(fault))
                raise StreamCut(str(fault)) from fault

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
