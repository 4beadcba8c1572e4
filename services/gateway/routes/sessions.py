"""Sessions: they come into being by submitting tasks; here they are listed, looked at, named and removed."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from litestar import delete, get, patch
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import UNSET, Struct, UnsetType

from services.gateway.answers import Answer, json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import BadRequest, NotFound, TooLarge, decoded
from services.gateway.queries import (
    FilesQuery,
    SessionEventsQuery,
    SessionHistoryQuery,
    SessionsQuery,
    read_query,
    without_wrong,
)
from services.gateway.sessions import FileSeen, Turns, budget_of, context_of
from services.gateway.shapes import Usage, usage_of
from taskloom.artifacts import BadPath, FileEntry, FileTooLarge, NoSuchFile
from taskloom.views.sessions.query import BadCursor, Filters, Session
from taskloom.views.task_executions.row import Row

SESSIONS: Final = "/api/v1/sessions"
SESSION: Final = f"{SESSIONS}/{{session_id:str}}"
TAG: Final = "Sessions"
_ACTIVE: Final = timedelta(hours=24)


class SessionSummary(Struct, frozen=True, kw_only=True):
    """A session in the list. ``context`` holds its id and title, where Shannon's clients look for them."""

    session_id: str
    user_id: str
    title: str | UnsetType = UNSET
    context: dict[str, Any]
    task_count: int
    tokens_used: int
    token_budget: int | UnsetType = UNSET
    created_at: datetime
    updated_at: datetime
    last_activity_at: datetime | UnsetType = UNSET
    is_active: bool
    successful_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    success_rate: float | UnsetType = UNSET
    total_cost_usd: float
    average_cost_per_task: float | UnsetType = UNSET
    budget_utilization: float | UnsetType = UNSET
    budget_remaining: int | UnsetType = UNSET
    is_near_budget_limit: bool = False
    latest_task_id: str | UnsetType = UNSET
    latest_task_query: str | UnsetType = UNSET
    latest_task_status: str | UnsetType = UNSET
    is_research_session: bool = False
    first_task_mode: str | UnsetType = UNSET


class SessionList(Struct, frozen=True):
    """Newest first."""

    sessions: list[SessionSummary]
    total_count: int
    next_cursor: str | None


class SessionDetail(Struct, frozen=True, kw_only=True):
    """A session. ``context`` is its first task's, with the session's id and title."""

    session_id: str
    user_id: str
    title: str | UnsetType = UNSET
    context: dict[str, Any]
    tokens_used: int
    token_budget: int | UnsetType = UNSET
    budget_utilization: float | UnsetType = UNSET
    budget_remaining: int | UnsetType = UNSET
    is_near_budget_limit: bool = False
    cost_usd: float
    task_count: int
    created_at: datetime
    updated_at: datetime
    last_activity_at: datetime | UnsetType = UNSET
    is_research_session: bool = False
    research_strategy: str | UnsetType = UNSET


class TaskHistory(Struct, frozen=True, kw_only=True):
    """A task of a session; ``task_id`` and ``workflow_id`` are the same id, usable everywhere."""

    task_id: str
    workflow_id: str
    query: str
    status: str
    state: str
    kind: str
    mode: str
    result: str | UnsetType = UNSET
    error_message: str | UnsetType = UNSET
    total_tokens: int
    total_cost_usd: float
    usage: Usage
    duration_ms: int | UnsetType = UNSET
    agents_used: list[str]
    tools_invoked: list[str]
    started_at: datetime
    completed_at: datetime | UnsetType = UNSET
    metadata: dict[str, Any]


class SessionHistory(Struct, frozen=True):
    session_id: str
    tasks: list[TaskHistory]
    total: int
    next_cursor: str | None


class NewTitle(Struct, frozen=True, forbid_unknown_fields=True):
    """1 to 60 characters; control and zero-width ones are taken out first."""

    title: str


class Titled(Struct, frozen=True):
    session_id: str
    title: str


class Files(Struct, frozen=True):
    success: bool
    files: list[FileEntry]


