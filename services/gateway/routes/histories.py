"""A task's past: events, timeline, output, attempts, and why it does not run."""

from base64 import b64encode
from datetime import datetime
from typing import Any, Final

from litestar import get
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import UNSET, Struct, UnsetType

from services.gateway.answers import json_answer, text_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import BadRequest, Gone, NotFound
from services.gateway.queries import AsOfQuery, EventsQuery, OutputQuery, TimelineQuery, read_query
from services.gateway.read import moment_of
from services.gateway.shapes import Usage, usage_of
from taskloom.domain.scheduling.why import Explanation
from taskloom.domain.values import ErrorInfo, OutputSummary, ResourceUse
from taskloom.views.attempts.fold import Attempt, attempts
from taskloom.views.outputs.query import Chunk
from taskloom.views.timelines.entries import Entry, timeline
from taskloom.views.timelines.stream import StreamEvent

TASK: Final = "/api/v1/tasks/{task_id:str}"
_STREAMS: Final = frozenset({"stdout", "stderr", "message", "log"})


class EventList(Struct, frozen=True):
    """``count`` is the number of events in this page."""

    events: list[StreamEvent]
    count: int


class TimelineStats(Struct, frozen=True):
    total: int
    mode: str


class TimelineOut(Struct, frozen=True):
    workflow_id: str
    events: list[Entry]
    stats: TimelineStats


class ResourceUsage(Struct, frozen=True):
    """What an attempt used up: seconds of CPU, tokens, money."""

    cpu_s: float
    input_tokens: int
    output_tokens: int
    cost_usd: float
    model: str


class Execution(Struct, frozen=True, kw_only=True):
    """An attempt at a task. ``peak_resource_usage`` is of its process tree; all usages are empty until it ended."""

    attempt: int
    status: str
    executor_id: str
    queued_at: datetime | None
    assigned_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    exit_code: int | None
    error: ErrorInfo | None
    progress: float | None
    output: OutputSummary
    resource_usage: ResourceUsage
    usage: Usage
    peak_resource_usage: ResourceUse


class Executions(Struct, frozen=True):
    task_id: str
    executions: list[Execution]
    count: int


class OutputChunkOut(Struct, frozen=True):
    """A piece of output: ``text``, or ``base64`` where it is not UTF-8."""

    seq: int
    attempt: int
    stream: str
    at: datetime
    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET


class Output(Struct, frozen=True):
    """``next``: what to send as ``after`` for more. ``complete``: this and what came before is all there will be."""

    chunks: list[OutputChunkOut]
    next: int
    complete: bool


def _chunk_out(chunk: Chunk) -> OutputChunkOut:
    if chunk.is_text:
        return OutputChunkOut(
            chunk.seq, chunk.attempt, chunk.stream, chunk.at, text=chunk.body.decode(errors="replace")
        )
    return OutputChunkOut(chunk.seq, chunk.attempt, chunk.stream, chunk.at, base64=b64encode(chunk.body).decode())


def _streams(text: str) -> frozenset[str]:
    streams = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := streams - _STREAMS:
        raise BadRequest(f"{', '.join(sorted(unknown))}: known are {', '.join(sorted(_STREAMS))}", field="stream")
    return streams


