"""All tools of a tenant: what they are, and calls of those that MCP servers have."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from services.executor.secrets import Secrets
from services.executor.settings import ExecutorSettings
from services.executor.tools import sdk
from services.executor.tools.builtin import BUILT_IN, TOOLS
from services.executor.tools.registrations import EntityTable, NoTable, Registered, Registrations
from services.executor.tools.results import MAX_ERROR_CHARS, cut, text_of, value_of
from services.executor.tools.schemas import check_arguments
from services.executor.tools.session import Broken, Session, Tool
from services.executor.tools.sessions import Sessions
from taskloom import telemetry
from taskloom.domain.tools import AllowedTools, is_allowed, may_repeat
from taskloom.kinds.api import Context, TaskError
from taskloom.store.secrets import SecretTable

Allowed = Mapping[str, AllowedTools] | None
DESCRIBE_S: Final = 30.0
"""A server that has not told its tools by then is left out."""

log = telemetry.get_logger(__name__)


class ToolDescription(Struct, frozen=True):
    """``schema``: JSON Schema of the arguments."""

    server: str
    name: str
    description: str
    schema: dict[str, Any]


class ToolResult(Struct, frozen=True):
    """``result``: any JSON value, cut at 4 MiB where ``truncated``."""

    server: str
    tool: str
    result: Any
    status: str
    duration_ms: int
    truncated: bool


class Toolbox:
    def __init__(self, registrations: Registrations, sessions: Sessions, sealed: SecretTable | None = None) -> None:
        """``sealed`` is closed with it."""
        self._registrations = registrations
        self._sessions = sessions
        self._sealed = sealed

    async def describe(self, tenant_id: str, allowed: Allowed) -> list[ToolDescription]:
        """The tools that may be called: those of ``allowed``, or, when that is None, all built-in ones and all of the
        tenant's servers. Sorted by server, in each as the server lists them. A server that cannot be asked is left out.
        """
        names = await self._registrations.names(tenant_id) if allowed is None else list(allowed)
        servers = sorted({*names, *(() if allowed is not None else (BUILT_IN,))})
        found = await asyncio.gather(*(self._described(tenant_id, server, allowed) for server in servers))
        return [each for tools in found for each in tools]

    async def list_server(self, tenant_id: str, server: str) -> tuple[list[ToolDescription], int]:
        """What the server offers now of the tools that its registration lets through, and the milliseconds it took.

        Raises:
            TaskError: it cannot be asked.
        """
        registered = await self._registrations.find(tenant_id, server)
        began = time.monotonic()
        tools = await self._tools(registered, anew=True)
        return _told(registered, tools.values(), None), _ms_since(began)

    async def call(
        self, ctx: Context, server: str, tool: str, args: Mapping[str, Any], allowed: Allowed = None
    ) -> ToolResult:
        """Calls one tool of an MCP server, once.

        Raises:
            TaskError: ``tool_denied``: neither the pinned list nor the live registration may be without it, or the
                server does not have it; ``invalid_arguments``; ``tool_failed``: it says that it failed;
                ``tool_timeout``; ``tool_server_unavailable``. Where it is not known whether the call took place the
                error is retryable only for a tool that may be called again.
        """
        if not is_allowed(allowed, server, tool):
            raise _denied(f"{server}/{tool} is not among the tools of this task", server, tool)
        if server == BUILT_IN:
            raise _denied(f"{tool} is built in: submit a task of that kind", server, tool)
        registered = await self._registrations.find(ctx.tenant_id, server)
        if registered.spec.tools is not None and tool not in registered.spec.tools:
            raise _denied(f"the registration of {server} does not let {tool} be called", server, tool)
        repeatable = tool in registered.spec.idempotent or may_repeat(allowed, server, tool)
        known = await self._find(registered, tool)
        check_arguments(known.schema, args)
        began = time.monotonic()
        answer, session = await self._ask(registered, tool, dict(args), repeatable=repeatable)
        if answer.is_error:
            message = session.masker.text(text_of(answer))[:MAX_ERROR_CHARS] or "it says no more than that it failed"
            details = {"server": server, "tool": tool, "duration_ms": _ms_since(began)}
            raise TaskError("tool_failed", f"{server}/{tool}: {message}", details=details)
        result, truncated = cut(session.masker.value(value_of(answer)))
        return ToolResult(server, tool, result, "success", _ms_since(began), truncated)

    async def close(self) -> None:
        await self._sessions.close()
        await self._registrations.close()
        if self._sealed is not None:
            await self._sealed.close()

    async def _described(self, tenant_id: str, server: str, allowed: Allowed) -> list[ToolDescription]:
        if server == BUILT_IN:
            told = [ToolDescription(BUILT_IN, name, *about) for name, about in TOOLS.items()]
            return [each for each in told if is_allowed(allowed, BUILT_IN, each.name)]
        try:
            async with asyncio.timeout(DESCRIBE_S):
                registered = await self._registrations.find(tenant_id, server)
                return _told(registered, (await self._tools(registered)).values(), allowed)
        except (TaskError, TimeoutError) as error:
            log.info("a tool server is left out", server=server, reason=str(error))
            return []

    async def _find(self, registered: Registered, tool: str) -> Tool:
        known = (await self._tools(registered)).get(tool) or (await self._tools(registered, anew=True)).get(tool)
        if known is None:
            raise _denied(f"the tool server {registered.name} has no tool {tool}", registered.name, tool)
        return known

    async def _tools(self, registered: Registered, *, anew: bool = False) -> dict[str, Tool]:
        """Asked once more on a new connection, since the question changes nothing."""
        await sdk.ready()
        from mcp import MCPError

        for last in (False, True):
            session = await self._sessions.get(registered)
            try:
                async with asyncio.timeout(registered.spec.timeout_s):
                    return await session.tools(anew=anew)
            except Broken as error:
                if last:
                    raise _unavailable(registered, str(error)) from error
            except TimeoutError as error:
                told = f"it did not list its tools within {registered.spec.timeout_s:g} s"
                raise _unavailable(registered, told) from error
            except (MCPError, ValueError) as error:
                told = f"it does not list its tools: {session.masker.text(str(error))[:MAX_ERROR_CHARS]}"
                raise _unavailable(registered, told) from error
        raise AssertionError  # the last round returns or raises

    async def _ask(
        self, registered: Registered, tool: str, args: dict[str, Any], *, repeatable: bool
    ) -> tuple[Any, Session]:
        from mcp import MCPError

        limit_s = registered.spec.timeout_s
        for last in (False, True):
            session = await self._sessions.get(registered)
            try:
                async with asyncio.timeout(limit_s):
                    return await session.call(tool, args), session
            except TimeoutError as error:
                message = f"{registered.name}/{tool} did not answer within {limit_s:g} s"
                raise _uncertain("tool_timeout", message, repeatable) from error
            except Broken as error:
                if error.sent or last:
                    message = f"{registered.name}/{tool}: {error}"
                    raise _uncertain("tool_server_unavailable", message, repeatable or not error.sent) from error
            except MCPError as error:
                raise _refused(registered, tool, error, session, repeatable) from error
            except (RuntimeError, ValueError) as error:
                # The SDK's words for a result that does not fit the tool's own schema, or the protocol: it has run.
                message = session.masker.text(str(error))[:MAX_ERROR_CHARS]
                told = f"{registered.name}/{tool} answered something invalid: {message}"
                raise TaskError("tool_failed", told, retryable=repeatable) from error
        raise AssertionError  # the last round returns or raises


def _told(registered: Registered, tools: Any, allowed: Allowed) -> list[ToolDescription]:
    let_through = registered.spec.tools
    return [
        ToolDescription(registered.name, tool.name, tool.description, tool.schema)
        for tool in tools
        if is_allowed(allowed, registered.name, tool.name) and (let_through is None or tool.name in let_through)
    ]


def _refused(registered: Registered, tool: str, error: Any, session: Session, repeatable: bool) -> TaskError:
    from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, PARSE_ERROR

    message = f"{registered.name}/{tool}: {session.masker.text(error.message)[:MAX_ERROR_CHARS]}"
    details = {"server": registered.name, "tool": tool, "code": error.code}
    if error.code == INVALID_PARAMS:
        return TaskError("invalid_arguments", message, retryable=False, details=details)
    certain = error.code not in (INTERNAL_ERROR, PARSE_ERROR)  # of an answer that broke off, or was too long
    retryable = error.code != METHOD_NOT_FOUND and (certain or repeatable)
    return TaskError("tool_failed", message, retryable=retryable, details=details)


def _uncertain(kind: str, message: str, repeatable: bool) -> TaskError:
    if not repeatable:
        message += "; it may have run all the same, and is not known to be idempotent, so it is not called again"
    return TaskError(kind, message, retryable=repeatable)


def _denied(message: str, server: str, tool: str) -> TaskError:
    return TaskError("tool_denied", message, retryable=False, details={"server": server, "tool": tool})


def _unavailable(registered: Registered, message: str) -> TaskError:
    return TaskError("tool_server_unavailable", f"the tool server {registered.name!r}: {message}")


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def make_toolbox(settings: ExecutorSettings) -> Toolbox:
    """Connects to nothing yet. Without a database there are built-in tools only."""
    sessions = Sessions(
        most=settings.mcp_sessions,
        idle_s=settings.mcp_idle_s,
        start_timeout_s=settings.mcp_start_timeout_s,
        commands=settings.mcp_commands,
        users=settings.shell_users,
    )
    if not settings.has_database:
        return Toolbox(Registrations(NoTable(), Secrets()), sessions)
    sealed = SecretTable(settings.database_dsn)
    registrations = Registrations(EntityTable(settings.database_dsn), Secrets(settings.vault, sealed))
    return Toolbox(registrations, sessions, sealed)
