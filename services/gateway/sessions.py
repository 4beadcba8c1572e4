"""Sessions: read from the views, named and removed through their entity; their events in turns; their files."""

import asyncio
import base64
import mimetypes
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.gateway.entities import Entities
from services.gateway.problems import BadRequest, NotFound, TooLarge
from services.gateway.queries import SessionEventsQuery, SessionHistoryQuery
from services.gateway.read import Reader, moment_of
from services.gateway.security import Caller
from services.gateway.shapes import Usage, usage_of
from services.gateway.submission import Origin
from services.gateway.wait import Recent, session_key
from taskloom import artifacts
from taskloom.domain.entities.commands import RemoveSession, TitleSession
from taskloom.domain.entities.sessions import Session as Marks
from taskloom.domain.entities.sessions import clean_title, title_fault
from taskloom.domain.envelope import Recorded
from taskloom.replay.as_of import tasks_as_of
from taskloom.views.sessions.query import Session
from taskloom.views.task_executions.query import BadCursor
from taskloom.views.task_executions.row import Row
from taskloom.views.timelines.stream import StreamEvent, stream_events

MAX_EVENTS: Final = 5_000
"""Events in one answer; what is beyond is read task by task."""

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_TASKS_THEN: Final = 100
"""Tasks of a look at the past: each is folded from its events."""

MAX_TITLE_CHARS: Final = 60
KIND: Final = "session"


class TurnEvent(Struct, frozen=True, omit_defaults=True):
    """``payload`` is JSON as text, and there only when it was asked for."""

    workflow_id: str
    type: str
    timestamp: datetime
    seq: int
    message: str
    agent_id: str = ""
    payload: str = ""


class Turn(Struct, frozen=True):
    """A task of the session with its events; ``turn`` counts from 1 over all pages."""

    turn: int
    task_id: str
    user_query: str
    final_output: str
    timestamp: datetime
    events: list[TurnEvent]
    metadata: dict[str, Any]
    usage: Usage


class Turns(Struct, frozen=True):
    """``count`` is that of all turns."""

    session_id: str
    count: int
    turns: list[Turn]


class FileSeen(Struct, frozen=True):
    success: bool
    content: str
    content_type: str
    size_bytes: int
    encoding: str


class HistoryPage(Struct, frozen=True):
    rows: list[Row]
    total: int
    next_cursor: str | None