def summary_of(session: Session) -> SessionSummary:
    ended = session.successful_tasks + session.failed_tasks
    return SessionSummary(
        session_id=session.session_id,
        user_id=session.user_id,
        title=session.title or UNSET,
        context=context_of(session),
        task_count=session.task_count,
        tokens_used=session.tokens_used,
        created_at=session.created_at,
        updated_at=session.updated_at,
        last_activity_at=session.last_completed_at or UNSET,
        is_active=datetime.now(UTC) - session.updated_at < _ACTIVE,
        successful_tasks=session.successful_tasks,
        failed_tasks=session.failed_tasks,
        cancelled_tasks=session.cancelled_tasks,
        success_rate=session.successful_tasks / ended if ended else UNSET,
        total_cost_usd=session.cost_usd,
        average_cost_per_task=session.cost_usd / session.task_count if session.task_count else UNSET,
        latest_task_id=session.latest_task_id or UNSET,
        latest_task_query=session.latest_task_query or UNSET,
        latest_task_status=session.latest_task_status or UNSET,
        is_research_session=bool(session.context.get("research_strategy")),
        first_task_mode=session.first_task_mode or UNSET,
        **budget_of(session),
    )


def history_of(row: Row) -> TaskHistory:
    started = row.started_at or row.created_at
    ended = row.completed_at
    return TaskHistory(
        task_id=row.task_id,
        workflow_id=row.task_id,
        query=row.query,
        status=row.status,
        state=row.state,
        kind=row.kind,
        mode=row.mode,
        result=row.result or UNSET,
        error_message=row.error or UNSET,
        total_tokens=row.total_tokens,
        total_cost_usd=row.cost_usd,
        usage=usage_of(row),
        duration_ms=UNSET if ended is None else round((ended - started).total_seconds() * 1000),
        agents_used=[row.executor_id] if row.executor_id else [],
        tools_invoked=[],
        started_at=started,
        completed_at=ended or UNSET,
        metadata=row.metadata,
    )


@get(
    SESSIONS,
    opt=documented(
        Doc(
            summary="List sessions, newest first",
            tag=TAG,
            details="A limit or offset that is no such number counts as if it were left out.",
            query=SessionsQuery,
            answers={200: Answered("One page", SessionList)},
            errors=(400,),
        )
    ),
)
async def list_sessions(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    # As in Shannon, whose clients send what their callers gave them.
    query = read_query(without_wrong(pairs_of(request), SessionsQuery, ("limit", "offset")), SessionsQuery)
    filters = Filters(
        user_id=query.user_id,
        q=query.q,
        active_since=datetime.now(UTC) - _ACTIVE if query.active else None,
        created_after=query.created_after,
        created_before=query.created_before,
    )
    try:
        page = await gateway.reader.views.sessions(
            caller_in(request).tenant_id, filters, limit=query.limit, offset=query.offset, cursor=query.cursor
        )
    except BadCursor as error:
        raise BadRequest(str(error), field="cursor") from error
    body = SessionList([summary_of(each) for each in page.sessions], page.total_count, page.next_cursor)
    return json_answer(body, headers=gateway.lag.header())


def _id(session_id: str) -> str:
    return checked_id(session_id, "session_id")


@get(
    SESSION,
    opt=documented(
        Doc(summary="A session", tag=TAG, answers={200: Answered("The session", SessionDetail)}, errors=(400, 404))
    ),
)
async def get_session(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    session = await gateway.sessions.find(caller_in(request), _id(session_id))
    strategy = session.context.get("research_strategy")
    body = SessionDetail(
        session_id=session.session_id,
        user_id=session.user_id,
        title=session.title or UNSET,
        context=context_of(session),
        tokens_used=session.tokens_used,
        cost_usd=session.cost_usd,
        task_count=session.task_count,
        created_at=session.created_at,
        updated_at=session.updated_at,
        last_activity_at=session.last_completed_at or UNSET,
        is_research_session=bool(strategy),
        research_strategy=strategy if isinstance(strategy, str) and strategy else UNSET,
        **budget_of(session),
    )
    return json_answer(body, headers=gateway.lag.header())


@get(
    f"{SESSION}/history",
    opt=documented(
        Doc(
            summary="A session's tasks, oldest first, now or as of a time",
            tag=TAG,
            details="As of a time: the tasks that were there then, each as it was, at most 100 a page.",
            query=SessionHistoryQuery,
            answers={200: Answered("Tasks", SessionHistory)},
            errors=(400, 404),
        )
    ),
)
async def get_session_history(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), SessionHistoryQuery)
    page = await gateway.sessions.history(caller_in(request), _id(session_id), query)
    body = SessionHistory(session_id, [history_of(row) for row in page.rows], page.total, page.next_cursor)
    return json_answer(body, headers=gateway.lag.header())


@get(
    f"{SESSION}/events",
    opt=documented(
        Doc(
            summary="A session's events in turns, one a task, oldest first",
            tag=TAG,
            details="At most 5,000 events in one answer; a single task's are cut there, and metadata says so.",
            query=SessionEventsQuery,
            answers={200: Answered("Turns", Turns)},
            errors=(400, 404, 413),
        )
    ),
)
async def get_session_events(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), SessionEventsQuery)
    body = await gateway.sessions.turns(caller_in(request), _id(session_id), query)
    return json_answer(body, headers=gateway.lag.header())


