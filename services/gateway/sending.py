"""Sends a stream's frames to one reader, over HTTP or a WebSocket, and cuts all of them when the gateway drains.

A slow reader holds back only its own stream: ``send`` waits while its socket's buffer is full.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final

from litestar.types import Receive, Scope, Send

from services.gateway.limits import Limits
from services.gateway.problems import Unavailable
from taskloom import telemetry
from taskloom.errors import TaskloomError

Frames = AsyncGenerator[bytes, None]
Headers = Sequence[tuple[bytes, bytes]]

GOING_AWAY: Final = 1012
"""The WebSocket's word for: come back, here or elsewhere."""

FAULT: Final = 1011
ENDED: Final = 1000
REFUSED: Final = 1008

_log = telemetry.get_logger(__name__)
SSE_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class StreamCut(TaskloomError):
    """The stream was cut on purpose: readers come back with the id of the last frame they have."""


class NotAllowedAnyMore(StreamCut):
    """The key or token that opened the stream is not good any more."""


class OpenStreams:
    """Those under way, each a task that can be cut, with the key or token that opened it, "" for none."""

    def __init__(self) -> None:
        self._sending: dict[asyncio.Task[None], str] = {}
        self._refused: set[asyncio.Task[None]] = set()
        self.closing = False

    def cut_all(self) -> None:
        """Cuts every stream; those that come later are refused."""
        self.closing = True
        for sending in self._sending:
            sending.cancel()

    def credentials(self) -> set[str]:
        return set(filter(None, self._sending.values()))

    def cut_those_of(self, credential: str) -> None:
        for sending in [each for each, by in self._sending.items() if by == credential]:
            self._refused.add(sending)
            sending.cancel()

    async def until_over(self, sending: Coroutine[Any, Any, None], scope: Any, receive: Receive, gone: str) -> bool:
        """Runs ``sending`` until it ends; False when the reader went first, which the message ``gone`` tells.

        Raises:
            StreamCut: the gateway drains, or (``NotAllowedAnyMore``) the reader's key is not good any more.
            Exception: that of ``sending``.
        """
        mine: asyncio.Task[None] = asyncio.create_task(sending)
        left = asyncio.create_task(_until(receive, gone))
        self._sending[mine] = str(scope.get("state", {}).get("credential", ""))
        if self.closing:
            mine.cancel()
        try:
            await asyncio.wait({mine, left}, return_when=asyncio.FIRST_COMPLETED)
            went = left.done() and not mine.done()
        finally:
            for task in (mine, left):
                task.cancel()
            await asyncio.gather(mine, left, return_exceptions=True)
            del self._sending[mine]
            refused = mine in self._refused
            self._refused.discard(mine)
        if mine.cancelled():
            if refused:
                raise NotAllowedAnyMore
            if self.closing:
                raise StreamCut("the gateway stops; come back with the last id")
            return False
        if (fault := mine.exception()) is not None:
            raise fault
        return not went


class SseResponse:
    """Sends frames as the body of an answer until they end, the reader goes, or the gateway drains. What is cut is not
    finished: the connection breaks off, so that readers know that there is more."""

    def __init__(self, frames: Frames, limits: Limits, streams: OpenStreams, headers: Headers = ()) -> None:
        self._frames = frames
        self._limits = limits
        self._streams = streams
        self._headers = [*SSE_HEADERS, *headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._limits.stream():
            _refuse_when_closing(self._streams)
            await send({"type": "http.response.start", "status": 200, "headers": list(self._headers)})
            try:
                await self._streams.until_over(self._send_all(send), scope, receive, "http.disconnect")
            except StreamCut:
                raise
            except Exception as fault:
                _log.warning("stream cut by a fault", error=repr(fault))
                raise StreamCut(str(fault)) from fault

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class WsResponse:
    """Sends frames as text messages: closes with 1000 after the last one, 1012 when the gateway drains, 1008 when the
    key is not good any more, 1011 after a fault. What the reader says is not read, beyond finding out that it went."""

    def __init__(self, frames: Frames, limits: Limits, streams: OpenStreams) -> None:
        self._frames = frames
        self._limits = limits
        self._streams = streams

    async def __call__(self, scope: Any, receive: Receive, send: Callable[[Any], Awaitable[None]]) -> None:
        with self._limits.stream():
            _refuse_when_closing(self._streams)
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            try:
                if await self._streams.until_over(self._send_all(send), scope, receive, "websocket.disconnect"):
                    await send({"type": "websocket.close", "code": ENDED, "reason": "the stream has ended"})
            except NotAllowedAnyMore as cut:
                await send({"type": "websocket.close", "code": REFUSED, "reason": str(cut)})
            except StreamCut:
                await send({"type": "websocket.close", "code": GOING_AWAY, "reason": "come back with the last id"})
            except Exception as fault:  # noqa: BLE001, whatever it was, the reader is told to come back
                _log.warning("stream cut by a fault", error=repr(fault))
                await send({"type": "websocket.close", "code": FAULT, "reason": "come back with the last id"})

    async def _send_all(self, send: Callable[[Any], Awaitable[None]]) -> None:
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                await send({"type": "websocket.send", "text": frame.decode(), "bytes": None})


def _refuse_when_closing(streams: OpenStreams) -> None:
    if streams.closing:
        raise Unavailable("the gateway stops; come back with the last id", retry_after_s=1)


async def _until(receive: Receive, kind: str) -> None:
    while (await receive())["type"] != kind:
        continue
