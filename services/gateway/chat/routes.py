"""The chat orchestrator's routes, at its own paths."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Final

import msgspec
from litestar import delete, get, post
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import Answer, json_answer
from services.gateway.chat.frames import HEADERS, frames
from services.gateway.chat.shapes import (
    ChatAnswer,
    ChatError,
    Orchestrated,
    OrchestrationCancelled,
    OrchestrationStatus,
)
from services.gateway.chat.wishes import OrchestrateGoal, SendMessage
from services.gateway.context import AnyRequest, caller_in, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import Problem, decoded
from services.gateway.queries import read_query
from services.gateway.submit import Accepted

TAG: Final = "Chat"
ORCHESTRATE: Final = "/api/chat/orchestrate"
_ID: Final = "0b6c1d1e-5c2f-4a53-9f0a-6f4f4d5e7a11"
_GOAL: Final = "Analyze app.log and write a report"
_goals = msgspec.json.Decoder(OrchestrateGoal)
_messages = msgspec.json.Decoder(SendMessage)
_STEP: Final = {"id": "step-1", "description": "Analyze app.log", "type": "tool-call", "status": "pending"}
_CREATED: Final = {
    "taskId": _ID,
    "status": "queued",
    "strategy": {"steps": [{**_STEP, "estimatedDuration": 30000}], "totalSteps": 1},
    "estimatedDuration": 30,
    "message": "Task created with 1 step",
}
_STATUS: Final = {
    "taskId": _ID,
    "status": "running",
    "goal": _GOAL,
    "progress": 50,
    "currentStep": 1,
    "totalSteps": 2,
    "steps": [
        {
            "index": "0",
            "description": "Analyze app.log",
            "status": "completed",
            "type": "tool-call",
            "startedAt": "2026-11-21T18:00:01.000Z",
            "completedAt": "2026-11-21T18:00:03.250Z",
            "duration": "2250",
        }
    ],
    "latestTraces": [
        {"type": "tool-call", "message": "Called tool: logs.errors", "timestamp": "2026-11-21T18:00:03.000Z"}
    ],
    "context": {"summary": "", "findings": {"Analyze app.log": "5 errors"}, "toolResults": [], "messageHistory": []},
    "lastError": None,
    "createdAt": "2026-11-21T18:00:00.000Z",
    "updatedAt": "2026-11-21T18:00:03.250Z",
    "completedAt": None,
}
_FORBIDDEN: Final = Answered(
    "The thread or task is another user's", ChatError, {"error": "this thread is another user's"}
)
_NOT_FOUND: Final = Answered("Unknown, or another tenant's", ChatError, {"error": "Task not found"})
_INVALID: Final = Answered(
    "Something is missing or wrong", ChatError, {"error": "Object missing required field `goal`"}
)
_FINAL: Final = Answered("It has ended", ChatError, {"error": "Cannot cancel task with status: completed"})
_TOLD: Final = {
    400: ("Something is missing or wrong", "Object missing required field `message`"),
    403: ("The thread is another user's", "this thread is another user's"),
    409: ("The Idempotency-Key belongs to another message", "the Idempotency-Key 'k' belongs to task …"),
    429: ("Too much waits, or a quota is used up; Retry-After says when to come back", "the read side is behind"),
    503: ("There is no answer, or none yet; the task tells more", "the answer is not there yet; it is task …"),
}
_PLAIN: Final = {
    status: Answered(description, ChatError, {"error": text}, also={"text/plain": text})
    for status, (description, text) in _TOLD.items()
}
_ANSWER: Final = {
    "id": "msg-456",
    "role": "assistant",
    "content": "I'll work on this as a long-running task.",
    "taskId": _ID,
    "orchestrated": True,
}
_KEY: Final = {"Idempotency-Key": "The same key gives the same task, at any time and on any gateway"}
_STREAM: Final = (
    'data: {"type":"start","messageId":"msg-…"}\n\ndata: {"type":"start-step"}\n\n'
    'data: {"type":"text-start","id":"text-1"}\n\ndata: {"type":"text-delta","id":"text-1","delta":"Paris"}\n\n'
    'data: {"type":"text-end","id":"text-1"}\n\ndata: {"type":"finish-step"}\n\ndata: {"type":"finish"}\n\n'
    "data: [DONE]\n\n"
)


class OrchestrationQuery(Struct, frozen=True, rename="camel"):
    task_id: Annotated[str, Meta(min_length=1, description="The task's id")]


def _task_of(request: AnyRequest) -> str:
    return read_query(pairs_of(request), OrchestrationQuery).task_id


def _names(accepted: Accepted) -> list[tuple[str, str]]:
    return [("X-Workflow-ID", accepted.task_id), ("X-Session-ID", accepted.session_id)]


@post(
    ORCHESTRATE,
    opt=documented(
        Doc(
            summary="Begin a goal",
            tag=TAG,
            details="Answered with its plan, once that is made; after 30 seconds without one. A thread is a session; "
            "an unknown one is made and titled with the goal. Without allowedMcpServers, allowedAppDefaultToolkit and "
            "mentions the goal has no tools.",
            body=OrchestrateGoal,
            examples={
                "one": {
                    "goal": _GOAL,
                    "threadId": "thread-123",
                    "allowedMcpServers": {"logs": {"tools": ["errors"]}},
                    "chatModel": {"provider": "anthropic", "model": "claude-3-5-sonnet-20241022"},
                }
            },
            headers=_KEY,
            answers={
                200: Answered("Begun", Orchestrated, _CREATED),
                400: _INVALID,
                403: _FORBIDDEN,
            },
            errors=(413, 429, 503),
        )
    ),
)
async def orchestrate(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    gateway.limits.admit_submission()
    wish = decoded(_goals.decode, await request.body())
    created, accepted = await gateway.chat.orchestrate(wish, origin_of(request, gateway))
    return json_answer(created, headers=_names(accepted))


@get(
    ORCHESTRATE,
    opt=documented(
        Doc(
            summary="How far a goal is",
            tag=TAG,
            details="progress is rounded down, currentStep is the number of steps that ended, latestTraces are the "
            "newest ten. status is pending, running, paused, completed or failed.",
            query=OrchestrationQuery,
            answers={
                200: Answered("The goal", OrchestrationStatus, _STATUS),
                403: _FORBIDDEN,
                404: _NOT_FOUND,
            },
            errors=(400,),
        )
    ),
)
async def orchestration(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    found = await gateway.chat.status(caller_in(request), _task_of(request))
    return json_answer(found, headers=gateway.lag.header())


@delete(
    ORCHESTRATE,
    status_code=200,
    opt=documented(
        Doc(
            summary="Cancel a goal",
            tag=TAG,
            details="What runs of it is stopped. From then on its status is failed, with lastError.",
            query=OrchestrationQuery,
            answers={
                200: Answered(
                    "Cancelled",
                    OrchestrationCancelled,
                    {"taskId": _ID, "status": "cancelled", "message": "Task cancelled by user"},
                ),
                400: _FINAL,
                403: _FORBIDDEN,
                404: _NOT_FOUND,
            },
            errors=(503,),
        )
    ),
)
async def cancel_orchestration(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.chat.cancel(_task_of(request), origin_of(request, gateway)))


Handler = Callable[[AnyRequest], Awaitable[ASGIApp]]


def _told_in_plain_text(handler: Handler) -> Handler:
    """The source's chat route says what is wrong in plain text."""

    @wraps(handler)
    async def answer(request: AnyRequest) -> ASGIApp:
        try:
            return await handler(request)
        except Problem as problem:
            headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
            plain = (b"content-type", b"text/plain; charset=utf-8")
            return Answer(problem.status, str(problem).encode(), [plain, *headers])

    return answer


