"""``client.sessions``: tasks that belong together."""

from __future__ import annotations

from typing import Protocol, TypeVar, Unpack

from taskloom.client import session_calls as calls
from taskloom.client.calls import Call
from taskloom.client.session_calls import SessionChoice

T = TypeVar("T")


class Calls(Protocol):
    async def call(self, call: Call[T]) -> T: ...


class AsyncSessions:
    """Every call may raise ``Unreachable`` or a kind of ``Refused``; of a removed session ``NotFound``."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    async def page(self, **chosen: Unpack[SessionChoice]) -> calls.SessionPage:
        """One page, newest first."""
        return await self._client.call(calls.list_sessions(chosen))

    async def get(self, session_id: str) -> calls.Session:
        return await self._client.call(calls.get(session_id))

    async def history(
        self, session_id: str, *, as_of: str = "", cursor: str = "", limit: int = 1000
    ) -> calls.SessionHistory:
        """Its tasks, oldest first; with ``as_of``, an RFC 3339 time, as they were then."""
        return await self._client.call(calls.history(session_id, as_of=as_of, cursor=cursor, limit=limit))

    async def turns(self, session_id: str, *, limit: int = 10, offset: int = 0, payloads: bool = False) -> calls.Turns:
        """Its events, a turn for each task."""
        return await self._client.call(calls.turns(session_id, limit=limit, offset=offset, payloads=payloads))

    async def title(self, session_id: str, text: str) -> calls.Titled:
        return await self._client.call(calls.title(session_id, text))

    async def delete(self, session_id: str) -> None:
        """Its tasks stay; one that is submitted under its id later begins a new session."""
        await self._client.call(calls.delete(session_id))

    async def files(self, session_id: str, path: str = "") -> list[calls.File]:
        """What its tasks left in that directory."""
        return (await self._client.call(calls.files(session_id, path))).files

    async def file(self, session_id: str, path: str) -> calls.FileContent:
        return await self._client.call(calls.file(session_id, path))