@patch(
    SESSION,
    opt=documented(
        Doc(
            summary="Give a session a title",
            tag=TAG,
            body=NewTitle,
            examples={"one": {"title": "Quarterly figures"}},
            answers={200: Answered("The title as it was stored", Titled)},
            errors=(400, 404, 503),
        )
    ),
)
async def title_session(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    wish = decoded(msgspec.json.Decoder(NewTitle).decode, await request.body())
    title = await gateway.sessions.title(_id(session_id), wish.title, origin_of(request, gateway))
    return json_answer(Titled(session_id, title))


@delete(
    SESSION,
    status_code=200,  # Litestar lets no handler of a 204 return anything; the answer below is one
    opt=documented(
        Doc(
            summary="Remove a session",
            tag=TAG,
            details="Its tasks go on and can be read. A task submitted under its id later begins a new session.",
            answers={204: Answered("Removed, now or before", media_type="")},
            errors=(400, 404, 503),
        )
    ),
)
async def delete_session(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    await gateway.sessions.remove(_id(session_id), "", origin_of(request, gateway))
    return Answer(204, b"", [])


def _file_problem(fault: BadPath | NoSuchFile | FileTooLarge, session_id: str) -> Exception:
    if isinstance(fault, BadPath):
        return BadRequest(str(fault), field="path")
    if isinstance(fault, FileTooLarge):
        return TooLarge(str(fault))
    return NotFound(str(fault), session_id=session_id)


@get(
    f"{SESSION}/files",
    opt=documented(
        Doc(
            summary="Files that a session's tasks left",
            tag=TAG,
            query=FilesQuery,
            answers={200: Answered("What is in the directory, at most 1,000 entries", Files)},
            errors=(400, 404),
        )
    ),
)
async def list_session_files(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), FilesQuery)
    try:
        found = await gateway.sessions.files(caller_in(request), _id(session_id), query.path)
    except (BadPath, NoSuchFile) as fault:
        raise _file_problem(fault, session_id) from fault
    return json_answer(Files(True, found))


@get(
    f"{SESSION}/files/{{path:path}}",
    opt=documented(
        Doc(
            summary="A file of a session",
            tag=TAG,
            details="Text as it is, anything else in base64; at most 16 MiB.",
            answers={200: Answered("The file", FileSeen)},
            errors=(400, 404, 413),
        )
    ),
)
async def get_session_file(request: AnyRequest, session_id: FromPath[str], path: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    try:
        found = await gateway.sessions.file(caller_in(request), _id(session_id), str(path).removeprefix("/"))
    except (BadPath, NoSuchFile, FileTooLarge) as fault:
        raise _file_problem(fault, session_id) from fault
    return json_answer(found)


HANDLERS: Final = [
    list_sessions,
    get_session,
    get_session_history,
    get_session_events,
    title_session,
    delete_session,
    list_session_files,
    get_session_file,
]
