"""One open connection to a tool server, used by many calls."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any, Final, TypeVar

from msgspec import Struct

from services.executor.masking import Masker
from services.executor.tools import http
from services.executor.tools.registrations import Registered
from services.executor.tools.schemas import fits
from services.executor.tools.stdio import StdioServer
from taskloom import telemetry
from taskloom.errors import TaskloomError
from taskloom.kinds.api import TaskError

MAX_TOOLS: Final = 1_000
MAX_PAGES: Final = 100
MAX_DESCRIPTION_CHARS: Final = 4_096
MAX_NAME_CHARS: Final = 256
TOOLS_S: Final = 60.0
"""How long a server's list of tools is taken for true, unless it says that the list changed."""

CLOSE_S: Final = 10.0
T = TypeVar("T")
log = telemetry.get_logger(__name__)


class Broken(TaskloomError):
    """The connection ended while something was waited for. ``sent``: whether the server may have begun to do it."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Tool(Struct, frozen=True):
    name: str
    description: str
    schema: dict[str, Any]


class Session:
    """The connection lives in a task of its own, as the SDK wants it: begun and ended by the same one."""

    def __init__(self, registered: Registered, users: tuple[str, ...], start_timeout_s: float) -> None:
        self.registered = registered
        self.masker = Masker()
        self.masker.add(registered.secrets)
        self.calls = 0
        self.used_at = time.monotonic()
        self._users = users
        self._start_timeout_s = start_timeout_s
        self._client: Any = None
        self._stdio: StdioServer | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._tools: dict[str, Tool] = {}
        self._tools_until = 0.0
        self._listing = asyncio.Lock()
        self._task = asyncio.create_task(self._live(), name=f"tool server {registered.name}")

    @property
    def alive(self) -> bool:
        """Whether it can be asked something, as far as is known."""
        ended = self._stdio is not None and self._stdio.ended.is_set()
        return not (self._task.done() or self._closing.is_set() or ended)

    async def opened(self) -> None:
        """Returns once the server has answered.

        Raises:
            TaskError: it did not (``tool_server_unavailable``, retryable).
        """
        await asyncio.shield(self._opened)

    async def close(self) -> None:
        """Ends it, and a stdio server with all that it started."""
        self._closing.set()
        _, late = await asyncio.wait({self._task}, timeout=CLOSE_S)
        if late:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_S)

    async def tools(self, *, anew: bool = False) -> dict[str, Tool]:
        """What the server offers, by name.

        Raises:
            Broken: the connection ended.
        """
        async with self._listing:
            if anew or time.monotonic() >= self._tools_until:
                self._tools_until = time.monotonic() + TOOLS_S
                try:
                    self._tools = await self.ask(self._list())
                except BaseException:
                    self._tools_until = 0.0
                    raise
            return self._tools

    async def call(self, name: str, args: dict[str, Any]) -> Any:
        """What the server answers, as the SDK's ``CallToolResult``.

        Raises:
            Broken: the connection ended.
            mcp.MCPError: the server refuses.
        """
        return await self.ask(self._client.call_tool(name, args))

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The answer, unless the connection ends before it comes."""
        if not self.alive:
            question.close()
            raise Broken(self._told("the connection has ended"), sent=False)
        self.calls += 1
        asked = asyncio.create_task(question)
        try:
            await asyncio.wait({asked, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise Broken(self._told("the connection ended"), sent=True)
            return self._answer(asked)
        finally:
            self.calls -= 1
            self.used_at = time.monotonic()
            if not asked.done():
                asked.cancel()  # the SDK tells the server
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await asked

    def _answer(self, asked: "asyncio.Task[T]") -> T:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        try:
            return asked.result()
        except MCPError as error:
            if error.code == CONNECTION_CLOSED or not self.alive:
                self._closing.set()
                raise Broken(self._told("the connection ended"), sent=True) from error
            if error.code == http.UNSENT:
                self._closing.set()
                raise Broken(self._told(error.message), sent=False) from error
            if error.message == "Session terminated":  # what the SDK makes of a 404: the server knows no such session
                self._closing.set()
                raise Broken(self._told("the server has forgotten the session"), sent=False) from error
            raise

    def _told(self, what: str) -> str:
        words = "" if self._stdio is None else self._stdio.last_words()
        return self.masker.text(f"{what}; the server's last words: {words}" if words else what)

    async def _live(self) -> None:
        """Opens the connection, waits for its end or a wish to end it, closes it."""
        try:
            async with asyncio.timeout(self._start_timeout_s) as limit, self._connected() as client:
                self._client = client
                limit.reschedule(None)
                self._opened.set_result(None)
                await self._until_over()
        except TimeoutError:
            self._fail(f"it did not answer within {self._start_timeout_s:g} s")
        except asyncio.CancelledError:
            self._fail("it was closed")
            raise
        except Exception as error:  # noqa: BLE001 - whatever ends a connection ends it
            reason = "; ".join(_reasons(error))
            self._fail(reason)
            log.info("a connection to a tool server ended", server=self.registered.name, reason=self._told(reason))

    def _connected(self) -> Any:
        from mcp import Client, types

        spec = self.registered.spec
        transport: Any
        if spec.transport == "stdio":
            transport = self._stdio = StdioServer(spec.command, self.registered.env, self._users)
        else:
            transport = http.transport(spec.url, self.registered.headers, self._start_timeout_s)
        about = types.Implementation(name="taskloom", version=version("taskloom"))
        return Client(transport, client_info=about, message_handler=self._hear, cache=None)

    async def _until_over(self) -> None:
        waits = [asyncio.ensure_future(self._closing.wait())]
        if self._stdio is not None:
            waits.append(asyncio.ensure_future(self._stdio.ended.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _fail(self, reason: str) -> None:
        if not self._opened.done():
            message = self._told(f"the tool server {self.registered.name!r} cannot be used: {reason}")
            self._opened.set_exception(TaskError("tool_server_unavailable", message))
            self._opened.exception()  # looked at here: whoever waited may have gone

    async def _hear(self, message: Any) -> None:
        from mcp import types

        if isinstance(message, types.ToolListChangedNotification):
            self._tools_until = 0.0

    async def _list(self) -> dict[str, Tool]:
        found: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._client.list_tools(cursor=cursor)
            for each in page.tools:
                if len(found) < MAX_TOOLS and len(each.name) <= MAX_NAME_CHARS and fits(each.input_schema):
                    description = (each.description or each.title or "")[:MAX_DESCRIPTION_CHARS]
                    schema = self.masker.value(each.input_schema)
                    found[each.name] = Tool(each.name, self.masker.text(description), schema)
            cursor = page.next_cursor
            if cursor is None:
                break
        return found


def _reasons(error: BaseException) -> list[str]:
    """The SDK's groups of exceptions, flat."""
    if isinstance(error, BaseExceptionGroup):
        return [reason for each in error.exceptions for reason in _reasons(each)]
    return [str(error) or type(error).__name__]
