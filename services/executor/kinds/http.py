"""``http``: one request."""

import asyncio
from typing import Any, Final

import httpx
import msgspec

from taskloom.kinds import Context, Handler, InvalidInput, Outcome, TaskError
from taskloom.kinds.inputs import HttpInput, read

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
RESULT_CHARS: Final = 16 * 1024
CONNECTIONS: Final = 100
_RETRYABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class Http(Handler):
    """The response is ``{status, headers, url, body}`` with the body as JSON where it is, the result its text (16 KiB).

    Failures: ``http_connect``, ``http_timeout``, ``http_broken`` and ``http_status`` 408, 425, 429 and 5xx are
    retryable; other statuses, a bad URL, too many redirects and a body over 8 MiB are not.
    """

    kind = "http"

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def run(self, ctx: Context) -> Outcome:
        wished = read(HttpInput, ctx.input)
        if wished.json is not msgspec.UNSET and wished.body is not None:
            raise InvalidInput("input.body: send either json or body, not both", "input.body")
        headers = await ctx.reveal(wished.headers)
        try:
            async with asyncio.timeout(wished.timeout_s), self._stream(wished, headers) as response:
                body = await _body(response)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise TaskError("http_timeout", f"{wished.url} did not answer within {wished.timeout_s:g} s") from error
        except httpx.ConnectError as error:
            raise TaskError("http_connect", f"cannot connect to {wished.url}: {error}") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects, httpx.DecodingError) as error:
            raise TaskError("http_invalid", f"{wished.url}: {error}", retryable=False) from error
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise TaskError("http_broken", f"the exchange with {wished.url} broke off: {reason}") from error
        return _judge(wished, response, body)

    def _stream(self, wished: HttpInput, headers: dict[str, str]) -> Any:
        if self._client is None:
            self._client = httpx.AsyncClient(limits=httpx.Limits(max_connections=CONNECTIONS))
        json: dict[str, Any] = {} if wished.json is msgspec.UNSET else {"json": wished.json}
        return self._client.stream(
            wished.method,
            wished.url,
            headers=headers,
            content=wished.body,
            timeout=wished.timeout_s,
            follow_redirects=wished.follow_redirects,
            **json,
        )


async def _body(response: httpx.Response) -> bytes:
    kept = bytearray()
    async for piece in response.aiter_bytes():
        kept += piece
        if len(kept) > MAX_BODY_BYTES:
            message = f"the body of {response.url} is over {MAX_BODY_BYTES} bytes; fetch it with a shell task"
            raise TaskError("http_too_large", message, retryable=False)
    return bytes(kept)


def _judge(wished: HttpInput, response: httpx.Response, body: bytes) -> Outcome:
    status, expected = response.status_code, wished.expect_status
    text = body.decode(response.charset_encoding or "utf-8", "replace")
    if expected is None:
        good = 200 <= status < 400
    else:
        good = status in (expected if isinstance(expected, list) else [expected])
    if not good:
        raise TaskError(
            "http_status",
            f"{wished.method} {wished.url} answered {status}",
            retryable=status in _RETRYABLE or status > 504,
            details={"status": status, "body": text[:2_000]},
        )
    answer = {
        "status": status,
        "url": str(response.url),
        "headers": dict(response.headers),
        "body": _value(response, body, text),
    }
    return Outcome(result=text[:RESULT_CHARS], response=answer)


def _value(response: httpx.Response, body: bytes, text: str) -> Any:
    if "json" in response.headers.get("content-type", ""):
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return text
    return text
