"""The calls about tool servers and what they answer, as values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Required, TypedDict
from urllib.parse import quote

from msgspec import Struct

from taskloom.client.calls import Call, given

TOOL_SERVERS: Final = "/api/v1/tool-servers"


class SecretName(TypedDict):
    """Stands for the value of the tenant's secret of this name."""

    secret: str


class ToolServerWish(TypedDict, total=False):
    """``command`` and ``env`` of a stdio server, ``url`` and ``headers`` of an http one. ``tools``: only these can be
    called; ``idempotent`` ones may be called again when it is not known whether a call took place."""

    transport: Required[Literal["stdio", "http"]]
    command: Sequence[str]
    env: Mapping[str, str | SecretName]
    url: str
    headers: Mapping[str, str | SecretName]
    tools: Sequence[str] | None
    idempotent: Sequence[str]
    timeout_s: float
    enabled: bool
    description: str
    expected_version: int


class ToolServer(Struct, frozen=True, kw_only=True):
    name: str
    transport: str
    command: list[str] = []
    env: dict[str, Any] = {}
    url: str = ""
    headers: dict[str, Any] = {}
    tools: list[str] | None = None
    idempotent: list[str] = []
    timeout_s: float = 60.0
    enabled: bool = True
    description: str = ""
    version: int = 1
    created_at: datetime
    updated_at: datetime


class ToolServerPage(Struct, frozen=True):
    tool_servers: list[ToolServer]
    total_count: int
    next_cursor: str | None = None


class Tool(Struct, frozen=True):
    """``schema``: JSON Schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


class ToolsOfServer(Struct, frozen=True, kw_only=True):
    """``error``: why the server cannot be asked, where it is not ``healthy``; ``task_id`` is the task that asked."""

    name: str
    healthy: bool
    task_id: str = ""
    latency_ms: int = 0
    tools: list[Tool] = []
    error: str = ""


class _Done(Struct, frozen=True):
    success: bool


def of(name: str, part: str = "") -> str:
    return f"{TOOL_SERVERS}/{quote(name, safe='')}" + (f"/{part}" if part else "")


def put(name: str, wish: ToolServerWish) -> Call[ToolServer]:
    return Call(ToolServer, of(name), "PUT", body=wish)


def list_tool_servers(cursor: str = "", limit: int = 100) -> Call[ToolServerPage]:
    return Call(ToolServerPage, TOOL_SERVERS, params=given(cursor=cursor, limit=limit))


def get(name: str) -> Call[ToolServer]:
    return Call(ToolServer, of(name))


def remove(name: str) -> Call[_Done]:
    return Call(_Done, of(name), "DELETE")


def tools(name: str) -> Call[ToolsOfServer]:
    return Call(ToolsOfServer, of(name, "tools"))
