"""Server-sent events in Shannon's words: one frame an event, one a piece of output.

JSON is ASCII-escaped: a raw U+2028 or U+0085 in the data would cut a frame for readers that split lines as Python does.
"""

import json
from base64 import b64encode
from typing import Any, Final

from taskloom.views.outputs.query import Chunk
from taskloom.views.timelines.stream import StreamEvent

PING: Final = b": ping\n\n"
DELTA: Final = "LLM_PARTIAL"
OUTPUT: Final = "output"
END: Final = "STREAM_END"

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


class Wanted:
    """Which types a reader asked for, in either spelling; an empty text means all."""

    def __init__(self, types: str) -> None:
        names = {name.strip() for name in types.split(",") if name.strip()}
        self._types = frozenset(_INNER_NAMES.get(name, name) for name in names)

    def __contains__(self, inner_type: object) -> bool:
        return not self._types or inner_type in self._types


def opening(task_id: str) -> bytes:
    return f": workflow {task_id}\n\n".encode()


def event_frame(event: StreamEvent, seq: int, wanted: Wanted, behind_end: int = 0) -> bytes:
    """The frame of an event, empty when it is not wanted. ``seq``: of the last output sent. A virtual event has the id
    of the end with its own place ``behind_end``, since a stored event may come to have its number."""
    if event.type not in wanted:
        return b""
    frame_id = f"{event.seq - behind_end}-{seq}" + (f"-{behind_end}" if behind_end else "")
    if event.type == END:
        return f"id: {frame_id}\nevent: {SSE_NAMES[END]}\ndata: [DONE]\n\n".encode()
    return _frame(frame_id, event.type, _data_of(event, frame_id))


def chunk_frame(task_id: str, chunk: Chunk, version: int, wanted: Wanted) -> bytes:
    """A piece of output: ``thread.message.delta`` for a message, else ``output``."""
    frame_id = f"{version}-{chunk.seq}"
    common = {"workflow_id": task_id, "agent_id": "", "seq": chunk.seq, "stream_id": frame_id}
    if chunk.stream == "message":
        text = chunk.body.decode(errors="replace")
        # Shannon's SDK drops "delta" and shows "message".
        return _frame(frame_id, DELTA, {"delta": text, "message": text, **common}) if DELTA in wanted else b""
    if OUTPUT not in wanted:
        return b""
    content: dict[str, Any]
    if chunk.is_text:
        text = chunk.body.decode(errors="replace")
        content = {"text": text, "message": text}
    else:
        content = {"base64": b64encode(chunk.body).decode(), "message": ""}
    at = chunk.at.isoformat().replace("+00:00", "Z")
    data = {"type": OUTPUT, "stream": chunk.stream, **content, "attempt": chunk.attempt, "timestamp": at, **common}
    return _frame(frame_id, OUTPUT, data)


def _data_of(event: StreamEvent, frame_id: str) -> dict[str, Any]:
    common = {"workflow_id": event.workflow_id, "agent_id": event.agent_id}
    if event.type in _CONTROL:
        payload = event.payload or {}
        more: dict[str, Any] = {name: payload[name] for name in ("checkpoint", "was_paused") if name in payload}
        return {**common, "message": event.message, **more, "seq": event.seq, "stream_id": frame_id}
    if event.type == "LLM_OUTPUT":
        return {"response": event.message, "message": event.message, **common, "seq": event.seq, "stream_id": frame_id}
    at = event.timestamp.isoformat().replace("+00:00", "Z")
    whole = {"type": event.type, "message": event.message, "payload": event.payload or {}, "timestamp": at}
    return {**whole, **common, "seq": event.seq, "stream_id": frame_id}


def _frame(frame_id: str, inner_type: str, data: dict[str, Any]) -> bytes:
    name = SSE_NAMES.get(inner_type, inner_type)
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), default=str)
    return f"id: {frame_id}\nevent: {name}\ndata: {text}\n\n".encode()