class Sessions:
    """``artifacts_dir``: where sessions' files are, empty for nowhere."""

    def __init__(self, reader: Reader, entities: Entities, recent: Recent, artifacts_dir: str) -> None:
        self._reader = reader
        self._entities = entities
        self._recent = recent
        self._artifacts_dir = artifacts_dir

    async def find(self, caller: Caller, session_id: str) -> Session:
        """Raises NotFound: unknown, removed, or another tenant's."""
        found = await self._reader.session(caller, session_id)
        if found is None:
            raise NotFound("Session not found", session_id=session_id)
        return found

    async def title(self, session_id: str, text: str, origin: Origin) -> str:
        """The title as it was stored.

        Raises:
            BadRequest: nothing to be seen is in it, or more than 60 characters.
            NotFound: there is no such session.
        """
        title = clean_title(text)
        if fault := title_fault(title, MAX_TITLE_CHARS):
            raise BadRequest(fault, field="title")
        await self.find(origin.caller, session_id)
        await self._entities.change(session_id, TitleSession(title), origin)
        return title

    async def remove(self, session_id: str, reason: str, origin: Origin) -> None:
        """Nothing more is done to one that was removed before.

        Raises:
            NotFound: there never was such a session.
        """
        caller = origin.caller
        if await self._reader.session(caller, session_id) is None:
            entity = await self._entities.find(KIND, caller, session_id)
            if entity is None or not isinstance(entity.value, Marks) or entity.value.removed_at is None:
                raise NotFound("Session not found", session_id=session_id)
            return
        await self._entities.change(session_id, RemoveSession(reason), origin)
        self._recent.add(caller.tenant_id, session_key(session_id), 0)

    async def history(self, caller: Caller, session_id: str, query: SessionHistoryQuery) -> HistoryPage:
        """Tasks, oldest first; with ``as_of`` those of then, each as it was.

        Raises:
            NotFound: there is no such session.
            BadRequest: ``cursor`` or ``as_of`` is none, or a version.
        """
        session, moment = await self.find(caller, session_id), moment_of(query.as_of)
        if isinstance(moment, int):
            raise BadRequest("a session has no version; send a time", field="as_of")
        limit = query.limit if moment is None else min(query.limit, MAX_TASKS_THEN)
        try:
            rows, next_cursor = await self._reader.views.session_tasks(
                caller.tenant_id, session_id, limit=limit, cursor=query.cursor, since=session.removed_at, until=moment
            )
        except BadCursor as error:
            raise BadRequest(str(error), field="cursor") from error
        if moment is None:
            return HistoryPage(rows, session.task_count, next_cursor)
        ids = [row.task_id for row in rows]
        then = await tasks_as_of(self._reader.histories, caller.tenant_id, ids, moment)
        shown = [row for row in then if row.deleted_at is None]
        return HistoryPage(shown, len(shown), next_cursor)

    async def turns(self, caller: Caller, session_id: str, query: SessionEventsQuery) -> Turns:
        """A page of turns, oldest first.

        Raises:
            NotFound: there is no such session.
            TooLarge: the page has more than 5,000 events; ask for fewer turns.
        """
        session = await self.find(caller, session_id)
        rows, _ = await self._reader.views.session_tasks(
            caller.tenant_id, session_id, limit=query.limit, offset=query.offset, since=session.removed_at
        )
        turns: list[Turn] = []
        left = MAX_EVENTS
        for place, row in enumerate(rows):
            history = await self._reader.histories.events(row.task_id, limit=left + 1)
            if len(history) > left and place:
                raise TooLarge(f"{place + 1} turns have more than {MAX_EVENTS} events; ask for fewer", field="limit")
            whole = await self._reader.with_values(row)
            turns.append(turn_of(whole, query.offset + place + 1, history[:left], query.include_payload))
            left -= min(left, len(history))
        return Turns(session_id, session.task_count, turns)

    async def files(self, caller: Caller, session_id: str, path: str) -> list[artifacts.FileEntry]:
        """Raises NotFound, BadRequest: no such session or directory; a path that leads elsewhere."""
        await self.find(caller, session_id)
        if not self._artifacts_dir:
            artifacts.parts_of(path)
            return []
        root = artifacts.session_directory(self._artifacts_dir, caller.tenant_id, session_id)
        return await asyncio.to_thread(artifacts.list_files, root, path)

    async def file(self, caller: Caller, session_id: str, path: str) -> FileSeen:
        """Text as it is, anything else in base64. Raises NotFound, BadRequest, TooLarge."""
        await self.find(caller, session_id)
        artifacts.parts_of(path)
        if not self._artifacts_dir:
            raise artifacts.NoSuchFile
        root = artifacts.session_directory(self._artifacts_dir, caller.tenant_id, session_id)
        content = await asyncio.to_thread(artifacts.read_file, root, path, max_bytes=MAX_FILE_BYTES)
        kind = mimetypes.guess_type(path)[0] or ""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            coded = base64.b64encode(content).decode()
            return FileSeen(True, coded, kind or "application/octet-stream", len(content), "base64")
        return FileSeen(True, text, kind or "text/plain", len(content), "utf-8")


def turn_of(row: Row, number: int, history: list[Recorded], include_payload: bool) -> Turn:
    events = stream_events(history)
    answers = (event.message for event in events if event.type == "LLM_OUTPUT")
    ended, started = row.completed_at, row.started_at or row.created_at
    metadata: dict[str, Any] = {
        "tokens_used": row.total_tokens,
        "execution_time_ms": 0 if ended is None else round((ended - started).total_seconds() * 1000),
        "agents_involved": list(dict.fromkeys(event.agent_id for event in events if event.agent_id)),
    }
    if row.version > len(history):
        metadata["events_left_out"] = row.version - len(history)
    if attachments := row.context.get("attachments"):
        metadata["attachments"] = attachments
    shown = [_turn_event(event, include_payload) for event in events]
    final = row.result or next(answers, "")
    return Turn(number, row.task_id, row.query, final, row.created_at, shown, metadata, usage_of(row))


def _turn_event(event: StreamEvent, include_payload: bool) -> TurnEvent:
    payload = msgspec.json.encode(event.payload).decode() if include_payload and event.payload else ""
    return TurnEvent(event.workflow_id, event.type, event.timestamp, event.seq, event.message, event.agent_id, payload)


def budget_of(session: Session) -> dict[str, Any]:
    """The budget fields of a session whose first task's context has a ``token_budget``; nothing without one."""
    budget = session.context.get("token_budget")
    if not isinstance(budget, int) or isinstance(budget, bool) or budget <= 0:
        return {}
    used = session.tokens_used / budget
    return {
        "token_budget": budget,
        "budget_utilization": used,
        "budget_remaining": max(0, budget - session.tokens_used),
        "is_near_budget_limit": used > _NEAR,
    }


def context_of(session: Session) -> dict[str, Any]:
    """The session's context, with the id and title where Shannon's clients look for them."""
    named = {"external_id": session.session_id, **({"title": session.title} if session.title else {})}
    return {**session.context, **named}


_NEAR: Final = 0.9
