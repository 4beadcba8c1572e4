"""An answer as the AI SDK's UI message stream (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol): server-sent events
without names, each a JSON object with a ``type``, and ``[DONE]`` at the end."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from services.gateway.chat.desk import Answering, why_ended
from services.gateway.frames import PING, frame_json
from taskloom.domain.envelope import Recorded
from taskloom.domain.task import events as e
from taskloom.views.outputs.query import Chunk

HEADERS: Final = [(b"x-vercel-ai-ui-message-stream", b"v1")]
DONE: Final = b"data: [DONE]\n\n"
STREAM: Final = "message"
"""Of a task's output the answer; logs are not part of it."""

_BROKEN_OFF: Final = (e.AttemptFailed, e.AttemptTimedOut, e.AttemptLost)


class _Texts:
    """The text parts of a message: at most one is open, and a try that broke off has one of its own."""

    def __init__(self) -> None:
        self._count = 0
        self._open = ""

    @property
    def any(self) -> bool:
        return self._count > 0

    def delta(self, text: str) -> bytes:
        opening = b""
        if not self._open:
            self._count += 1
            self._open = f"text-{self._count}"
            opening = part("text-start", id=self._open)
        return opening + part("text-delta", id=self._open, delta=text)

    def end(self) -> bytes:
        closed, self._open = self._open, ""
        return part("text-end", id=closed) if closed else b""


async def frames(
    answering: Answering, whole: Callable[[Answering], Awaitable[str]], within_s: float
) -> AsyncGenerator[bytes, None]:
    """Frames until the answer has ended, or ``within_s`` seconds are over. ``whole`` gives all of its text, where
    nothing of it was streamed."""
    give_up = time.monotonic() + within_s
    yield part("start", messageId=answering.message_id) + part("start-step")
    texts = _Texts()
    async with aclosing(answering.feed.items()) as items:
        async for item in items:
            if time.monotonic() > give_up:
                break
            if item is None:
                yield PING
            elif isinstance(item, Chunk):
                if item.stream == STREAM:
                    yield texts.delta(item.body.decode(errors="replace"))
            elif isinstance(item.event, _BROKEN_OFF) and (closed := texts.end()):
                yield closed
    end: Recorded | None = answering.feed.end
    if end is not None and isinstance(end.event, e.TaskCompleted):
        if not texts.any and (text := await whole(answering)):
            yield texts.delta(text)
        yield texts.end() + part("finish-step") + part("finish")
    elif end is not None and isinstance(end.event, e.TaskCancelled):
        yield texts.end() + part("abort")
    elif end is not None:
        yield texts.end() + part("error", errorText=why_ended(end.event))
    else:
        yield texts.end() + part("error", errorText=f"the answer is not there yet; it is task {answering.task_id}")
    yield DONE


def part(kind: str, **fields: Any) -> bytes:
    return b"data: %s\n\n" % frame_json({"type": kind, **fields})
