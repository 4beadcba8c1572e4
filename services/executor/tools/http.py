"""The way to an MCP server over streamable HTTP, with a bound on what it may send."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from services.executor.tools.stdio import MAX_MESSAGE_BYTES

UNSENT: Final = -32090
"""Code of the error that a request gets here when there was no connection to send it over."""


def transport(url: str, headers: Mapping[str, str], timeout_s: float) -> AbstractAsyncContextManager[Any]:
    """The two streams that ``mcp.Client`` wants. No proxy and no credentials of the executor's environment are used."""
    return _opened(url, headers, timeout_s)


@asynccontextmanager
async def _opened(url: str, headers: Mapping[str, str], timeout_s: float) -> AsyncIterator[Any]:
    import httpx2  # with the SDK: both take long to import
    from mcp.client.streamable_http import streamable_http_client

    limits = httpx2.Timeout(timeout_s, read=None)  # each call has a limit of its own
    way = _bounded(httpx2.AsyncHTTPTransport(trust_env=False))
    async with (
        httpx2.AsyncClient(headers=dict(headers), timeout=limits, transport=way, trust_env=False) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as streams,
    ):
        yield streams


def _bounded(inner: Any) -> Any:
    import httpx2

    class Bounded(httpx2.AsyncBaseTransport):
        """Cuts off an answer of one piece that is too long; events of a stream are bounded one by one. What cannot be
        sent is answered here, so that it is known not to have been, and other calls go on."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                response: httpx2.Response = await inner.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                told = {"code": UNSENT, "message": f"cannot connect: {error or type(error).__name__}"}
                return httpx2.Response(503, json={"jsonrpc": "2.0", "id": None, "error": told})
            if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                response.stream = Cut(response.stream)
            return response

        async def aclose(self) -> None:
            await inner.aclose()

    class Cut(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = MAX_MESSAGE_BYTES
            async for piece in self._stream:
                left -= len(piece)
                if left < 0:
                    raise httpx2.StreamError(f"the answer has more than {MAX_MESSAGE_BYTES} bytes")
                yield piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Bounded()
