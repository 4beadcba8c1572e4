"""Sessions: they come into being by submitting tasks; here they are listed and looked at."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from litestar import get
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import UNSET, Struct, UnsetType

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound
from services.gateway.queries import PageQuery, read_query
from taskloom.views.sessions.query import Session
from taskloom.views.task_executions.row import Row

SESSIONS: Final = "/api/v1/sessions"
_ACTIVE: Final = timedelta(hours=24)


class SessionSummary(Struct, frozen=True, kw_only=True):
    """A session in the list."""

    session_id: str
    user_id: str
    title: str | UnsetType = UNSET
    task_count: int
    tokens_used: int
    created_at: datetime
    updated_at: datetime
    last_activity_at: datetime | UnsetType = UNSET
    is_active: bool
    successful_tasks: int
    failed_tasks: int
    success_rate: float | UnsetType = UNSET
    total_cost_usd: float
    average_cost_per_task: float | UnsetType = UNSET
    is_near_budget_limit: bool = False
    latest_task_query: str | UnsetType = UNSET
    latest_task_status: str | UnsetType = UNSET
    is_research_session: bool = False
    first_task_mode: str | UnsetType = UNSET


class SessionList(Struct, frozen=True):
    sessions: list[SessionSummary]
    total_count: int


class SessionDetail(Struct, frozen=True):
    """A session. ``context`` is its first task's."""

    session_id: str
    user_id: str
    context: dict[str, Any]
    tokens_used: int
    cost_usd: float
    task_count: int
    created_at: datetime
    updated_at: datetime
    is_research_session: bool = False


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


def summary_of(session: Session) -> SessionSummary:
    ended = session.successful_tasks + session.failed_tasks
    return SessionSummary(
        session_id=session.session_id,
        user_id=session.user_id,
        task_count=session.task_count,
        tokens_used=session.tokens_used,
        created_at=session.created_at,
        updated_at=session.updated_at,
        last_activity_at=session.last_completed_at or UNSET,
        is_active=datetime.now(UTC) - session.updated_at < _ACTIVE,
        successful_tasks=session.successful_tasks,
        failed_tasks=session.failed_tasks,
        success_rate=session.successful_tasks / ended if ended else UNSET,
        total_cost_usd=session.cost_usd,
        average_cost_per_task=session.cost_usd / session.task_count if session.task_count else UNSET,
        latest_task_query=session.latest_task_query or UNSET,
        latest_task_status=session.latest_task_status or UNSET,
        first_task_mode=session.first_task_mode or UNSET,
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
            tag="Sessions",
            query=PageQuery,
            answers={200: Answered("One page", SessionList)},
            errors=(400,),
        )
    ),
)
async def list_sessions(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), PageQuery)
    tenant = caller_in(request).tenant_id
    found, total = await gateway.reader.views.sessions(tenant, limit=query.limit, offset=query.offset)
    return json_answer(SessionList([summary_of(each) for each in found], total), headers=gateway.lag.header())


async def _session(request: AnyRequest, session_id: str) -> Session:
    found = await gateway_of(request).reader.views.session(
        caller_in(request).tenant_id, checked_id(session_id, "session_id")
    )
    if found is None:
        raise NotFound("Session not found", session_id=session_id)
    return found


@get(
    f"{SESSIONS}/{{session_id:str}}",
    opt=documented(
        Doc(
            summary="A session",
            tag="Sessions",
            answers={200: Answered("The session", SessionDetail)},
            errors=(400, 404),
        )
    ),
)
async def get_session(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    session = await _session(request, session_id)
    body = SessionDetail(
        session_id=session.session_id,
        user_id=session.user_id,
        context=session.context,
        tokens_used=session.tokens_used,
        cost_usd=session.cost_usd,
        task_count=session.task_count,
        created_at=session.created_at,
        updated_at=session.updated_at,
    )
    return json_answer(body, headers=gateway_of(request).lag.header())


@get(
    f"{SESSIONS}/{{session_id:str}}/history",
    opt=documented(
        Doc(
            summary="A session's tasks, oldest first",
            tag="Sessions",
            details="At most 1,000; total says how many there are.",
            answers={200: Answered("Tasks", SessionHistory)},
            errors=(400, 404),
        )
    ),
)
async def get_session_history(request: AnyRequest, session_id: FromPath[str]) -> ASGIApp:
    gateway, session = gateway_of(request), await _session(request, session_id)
    rows = await gateway.reader.views.session_tasks(session.tenant_id, session_id)
    body = SessionHistory(session_id, [history_of(row) for row in rows], session.task_count)
    return json_answer(body, headers=gateway.lag.header())


HANDLERS: Final = [list_sessions, get_session, get_session_history]
