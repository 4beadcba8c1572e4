"""Answers as small ASGI callables: Litestar sends what a handler returns as it is, with no copy in between."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar.types import Receive, Scope, Send

Headers = Sequence[tuple[str, str]]

_encoder = msgspec.json.Encoder()
_JSON: Final = (b"content-type", b"application/json")
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class Answer:
    """A whole answer: status, body and headers."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [*self.headers, (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def json_answer(value: Any, *, status: int = 200, headers: Headers = ()) -> Answer:
    """``value`` as JSON; structs leave out fields at their defaults only where their class says so."""
    return Answer(status, _encoder.encode(value), [_JSON, *_encoded(headers)])


def text_answer(body: bytes, *, content_type: str = "", headers: Headers = ()) -> Answer:
    kind = (b"content-type", content_type.encode()) if content_type else _TEXT
    return Answer(200, body, [kind, *_encoded(headers)])


def redirect(location: str) -> Answer:
    return Answer(307, b"", [(b"location", location.encode())])


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
