"""A task's output as nodelink's events: each JSON object is two of its shapes at once, so that either client reads it.

``event_response`` is the documented shape; ``agentId``, ``taskId``, ``status``, ``isFinal``, ``cancelled`` and
``shellExecute`` or ``taskCancel`` are what its TypeScript clients read. The output comes first, whole and in order; the
last event says how the task ended. Ids are those of the task's other streams, so any of them resumes.
"""

from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from services.gateway.feed import Feed
from services.gateway.frames import Kept, frame_json
from services.gateway.nodelink.words import milliseconds, status_word
from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.views.outputs.query import Chunk

HEARTBEAT: Final = b": heartbeat\n"
"""One line: at an empty one some readers hand out an event, though nothing came for it."""

NO_EXIT_CODE: Final = 1
"""Where no process told one: it could not be started, or was stopped by its agent."""

ENDS: Final[dict[type[e.Event], tuple[str, str]]] = {
    e.TaskCompleted: ("completed", "SUCCESS"),
    e.TaskFailed: ("failed", "FAILURE"),
    e.TaskTimedOut: ("timed_out", "FAILURE"),
    e.TaskCancelled: ("cancelled", "FAILURE"),
}
"""Our state and the documented shape's status, by how a task ends."""

_TEXT: Final = "the text"
_PLACE: Final = b'"the text"'
"""Where the text goes in an event's JSON; no id looks like it."""

_CANCELLED: Final = "task cancelled"
_STDERR: Final = frozenset({"stderr", "log"})


async def frames(
    task_id: str, agent_id: str, feed: Feed, kept: Kept, told: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """Frames until the task has ended; the first at once, so that the reader knows that it is heard.

    ``told`` gets the version of the end before the reader does, so that the read that follows can wait for it.
    """
    yield b": task %s\n" % task_id.encode()
    async with aclosing(feed.items()) as items:
        async for item in items:
            if item is None:
                yield HEARTBEAT
            elif isinstance(item, Recorded):
                if isinstance(item.event, e.AttemptStarted):
                    agent_id = item.event.executor_id
                elif isinstance(item.event, e.TERMINAL_EVENTS):
                    told(item.version)
            else:
                # The agent is part of what is kept: a reader that resumes may know of it what another does not yet.
                body = kept.made((task_id, item.seq, agent_id), partial(of_chunk, task_id, agent_id, item))
                yield _frame(f"{feed.version}-{item.seq}", body)
    if feed.end is not None:
        yield _frame(f"{feed.end.version}-{feed.seq}", frame_json(of_end(task_id, agent_id, feed.end, feed.seq)))


def of_chunk(task_id: str, agent_id: str, chunk: Chunk) -> bytes:
    """A piece of output. What is not text has its bytes in ``base64``, and what can be shown of it as output.

    The text stands in it twice, and is encoded once: of much output this is the most of a stream's work.
    """
    text = chunk.body.decode(errors="replace")
    kind = "stderr" if chunk.stream in _STDERR else "stdout"
    data = {
        "output": _TEXT,
        "type": kind,
        "timestamp": milliseconds(chunk.at),
        "sequence": chunk.seq,
        "is_final": False,
        "exit_code": 0,
        **({} if chunk.is_text else {"base64": b64encode(chunk.body).decode()}),
    }
    event = {
        **_both(task_id, agent_id, "IN_PROGRESS", "running", data),
        "shellExecute": {"stdout": "", "stderr": "", kind: _TEXT, "exitCode": 0},
    }
    return frame_json(text).join(frame_json(event).split(_PLACE))


def of_end(task_id: str, agent_id: str, end: Recorded, last_seq: int) -> dict[str, Any]:
    """The last event. ``error`` says why, where it went wrong; where nothing was written it is the output too."""
    event = end.event
    state, status = ENDS[type(event)]
    error = _error_of(event)
    code = exit_code_of(event)
    # A process that could not be started has left no word of its own.
    told = error if code is None and not last_seq and isinstance(event, e.TaskFailed) else ""
    data = {
        "output": told,
        "type": "stderr" if told else "stdout",
        "timestamp": milliseconds(end.meta.at),
        "sequence": last_seq + 1,
        "is_final": True,
        "exit_code": NO_EXIT_CODE if code is None else code,
    }
    body = _both(task_id, agent_id, status, state, data)
    if isinstance(event, e.TaskCancelled):
        body |= {"cancelled": True, "taskCancel": {"message": event.reason or _CANCELLED}}
    else:
        body["shellExecute"] = {"stdout": "", "stderr": told, "exitCode": data["exit_code"]}
    return body | ({"error": error} if error else {})


def exit_code_of(event: Any) -> int | None:
    """The exit code of the last attempt, None where no process told one."""
    if isinstance(event, e.TaskCompleted):
        return 0 if event.exit_code is None else event.exit_code
    if isinstance(event, e.TaskCancelled):
        return event.exit_code
    found = event.error.details.get("exit_code") if isinstance(event, e.TaskFailed) else None
    return found if isinstance(found, int) else None


def _error_of(event: Any) -> str:
    if isinstance(event, e.TaskFailed):
        return event.error.message
    if isinstance(event, e.TaskTimedOut):
        return f"the time limit of {event.limit_s:g} s was reached"
    return ""


def _both(task_id: str, agent_id: str, status: str, state: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_response": {"event_ref": task_id, "status": status, "result": {"data": data}},
        "agentId": agent_id,
        "taskId": task_id,
        "status": status_word(state),
        "isFinal": data["is_final"],
        "cancelled": False,
    }


def _frame(frame_id: str, body: bytes) -> bytes:
    return b"id: %s\nevent: response\ndata: %s\n\n" % (frame_id.encode(), body)
