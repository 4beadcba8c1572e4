"""Frames of a task's event stream, and when to come back after a stream was cut."""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final, TypedDict

import httpx
from httpx_sse import ServerSentEvent
from msgspec import Struct

from taskloom.client.errors import Busy

DONE: Final = "done"
PATH: Final = "/api/v1/stream/sse"
NO_MORE: Final = 204
"""The server's word to who had the whole stream."""

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0

_INNER: Final = {
    "thread.message.delta": "LLM_PARTIAL",
    "thread.message.completed": "LLM_OUTPUT",
    "error": "ERROR_OCCURRED",
    "workflow.pausing": "WORKFLOW_PAUSING",
    "workflow.paused": "WORKFLOW_PAUSED",
    "workflow.resumed": "WORKFLOW_RESUMED",
    "workflow.cancelling": "WORKFLOW_CANCELLING",
    "workflow.cancelled": "WORKFLOW_CANCELLED",
}


class StreamChoice(TypedDict, total=False):
    """Which tasks a stream of many tells of; ``all``: of all of the tenant. ``status``: words of the API, only the
    events that bring a task there. ``since``: an RFC 3339 text; else a session from its beginning, others from now."""

    session_id: str
    kind: str
    queue: str
    tag: str
    status: str
    all: bool
    since: str


class StreamItem(Struct, frozen=True):
    """An event, or a piece of output. ``id`` goes into ``last_event_id`` to go on after it; ``type`` is the event's, as
    in a task's list of events, or ``output`` or ``LLM_PARTIAL`` for what the task writes."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def task_id(self) -> str:
        return str(self.data.get("workflow_id", ""))

    @property
    def message(self) -> str:
        return str(self.data.get("message", ""))

    @property
    def is_output(self) -> bool:
        return self.type in ("output", "LLM_PARTIAL")

    @property
    def output(self) -> bytes:
        """What the task wrote, of an item that is output."""
        encoded = self.data.get("base64")
        return b64decode(encoded) if encoded else self.message.encode()

    @property
    def stream(self) -> str:
        """stdout, stderr, log or message, of an item that is output."""
        return str(self.data.get("stream", "message"))

    @property
    def payload(self) -> dict[str, Any]:
        return self.data.get("payload") or {}


def of_task(task_id: str, types: str) -> dict[str, str | int]:
    """What is asked for a task's stream."""
    # Without this type the server would not tell that the stream is at its end.
    return {"workflow_id": task_id, **({"types": f"{types},STREAM_END"} if types else {})}


def is_event(frame: ServerSentEvent) -> bool:
    """False for the empty event that httpx-sse makes of a comment (a ping) once it has seen an id."""
    return bool(frame.data)


def item_of(frame: ServerSentEvent) -> StreamItem:
    return StreamItem(frame.id, _INNER.get(frame.event, frame.event), json.loads(frame.data))


class Resume:
    """Where a stream goes on, and how long to pause before it is asked for again."""

    def __init__(self, params: Mapping[str, str | int], last_event_id: str, patience_s: float) -> None:
        """``patience_s``: how long the server may be away."""
        self.params = dict(params)
        self._last_event_id = last_event_id
        self._patience_s = patience_s
        self._pause_s = FIRST_PAUSE_S
        self._away_s = 0.0
        self._was_there = False

    @property
    def headers(self) -> dict[str, str]:
        return {"last-event-id": self._last_event_id} if self._last_event_id else {}

    def connected(self) -> None:
        """The server has answered; from now on it is worth waiting for."""
        self._was_there = True

    def heard(self, frame: ServerSentEvent) -> None:
        self._last_event_id = frame.id
        self._pause_s, self._away_s = FIRST_PAUSE_S, 0.0

    def pause_s(self, cut: Exception) -> float | None:
        """Seconds to wait before the next try; None when patience is at its end, or nobody was ever there."""
        if self._away_s >= self._patience_s or (isinstance(cut, httpx.ConnectError) and not self._was_there):
            return None
        wanted_s = cut.retry_after_s if isinstance(cut, Busy) else 0.0
        pause_s = max(self._pause_s, wanted_s)
        self._away_s += pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s
