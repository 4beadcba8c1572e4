"""What a stream sends for an event or a piece of output: server-sent events in Shannon's words, or WebSocket messages.

U+0085, U+2028 and U+2029 are escaped: raw they would cut a frame for readers that split lines as Python does.
An event's JSON is made once for all streams that send it; only the id, which stands at its end, is each stream's own.
"""

from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from taskloom.domain.envelope import Recorded
from taskloom.views.outputs.query import Chunk
from taskloom.views.timelines.stream import StreamEvent, stream_event

PING: Final = b": ping\n\n"
DELTA: Final = "LLM_PARTIAL"
OUTPUT: Final = "output"
END: Final = "STREAM_END"
WS_PING: Final = "PING"

SSE_NAMES: Final = {
    "LLM_PARTIAL": "thread.message.delta",
    "LLM_OUTPUT": "thread.message.completed",
    "ERROR_OCCURRED": "error",
    "WORKFLOW_PAUSING": "workflow.pausing",
    "WORKFLOW_PAUSED": "workflow.paused",
    "WORKFLOW_RESUMED": "workflow.resumed",
    "WORKFLOW_CANCELLING": "workflow.cancelling",
    "WORKFLOW_CANCELLED": "workflow.cancelled",
    "STREAM_END": "done",
}
_INNER_NAMES: Final = {name: inner for inner, name in SSE_NAMES.items()}
_CONTROL: Final = frozenset(name for name in SSE_NAMES if name.startswith("WORKFLOW_"))

_encoder: Final = msgspec.json.Encoder(enc_hook=str)
_LINE_ENDS: Final = tuple((letter.encode(), b"\\u%04x" % ord(letter)) for letter in "\x85\u2028\u2029")
"""As they stand in UTF-8, and escaped. No other character's bytes hold these."""

KEPT_BYTES: Final = 8 * 1024 * 1024
"""Encoded JSON that is kept for other streams that send the same; the oldest goes first."""


class Wanted:
    """Which types a reader asked for, in either spelling; an empty text means all."""

    def __init__(self, types: str) -> None:
        names = {name.strip() for name in types.split(",") if name.strip()}
        self._types = frozenset(_INNER_NAMES.get(name, name) for name in names)

    def __contains__(self, inner_type: object) -> bool:
        return not self._types or inner_type in self._types


def frame_json(value: Any) -> bytes:
    """``value`` as JSON that has none of the characters at which a line could end."""
    body = _encoder.encode(value)
    if not body.isascii():
        for raw, escaped in _LINE_ENDS:
            body = body.replace(raw, escaped)
    return body


class Kept:
    """Encoded JSON objects by key, without their closing brace; what was made longest ago is dropped when full."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._found: dict[tuple[Any, ...], bytes] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], dict[str, Any]]) -> bytes:
        return self.made(key, lambda: frame_json(make())[:-1])

    def made(self, key: tuple[Any, ...], make: Callable[[], bytes]) -> bytes:
        """As ``get``, of bytes that are made elsewhere."""
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = make()
            self._bytes += len(found)
            while self._bytes > self._most_bytes and len(self._found) > 1:
                self._bytes -= len(self._found.pop(next(iter(self._found))))
        return found


class Told:
    """Stored events as stream events, the newest of them made once for all streams; bounded as ``Kept`` is."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._found: dict[tuple[str, int], tuple[StreamEvent, int]] = {}

    def __call__(self, recorded: Recorded) -> StreamEvent:
        key = (recorded.task_id, recorded.version)
        if (found := self._found.get(key)) is not None:
            return found[0]
        event, size = stream_event(recorded), len(recorded.body)
        self._found[key] = event, size
        self._bytes += size
        while self._bytes > self._most_bytes and len(self._found) > 1:
            self._bytes -= self._found.pop(next(iter(self._found)))[1]
        return event


class Framing(Protocol):
    """One way to write frames. Empty bytes stand for nothing to send."""

    def opening(self, what: str, frame_id: str = "") -> bytes:
        """The first frame; ``frame_id`` is the place where the stream begins, where there is one to tell."""
        ...

    def ping(self, frame_id: str = "") -> bytes: ...

    def event(self, event: StreamEvent, frame_id: str) -> bytes: ...

    def chunk(self, task_id: str, chunk: Chunk, frame_id: str) -> bytes: ...


