"""Live streams of a task's events and output, as server-sent events."""

from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from litestar import WebSocket, get, websocket
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.answers import Answer, json_answer, redirect
from services.gateway.context import AnyConnection, AnyRequest, caller_in, checked_id, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.many import Choice
from services.gateway.openapi import Error
from services.gateway.problems import BadRequest, Problem
from services.gateway.queries import ONLY_LISTS, StreamQuery, TaskStreamQuery, read_query, read_statuses
from services.gateway.refusing import refuse_websocket
from services.gateway.security import Caller
from services.gateway.streaming import Begin, Chosen, resume_position

AnySocket = WebSocket[Any, Any, Any]

_FILTERS: Final = "session_id, kind, queue, tag and status"
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
            summary="Events as they happen: a task's with its output, a session's, or those of all tasks that fit",
            tag="Streams",
            details=(
                "Begins with the first event, or after the id in Last-Event-ID (header, or last_event_id): no window, "
                "no gap, no double. Ids are VERSION-SEQ: the last event's number and the last output chunk's. Ends "
                "with done after the task's end. A stream that is cut was not finished: come back with the last id. "
                "Without workflow_id: the events, without output, of all tasks of a session or that fit the filters, "
                "as they were submitted; it has no end. Its ids are opaque, one tenant's each (0: the beginning); a "
                "frame may have an id and no data: it tells from where to come back."
            ),
            query=StreamQuery,
            headers={"Last-Event-ID": "Resume after this id"},
            answers={
                200: Answered("Frames", example=_EXAMPLE, media_type="text/event-stream"),
                204: Answered("The reader had done, by its Last-Event-ID: no more is to come", media_type=""),
            },
            errors=(400, 404, 503),
        )
    ),
)
async def stream_sse(request: AnyRequest) -> ASGIApp:
    stream = await _chosen(request)
    return Answer(204, b"", []) if await _is_over(request) else stream.sse()


@websocket("/api/v1/stream/ws")
async def stream_ws(socket: AnySocket) -> None:
    """The same streams as messages: event objects with the internal type names."""
    try:
        answer = (await _chosen(socket)).ws()
        await answer(socket.scope, socket.receive, socket.send)
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
            answers={
                101: Answered("The WebSocket is open", media_type=""),
                426: Answered("Open a WebSocket", Error, {"error": "this is a WebSocket: ask for an upgrade"}),
            },
        )
    ),
)
async def stream_ws_without_upgrade() -> ASGIApp:
    return json_answer({"error": "this is a WebSocket: ask for an upgrade"}, status=426, headers=[_UPGRADE])


async def _chosen(request: AnyConnection) -> Chosen:
    query = read_query(pairs_of(request), StreamQuery)
    caller = caller_in(request)
    if query.workflow_id is None:
        return await _of_many(request, caller, query)
    _refuse_more_than_a_task(query)
    gateway = gateway_of(request)
    after = resume_position(request.headers.get("last-event-id", ""), query.last_event_id)
    await gateway.reader.check_owner(caller, checked_id(query.workflow_id, "workflow_id"))
    told = partial(gateway.reader.promise, caller, query.workflow_id)
    return gateway.streams.of_task(query.workflow_id, after, query.types, told)


async def _is_over(request: AnyRequest) -> bool:
    """Whether a browser's EventSource comes back although it had the whole stream: it does so after every stream's
    end, and only 204 stops it. Others, who send ``last_event_id`` too, are told ``done`` again."""
    query = read_query(pairs_of(request), StreamQuery)
    header = request.headers.get("last-event-id", "")
    if not header or query.last_event_id or query.workflow_id is None:
        return False
    after = resume_position(header, "")
    return await gateway_of(request).streams.nothing_left(query.workflow_id, after, query.types)


async def _of_many(request: AnyConnection, caller: Caller, query: StreamQuery) -> Chosen:
    for name, _ in pairs_of(request):
        if name in ONLY_LISTS or name.startswith("metadata."):
            raise BadRequest(f"streams cannot be filtered by {name}; {_FILTERS} are possible", field=name)
    choice = Choice(
        kind=query.kind,
        queue=query.queue,
        session_id=query.session_id,
        tag=query.tag,
        statuses=read_statuses(query.status),
    )
    if choice == Choice() and not query.all:
        raise BadRequest(
            f"name a task by workflow_id, choose tasks by {_FILTERS}, or send all=true", field="workflow_id"
        )
    gateway = gateway_of(request)
    begin = Begin(request.headers.get("last-event-id", ""), query.last_event_id, query.since)
    what = "tasks" if query.session_id is None else f"session {query.session_id}"
    told = partial(gateway.reader.promise, caller)
    return await gateway.streams.of_many(what, caller.tenant_id, choice, begin, query.types, told)


def _refuse_more_than_a_task(query: StreamQuery) -> None:
    for name in ("session_id", "kind", "queue", "tag", "status", "since", "all"):
        if getattr(query, name):
            raise BadRequest(f"workflow_id names one task: leave out {name}", field=name)


@get(
    "/api/v1/tasks/{task_id:str}/stream",
    opt=documented(
        Doc(
            summary="Leads to the task's stream",
            tag="Streams",
            query=TaskStreamQuery,
            answers={307: Answered("Go to Location", media_type="")},
            errors=(400,),
        )
    ),
)
async def stream_of_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    query = read_query(pairs_of(request), TaskStreamQuery)
    values = {"workflow_id": checked_id(task_id), "types": query.types, "last_event_id": query.last_event_id}
    # Who could not send a header the first time cannot do so the second time.
    values |= request.scope["state"].get("query_credentials", {})
    return redirect(f"/api/v1/stream/sse?{urlencode({name: value for name, value in values.items() if value})}")


HANDLERS: Final = [stream_sse, stream_ws, stream_ws_without_upgrade, stream_of_task]
