"""Open connections to tool servers: reused, bounded in number, closed when nobody has used them for a while."""

import asyncio
import shlex
import time
from typing import Final

from services.executor.tools import sdk
from services.executor.tools.registrations import Registered
from services.executor.tools.session import Session
from taskloom import telemetry
from taskloom.kinds.api import TaskError
from taskloom.rules import Patterns

Key = tuple[str, str, str]
LOOK_S: Final = 5.0
log = telemetry.get_logger(__name__)


class Sessions:
    """One for each tenant, server and state of its registration. A broken one is opened anew by the next call."""

    def __init__(
        self,
        *,
        most: int,
        idle_s: float,
        start_timeout_s: float,
        commands: tuple[str, ...] = (),
        users: tuple[str, ...] = (),
    ) -> None:
        """``commands``: patterns of the commands that stdio servers may be."""
        self._most = most
        self._idle_s = idle_s
        self._start_timeout_s = start_timeout_s
        self._commands = Patterns(allow=commands)
        self._users = users
        self._open: dict[Key, Session] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def get(self, registered: Registered) -> Session:
        """One that is open.

        Raises:
            TaskError: the server cannot be reached, or all places are taken (``tool_server_unavailable``, retryable);
                its command is not allowed here (``tool_denied``).
        """
        self._check(registered)
        await sdk.ready()
        session = self._open.get(registered.key)
        if session is None or not session.alive:
            session = self._begin(registered)
        session.calls += 1  # held while it opens
        try:
            await session.opened()
        finally:
            session.calls -= 1
            session.used_at = time.monotonic()
        return session

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            self._looking = None
        for key in list(self._open):
            self._drop(key)
        if self._closing:
            await asyncio.wait(self._closing)

    @property
    def size(self) -> int:
        return len(self._open)

    def _check(self, registered: Registered) -> None:
        spec = registered.spec
        if spec.transport == "stdio":
            command = command_text(spec.command)
            if self._commands.broken(command):
                told = f"this executor starts no tool server {command!r}: TASKLOOM_MCP_COMMANDS names what it may start"
                raise TaskError("tool_denied", told, retryable=False, details={"server": registered.name})

    def _begin(self, registered: Registered) -> Session:
        for key in [key for key in self._open if key[:2] == registered.key[:2] and self._is_over(key, registered.key)]:
            self._drop(key)
        if len(self._open) >= self._most:
            self._make_room()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        session = self._open[registered.key] = Session(registered, self._users, self._start_timeout_s)
        return session

    def _is_over(self, key: Key, wanted: Key) -> bool:
        """The one before, when it is broken, or of an earlier state of the registration and unused."""
        session = self._open[key]
        return not session.alive if key == wanted else not session.calls

    def _make_room(self) -> None:
        idle = [(session.used_at, key) for key, session in self._open.items() if not session.calls]
        if not idle:
            told = f"all {self._most} connections to tool servers of this executor are in use (TASKLOOM_MCP_SESSIONS)"
            raise TaskError("tool_server_unavailable", told)
        self._drop(min(idle)[1])

    def _drop(self, key: Key) -> None:
        closing = asyncio.create_task(self._open.pop(key).close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_S, self._idle_s / 2))
            before = time.monotonic() - self._idle_s
            for key, session in list(self._open.items()):
                if not session.alive or (not session.calls and session.used_at < before):
                    self._drop(key)


def command_text(words: tuple[str, ...]) -> str:
    """A command as one text that patterns are compared with; what is odd in a word is quoted as in a shell."""
    return shlex.join(words)
