"""Threads: sessions of one user, with the messages that were said in them."""

from typing import Final

from services.gateway.entities import Entities
from services.gateway.problems import Forbidden, Problem
from services.gateway.read import Reader
from services.gateway.security import Caller
from services.gateway.submission import Origin
from taskloom import telemetry
from taskloom.domain.entities.commands import TitleSession
from taskloom.domain.entities.sessions import MAX_TITLE_CHARS, clean_title
from taskloom.views.sessions.query import Session
from taskloom.views.task_executions.filters import Filters
from taskloom.views.task_executions.row import Row

HISTORY_MESSAGES: Final = 10
MESSAGE_CHARS: Final = 4_000
"""Of a message in the history; a longer one is cut."""

_LOOKED_AT: Final = 30
"""Tasks of a thread that are looked at for its last messages: some of them say nothing."""

_SPOKEN: Final = frozenset({"query", "llm", "goal"})
_log = telemetry.get_logger(__name__)


class Threads:
    """A thread's id is that of its session. It is its first user's alone."""

    def __init__(self, reader: Reader, entities: Entities) -> None:
        self._reader = reader
        self._entities = entities

    async def find(self, caller: Caller, thread_id: str) -> Session | None:
        """None for one that is to be made.

        Raises:
            Forbidden: it is another user's. One of another tenant is of no concern here: ids are each tenant's own.
        """
        session = await self._reader.session(caller, thread_id)
        if session is not None and session.user_id and session.user_id != caller.user_id:
            raise Forbidden("this thread is another user's")
        return session

    async def title(self, thread_id: str, text: str, origin: Origin) -> None:
        """Gives a new thread its title: the beginning of the text. A thread without one is no fault of the goal's."""
        title = clean_title(text)[:MAX_TITLE_CHARS].strip()
        if not title:
            return
        try:
            await self._entities.change(thread_id, TitleSession(title), origin)
        except Problem as problem:
            _log.warning("a thread has no title", thread_id=thread_id, reason=str(problem))

    async def history(self, caller: Caller, session: Session | None) -> list[dict[str, str]]:
        """The last messages and their answers, the oldest first, at most ten."""
        if session is None:
            return []
        chosen = Filters(session_id=session.session_id, statuses=("COMPLETED",), created_after=session.removed_at)
        page = await self._reader.views.tasks(caller.tenant_id, chosen, limit=_LOOKED_AT, offset=0, cursor=None)
        said: list[dict[str, str]] = []
        for row in reversed(page.rows):
            if row.kind in _SPOKEN and row.query:
                whole = await self._reader.with_values(row)
                said += [_message("user", row.query), _message("assistant", answer_of(whole))]
        return said[-HISTORY_MESSAGES:]


def _message(role: str, content: str) -> dict[str, str]:
    cut = content if len(content) <= MESSAGE_CHARS else f"{content[: MESSAGE_CHARS - 1]}…"
    return {"role": role, "content": cut}


def answer_of(row: Row) -> str:
    """What a task that has ended says."""
    text = row.response.get("text") if isinstance(row.response, dict) else None
    return row.result or (text if isinstance(text, str) else "")