@get(
    f"{TASK}/output",
    opt=documented(
        Doc(
            summary="What a task wrote",
            tag="History",
            details="format=text gives the bytes as written; X-Taskloom-Next and X-Taskloom-Complete say how to go on.",
            query=OutputQuery,
            answers={200: Answered("One page of chunks", Output)},
            errors=(400, 404, 410),
        )
    ),
)
async def get_output(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway, caller = gateway_of(request), caller_in(request)
    query = read_query(pairs_of(request), OutputQuery)
    streams = _streams(query.stream)
    await gateway.reader.row(caller, checked_id(task_id))
    page = await gateway.reader.views.output(
        caller.tenant_id, task_id, after=query.after, limit=query.limit, streams=streams
    )
    if page is None:
        raise NotFound("Task not found", task_id=task_id)
    if page.retired_at is not None and not page.chunks and query.after < page.retired_seq:
        raise Gone(f"the output was retired at {page.retired_at.isoformat()}", task_id=task_id)
    headers = gateway.lag.header()
    if query.format == "text":
        headers += [("X-Taskloom-Next", str(page.next)), ("X-Taskloom-Complete", str(page.complete).lower())]
        return text_answer(b"".join(chunk.body for chunk in page.chunks), headers=headers)
    return json_answer(Output([_chunk_out(chunk) for chunk in page.chunks], page.next, page.complete), headers=headers)


@get(
    f"{TASK}/why",
    opt=documented(
        Doc(
            summary="Which gates hold a task that does not run, since when, and who holds them",
            tag="Control",
            answers={200: Answered("The gates; none when it runs or has ended", Explanation)},
            errors=(400, 404, 503),
        )
    ),
)
async def get_why(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    reply = await gateway.controller.explain(checked_id(task_id), origin_of(request, gateway))
    answer: dict[str, Any] = {"state": reply.state, "gates": [], "expected_start": None, **reply.data}
    return json_answer(answer, headers=[("X-Taskloom-Version", str(reply.version))])


@get(
    f"{TASK}/events",
    opt=documented(
        Doc(
            summary="A task's events, oldest first",
            tag="History",
            details="seq rises by 1 from 1. After the end follow WORKFLOW_COMPLETED (of a query) and STREAM_END.",
            query=EventsQuery,
            answers={200: Answered("One page", EventList)},
            errors=(400, 404),
        )
    ),
)
async def get_events(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), EventsQuery)
    events = await gateway.reader.events_page(
        caller_in(request), checked_id(task_id), limit=query.limit, offset=query.offset, moment=moment_of(query.as_of)
    )
    return json_answer(EventList(events, len(events)), headers=gateway.lag.header())


@get(
    f"{TASK}/timeline",
    opt=documented(
        Doc(
            summary="A task's history as lines for people",
            tag="History",
            details="summary folds an attempt into one line with its duration; full shows everything. Always inline.",
            query=TimelineQuery,
            answers={200: Answered("The timeline", TimelineOut)},
            errors=(400, 404),
        )
    ),
)
async def get_timeline(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), TimelineQuery)
    history = await gateway.reader.history(caller_in(request), checked_id(task_id), moment_of(query.as_of))
    found = timeline(history, query.mode, include_payloads=query.include_payloads)
    body = TimelineOut(task_id, found.entries, TimelineStats(len(found.entries), found.mode))
    headers = [("X-Taskloom-Version", str(history[-1].version)), *gateway.lag.header()]
    return json_answer(body, headers=headers)


def _execution(attempt: Attempt) -> Execution:
    used = attempt.usage
    return Execution(
        attempt=attempt.attempt,
        status=attempt.status,
        executor_id=attempt.executor_id,
        queued_at=attempt.queued_at,
        assigned_at=attempt.assigned_at,
        started_at=attempt.started_at,
        completed_at=attempt.completed_at,
        exit_code=attempt.exit_code,
        error=attempt.error,
        progress=attempt.progress,
        output=attempt.output,
        resource_usage=ResourceUsage(
            attempt.resources.cpu_s, used.input_tokens, used.output_tokens, used.cost_usd, used.model
        ),
        usage=usage_of(used),
        peak_resource_usage=attempt.resources,
    )


@get(
    f"{TASK}/executions",
    opt=documented(
        Doc(
            summary="The attempts at a task",
            tag="History",
            query=AsOfQuery,
            answers={200: Answered("Attempts, in order", Executions)},
            errors=(400, 404),
        )
    ),
)
async def get_executions(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), AsOfQuery)
    history = await gateway.reader.history(caller_in(request), checked_id(task_id), moment_of(query.as_of))
    found = [_execution(attempt) for attempt in attempts(history)]
    return json_answer(Executions(task_id, found, len(found)), headers=gateway.lag.header())


HANDLERS: Final = [get_events, get_timeline, get_output, get_executions, get_why]
