"""The same Idempotency-Key and body get the first answer, byte for byte; another body under the key is a 409.

This keeps answers, and is no more than that: ids of tasks and of commands are derived from the key (``ids.py``), so a
request that is carried out twice, since an answer was lost, changes nothing the second time. So without PostgreSQL, and
when the table is lost, keys go on doing what they are for.
"""

import asyncio
import hashlib
import time
from contextlib import suppress
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from psycopg_pool import PoolTimeout, TooManyRequests

from services.gateway.answers import Answer
from services.gateway.first_answers import AnswerTable, Claimed, OtherBody, Stored
from services.gateway.ids import KEY_MAX_CHARS
from services.gateway.problems import Conflict, TooLarge, Unavailable
from services.gateway.scopes import is_public
from services.gateway.throttle import caller_at
from taskloom import telemetry

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""A larger answer is not kept; its request is carried out again, and answered alike."""

WAIT_S: Final = 35.0
"""Longest wait for the first request to be answered: longer than one may wait itself (``Prefer: wait``)."""

_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_FIRST_PAUSE_S: Final = 0.01
_LAST_PAUSE_S: Final = 0.25
_FORGET_EVERY_S: Final = 600.0
_OUTAGE: Final = (psycopg.Error, PoolTimeout, TooManyRequests)

_replayed = telemetry.counter("gateway_answers_replayed", "Requests answered with the first answer to their key")
_NOT_KEPT: Final = "/api/v1/secrets"
"""Putting the same once more changes nothing anyway, and of a secret not even a hash is written down."""

_log = telemetry.get_logger(__name__)


class Idempotency:
    """Wraps the routes; ``table`` None: no answers are kept."""

    def __init__(self, app: ASGIApp, table: AnswerTable | None, *, max_body_bytes: int) -> None:
        self._app = app
        self._table = table
        self._max_body_bytes = max_body_bytes
        self._in_work: dict[bytes, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key_of(scope)
        if self._table is None or not 0 < len(key) <= KEY_MAX_CHARS or scope["path"].startswith(_NOT_KEPT):
            await self._app(scope, receive, send)  # a key that is too long is refused there
        else:
            body = await self._read(receive)
            await self._once(self._table, scope, key, body, _again(body, receive), send)

    async def run(self, stopping: asyncio.Event) -> None:
        """Takes old answers out of the table, until ``stopping``."""
        if self._table is None:
            await stopping.wait()
        while self._table is not None and not stopping.is_set():
            with suppress(*_OUTAGE):
                await self._table.forget_old()
            with suppress(TimeoutError):
                async with asyncio.timeout(_FORGET_EVERY_S):
                    await stopping.wait()

    async def _once(
        self, table: AnswerTable, scope: Scope, key: str, body: bytes, receive: Receive, send: Send
    ) -> None:
        place, digest = _place(scope, key), hashlib.sha256(body).digest()
        give_up, pause_s = time.monotonic() + WAIT_S, _FIRST_PAUSE_S
        while time.monotonic() < give_up:
            if (before := self._in_work.get(place)) is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(give_up - time.monotonic()):
                        await before.wait()
                continue
            done = self._in_work[place] = asyncio.Event()
            try:
                try:
                    found = await table.claim(place, digest, uuid4())
                except _OUTAGE as error:
                    _log.warning("answered without a look at first answers", reason=str(error))
                    return await self._app(scope, receive, send)
                if isinstance(found, Claimed):
                    return await self._first(table, place, found.claim, scope, receive, send)
            finally:
                del self._in_work[place]
                done.set()
            if isinstance(found, OtherBody):
                text = f"the Idempotency-Key {key!r} was used with another body; take another key"
                raise Conflict(text, field="Idempotency-Key", success=False, message=text, idempotency_key=key)
            if isinstance(found, Stored):
                _replayed.inc()
                return await _replay(found, key)(scope, receive, send)
            await asyncio.sleep(pause_s)  # another gateway has it
            pause_s = min(_LAST_PAUSE_S, pause_s * 1.5)
        raise Unavailable(f"the first request with the Idempotency-Key {key!r} is still in work; send it again later")

    async def _first(
        self, table: AnswerTable, place: bytes, claim: UUID, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = _Kept()
        try:
            await self._app(scope, receive, answer)
        finally:
            stored = answer.stored()
            # Its client may have gone: the answer is kept all the same, for when it asks again.
            await asyncio.shield(_settle(table, place, claim, stored))
        for message in answer.messages:
            await send(message)

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body_bytes:
                raise TooLarge(f"the body has over {self._max_body_bytes} bytes, which is the most allowed")
            more = message.get("more_body", False)
        return b"".join(parts)


class _Kept:
    """Holds an answer back until it is kept. Answers with a key are whole, never streams."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    def stored(self) -> Stored | None:
        """The answer, when it is worth keeping: it succeeded, and is not too large."""
        messages: list[Any] = self.messages
        if not messages or not 200 <= messages[0]["status"] < 300 or messages[-1].get("more_body"):
            return None
        body = b"".join(message.get("body", b"") for message in messages[1:])
        if len(body) > MAX_ANSWER_BYTES:
            return None
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in messages[0]["headers"]]
        if ("cache-control", "no-store") in headers:
            return None  # it shows a key or a token, which is kept nowhere
        return Stored(messages[0]["status"], headers, body)


def _key_of(scope: Any) -> str:
    if scope["type"] != ScopeType.HTTP or scope["method"] not in _METHODS or is_public(scope["path"]):
        return ""  # whoever asks on a public route is nobody yet: the same key would be that of all
    return next((value for name, value in scope["headers"] if name == b"idempotency-key"), b"").decode("latin-1")


async def _settle(table: AnswerTable, place: bytes, claim: UUID, stored: Stored | None) -> None:
    try:
        await (table.release(place, claim) if stored is None else table.keep(place, claim, stored))
    except _OUTAGE as error:
        _log.warning("an answer could not be kept; repeating it changes nothing", reason=str(error))


def _place(scope: Any, key: str) -> bytes:
    """Whose key it is, and for what: the same key of another user, or on another route, is another one."""
    caller = caller_at(scope)
    who = (caller.tenant_id, caller.user_id, str(getattr(caller, "key_id", "")))
    asked = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
    return hashlib.sha256("\x00".join((*who, *asked, key)).encode()).digest()


def _again(body: bytes, receive: Receive) -> Receive:
    """The request's messages once more, its body in one piece."""
    told = False

    async def next_message() -> Any:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


def _replay(stored: Stored, key: str) -> Answer:
    own = ("content-length", "x-idempotency-cached", "x-idempotency-key")
    headers = [(name.encode(), value.encode("latin-1")) for name, value in stored.headers if name not in own]
    headers += [(b"x-idempotency-cached", b"true"), (b"x-idempotency-key", key.encode("latin-1"))]
    return Answer(stored.status, stored.body, headers)