class SseFraming:
    """Server-sent events. One for all streams, so that each event is encoded once."""

    def __init__(self) -> None:
        self._kept = Kept()

    def opening(self, what: str, frame_id: str = "") -> bytes:
        return f": {what}\n\n".encode() if not frame_id else f": {what}\nid: {frame_id}\n\n".encode()

    def ping(self, frame_id: str = "") -> bytes:
        return PING if not frame_id else f": ping\nid: {frame_id}\n\n".encode()

    def event(self, event: StreamEvent, frame_id: str) -> bytes:
        if event.type == END:
            return f"id: {frame_id}\nevent: {SSE_NAMES[END]}\ndata: [DONE]\n\n".encode()
        body = self._kept.get((event.workflow_id, event.seq, event.type), lambda: _renamed(event))
        return _sse(frame_id, SSE_NAMES.get(event.type, event.type), body)

    def chunk(self, task_id: str, chunk: Chunk, frame_id: str) -> bytes:
        name = DELTA if chunk.stream == "message" else OUTPUT
        body = self._kept.get((task_id, chunk.seq), lambda: chunk_data(task_id, chunk))
        return _sse(frame_id, SSE_NAMES.get(name, name), body)


class WsFraming:
    """WebSocket messages: event objects as JSON, with the internal type names."""

    def __init__(self) -> None:
        self._kept = Kept()

    def opening(self, what: str, frame_id: str = "") -> bytes:
        return self.ping(frame_id)

    def ping(self, frame_id: str = "") -> bytes:
        """A place to resume from; the protocol's own pings tell whether the peer is there."""
        return b"" if not frame_id else b'{"type":"%s","stream_id":"%s"}' % (WS_PING.encode(), frame_id.encode())

    def event(self, event: StreamEvent, frame_id: str) -> bytes:
        body = self._kept.get((event.workflow_id, event.seq, event.type), lambda: event_object(event))
        return _with_id(body, frame_id)

    def chunk(self, task_id: str, chunk: Chunk, frame_id: str) -> bytes:
        body = self._kept.get((task_id, chunk.seq), lambda: {"type": DELTA, **chunk_data(task_id, chunk)})
        return _with_id(body, frame_id)


def event_object(event: StreamEvent) -> dict[str, Any]:
    """The event as REST shows it, without ``stream_id``."""
    return {
        "type": event.type,
        "message": event.message,
        "payload": event.payload or {},
        "timestamp": event.timestamp.isoformat().replace("+00:00", "Z"),
        "workflow_id": event.workflow_id,
        "agent_id": event.agent_id,
        "seq": event.seq,
    }


def chunk_data(task_id: str, chunk: Chunk) -> dict[str, Any]:
    """A piece of output: a message's has ``delta``, another's ``type``, ``stream`` and its text or bytes."""
    common = {"workflow_id": task_id, "agent_id": "", "seq": chunk.seq}
    if chunk.stream == "message":
        text = chunk.body.decode(errors="replace")
        # Shannon's SDK drops "delta" and shows "message".
        return {"delta": text, "message": text, **common}
    content: dict[str, Any]
    if chunk.is_text:
        text = chunk.body.decode(errors="replace")
        content = {"text": text, "message": text}
    else:
        content = {"base64": b64encode(chunk.body).decode(), "message": ""}
    at = chunk.at.isoformat().replace("+00:00", "Z")
    return {"type": OUTPUT, "stream": chunk.stream, **content, "attempt": chunk.attempt, "timestamp": at, **common}


def type_of(chunk: Chunk) -> str:
    """The internal name of a piece of output."""
    return DELTA if chunk.stream == "message" else OUTPUT


def _renamed(event: StreamEvent) -> dict[str, Any]:
    """The data of an event that has another name and shape as a server-sent event; else the event object."""
    common = {"workflow_id": event.workflow_id, "agent_id": event.agent_id}
    payload = event.payload or {}
    if event.type in _CONTROL:
        more: dict[str, Any] = {name: payload[name] for name in ("checkpoint", "was_paused") if name in payload}
        return {**common, "message": event.message, **more, "seq": event.seq}
    if event.type == "LLM_OUTPUT":
        metadata = {"metadata": {"usage": payload["usage"]}} if payload.get("usage") else {}
        return {"response": event.message, "message": event.message, **metadata, **common, "seq": event.seq}
    return event_object(event)


def _sse(frame_id: str, name: str, body: bytes) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (frame_id.encode(), name.encode(), _with_id(body, frame_id))


def _with_id(body: bytes, frame_id: str) -> bytes:
    return b'%s,"stream_id":"%s"}' % (body, frame_id.encode())
