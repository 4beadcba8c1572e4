"""A stream's reader that comes back while there is nothing to read from.

A browser's EventSource goes on after a cut and after nothing else: any status but 200 ends it for good. So who comes
back with a Last-Event-ID and would get a 503 gets a stream that is cut at once, and tries again.
"""

from collections.abc import Mapping
from typing import Any, Final

from litestar.types import Message, Send

from services.gateway.paths import is_stream
from services.gateway.sending import SSE_HEADERS, StreamCut

_UNAVAILABLE: Final = 503
_OF_THE_BODY: Final = frozenset({b"content-type", b"content-length"})


class CutInstead:
    """Sends on what it gets, except that a 503 becomes a cut stream, with ``retry`` as Retry-After had it."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        """
        Raises:
            StreamCut: instead of the 503's body.
        """
        start: Any = message
        if message["type"] != "http.response.start" or start["status"] != _UNAVAILABLE:
            await self._send(message)
            return
        retry_s = next((value for name, value in start["headers"] if name.lower() == b"retry-after"), b"1")
        kept = [(name, value) for name, value in start["headers"] if name.lower() not in _OF_THE_BODY]
        start |= {"status": 200, "headers": [*SSE_HEADERS, *kept]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": b"retry: %s000\n\n" % retry_s, "more_body": True})
        raise StreamCut("nothing can be read for this stream now; its reader comes back")


def comes_back(scope: Any, headers: Mapping[bytes, bytes]) -> bool:
    """Whether this is a reader of server-sent events that has had a part of them."""
    return is_stream(scope["path"]) and bool(headers.get(b"last-event-id"))
