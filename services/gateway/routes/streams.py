"""Live streams of a task's events and output, as server-sent events."""

from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from litestar import WebSocket, get, websocket
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.answers import json_answer, redirect
from services.gateway.context import AnyConnection, AnyRequest, caller_in, checked_id, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.openapi import Error
from services.gateway.problems import Problem
from services.gateway.queries import StreamQuery, TaskStreamQuery, read_query
from services.gateway.refusing import refuse_websocket
from services.gateway.streaming import Chosen, resume_position

AnySocket = WebSocket[Any, Any, Any]

_UPGRADE: Final = ("Upgrade", "websocket")
_EXAMPLE: Final = (
    ": workflow demo-1\n\n"
    'id: 4-0\nevent: AGENT_STARTED\ndata: {"type":"AGENT_STARTED","message":"...","workflow_id":"demo-1","seq":4}\n\n'
    'id: 4-1\nevent: output\ndata: {"type":"output","stream":"stdout","text":"hello\\n","attempt":1,"seq":1}\n\n'
    "id: 5-1-1\nevent: done\ndata: [DONE]\n\n"
)


@get(
    "/api/v1/stream/sse",
    opt=documented(
        Doc(
            summary="A task's events and output as they happen",
            tag="Streams",
            details=(
                "Begins with the first event, or after the id in Last-Event-ID (header, or last_event_id): no window, "
                "no gap, no double. Ids are VERSION-SEQ: the last event's number and the last output chunk's. Ends "
                "with done after the task's end. A stream that is cut was not finished: come back with the last id."
            ),
            query=StreamQuery,
            headers={"Last-Event-ID": "Resume after this id"},
            answers={200: Answered("Frames", example=_EXAMPLE, media_type="text/event-stream")},
            errors=(400, 404, 503),
        )
    ),
)
async def stream_sse(request: AnyRequest) -> ASGIApp:
    return (await _chosen(request)).sse()


@websocket("/api/v1/stream/ws")
async def stream_ws(socket: AnySocket) -> None:
    """The same streams as messages: event objects with the internal type names."""
    try:
        answer = (await _chosen(socket)).ws()
        await answer(socket.receive, socket.send)
    except Problem as problem:
        await refuse_websocket(problem, socket.send)


@get(
    "/api/v1/stream/ws",
    opt=documented(
        Doc(
            summary="The same streams over a WebSocket",
            tag="Streams",
            details=(
                "Each message is one event object as JSON, with the internal type names (STREAM_END, LLM_OUTPUT, "
                "WORKFLOW_PAUSED); stream_id is the id to resume after, in last_event_id. Closes with 1000 after "
                "STREAM_END, and with 1012 when the gateway drains: come back with the last id."
            ),
            query=StreamQuery,
            answers={426: Answered("Open a WebSocket", body=Error)},
        )
    ),
)
async def stream_ws_without_upgrade() -> ASGIApp:
    return json_answer({"error": "this is a WebSocket: ask for an upgrade"}, status=426, headers=[_UPGRADE])


async def _chosen(request: AnyConnection) -> Chosen:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), StreamQuery)
    after = resume_position(request.headers.get("last-event-id", ""), query.last_event_id)
    caller = caller_in(request)
    await gateway.reader.check_owner(caller, checked_id(query.workflow_id, "workflow_id"))
    told = partial(gateway.reader.promise, caller, query.workflow_id)
    return gateway.streams.of_task(query.workflow_id, after, query.types, told)


@get(
    "/api/v1/tasks/{task_id:str}/stream",
    opt=documented(
        Doc(
            summary="Leads to the task's stream",
            tag="Streams",
            query=TaskStreamQuery,
            answers={307: Answered("Go to Location", media_type="text/plain")},
            errors=(400,),
        )
    ),
)
async def stream_of_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    query = read_query(pairs_of(request), TaskStreamQuery)
    values = {"workflow_id": checked_id(task_id), "types": query.types, "last_event_id": query.last_event_id}
    return redirect(f"/api/v1/stream/sse?{urlencode({name: value for name, value in values.items() if value})}")


HANDLERS: Final = [stream_sse, stream_ws, stream_ws_without_upgrade, stream_of_task]
