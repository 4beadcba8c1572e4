"""The calls about sessions and what they answer, as values."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict
from urllib.parse import quote

from msgspec import Struct

from taskloom.client.calls import Call, given

SESSIONS: Final = "/api/v1/sessions"


class SessionChoice(TypedDict, total=False):
    """Which sessions. ``q``: text in title or id; ``active``: something happened within 24 hours."""

    q: str
    user_id: str
    active: bool
    created_after: str
    created_before: str
    cursor: str
    limit: int
    offset: int


class Session(Struct, frozen=True, kw_only=True):
    """Numbers are over all tasks of the session; ``cost_usd`` in US dollars."""

    session_id: str
    user_id: str
    created_at: datetime
    updated_at: datetime
    title: str = ""
    context: dict[str, Any] = {}
    task_count: int = 0
    tokens_used: int = 0
    cost_usd: float = 0.0
    token_budget: int | None = None
    last_activity_at: datetime | None = None


class SessionSummary(Struct, frozen=True, kw_only=True):
    """A session in a list; ``latest_task_status`` is a word of the API."""

    session_id: str
    user_id: str
    created_at: datetime
    updated_at: datetime
    title: str = ""
    task_count: int = 0
    successful_tasks: int = 0
    failed_tasks: int = 0
    cancelled_tasks: int = 0
    tokens_used: int = 0
    total_cost_usd: float = 0.0
    is_active: bool = False
    latest_task_id: str = ""
    latest_task_query: str = ""
    latest_task_status: str = ""
    last_activity_at: datetime | None = None


class SessionPage(Struct, frozen=True):
    sessions: list[SessionSummary]
    total_count: int
    next_cursor: str | None = None


class SessionTask(Struct, frozen=True, kw_only=True):
    """A task of a session; ``status`` is a word of the API without prefix."""

    task_id: str
    query: str
    status: str
    state: str
    kind: str
    started_at: datetime
    result: str = ""
    error_message: str = ""
    total_tokens: int = 0
    total_cost_usd: float = 0.0
    duration_ms: int | None = None
    completed_at: datetime | None = None


class SessionHistory(Struct, frozen=True):
    session_id: str
    tasks: list[SessionTask]
    total: int
    next_cursor: str | None = None


class TurnEvent(Struct, frozen=True):
    """``payload`` is JSON as text."""

    type: str
    timestamp: datetime
    seq: int
    message: str = ""
    payload: str = ""


class Turn(Struct, frozen=True):
    """A task with its events; ``turn`` counts from 1."""

    turn: int
    task_id: str
    user_query: str
    final_output: str
    timestamp: datetime
    events: list[TurnEvent]
    metadata: dict[str, Any] = {}


class Turns(Struct, frozen=True):
    """``count`` is that of all turns."""

    session_id: str
    count: int
    turns: list[Turn]


class Titled(Struct, frozen=True):
    session_id: str
    title: str


class File(Struct, frozen=True):
    name: str
    path: str
    is_dir: bool = False
    size_bytes: int = 0


class Files(Struct, frozen=True):
    files: list[File]


class FileContent(Struct, frozen=True):
    """``encoding``: utf-8, or base64 for what is no text."""

    content: str
    content_type: str
    size_bytes: int
    encoding: str = "utf-8"


class _Emptily(Call[None], frozen=True):
    def read(self, content: bytes) -> None:
        return None


def of(session_id: str, part: str = "") -> str:
    return f"{SESSIONS}/{quote(session_id, safe='')}" + (f"/{part}" if part else "")


def list_sessions(chosen: SessionChoice) -> Call[SessionPage]:
    return Call(SessionPage, SESSIONS, params=given(**chosen))


def get(session_id: str) -> Call[Session]:
    return Call(Session, of(session_id))


def history(session_id: str, *, as_of: str = "", cursor: str = "", limit: int = 1000) -> Call[SessionHistory]:
    params: Mapping[str, str | int] = given(as_of=as_of, cursor=cursor, limit=limit)
    return Call(SessionHistory, of(session_id, "history"), params=params)


def turns(session_id: str, *, limit: int = 10, offset: int = 0, payloads: bool = False) -> Call[Turns]:
    params = given(limit=limit, offset=offset, include_payload=payloads)
    return Call(Turns, of(session_id, "events"), params=params)


def title(session_id: str, text: str) -> Call[Titled]:
    return Call(Titled, of(session_id), "PATCH", body={"title": text})


def delete(session_id: str) -> Call[None]:
    return _Emptily(type(None), of(session_id), "DELETE")


def files(session_id: str, path: str = "") -> Call[Files]:
    return Call(Files, of(session_id, "files"), params=given(path=path))


def file(session_id: str, path: str) -> Call[FileContent]:
    return Call(FileContent, of(session_id, f"files/{quote(path)}"))