@post(
    "/api/chat",
    status_code=200,
    opt=documented(
        Doc(
            summary="Say something in a thread",
            tag=TAG,
            details="A message of over 20 characters that is work for a goal becomes one, and the answer says so in "
            "JSON. Any other is answered as a stream of UI messages, or in JSON where Accept asks for that alone. What "
            "is wrong is told in plain text.",
            body=SendMessage,
            examples={
                "one": {
                    "id": "thread-123",
                    "message": {
                        "id": "msg-456",
                        "role": "user",
                        "parts": [{"type": "text", "text": "What is the capital of France?"}],
                    },
                }
            },
            headers={**_KEY, "Accept": "application/json: the whole answer, when it is there"},
            answers={
                200: Answered(
                    "A goal that was begun, or the answer: in JSON, or in frames of a UI message stream",
                    ChatAnswer,
                    _ANSWER,
                    also={"text/event-stream": _STREAM},
                ),
                **_PLAIN,
            },
        )
    ),
)
@_told_in_plain_text
async def chat(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    gateway.limits.admit_submission()
    wish = decoded(_messages.decode, await request.body())
    answer = await gateway.chat.chat(wish, origin_of(request, gateway))
    if isinstance(answer, ChatAnswer):
        return json_answer(answer.body(), headers=[("X-Workflow-ID", answer.task_id), ("X-Session-ID", wish.id)])
    names = _names(answer.accepted)
    if wants_json(request.headers.get("accept", "")):
        return json_answer((await gateway.chat.whole(answer)).body(), headers=names)
    headers = [*HEADERS, *((name.lower().encode(), value.encode()) for name, value in names)]
    return gateway.streams.sse_of(frames(answer, gateway.chat.text_of, gateway.chat.answer_s), headers)


def wants_json(accept: str) -> bool:
    """Whether JSON is asked for, and no stream."""
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    return "application/json" in kinds and not kinds & {"text/event-stream", "*/*"}


HANDLERS: Final = [orchestrate, orchestration, cancel_orchestration, chat]
