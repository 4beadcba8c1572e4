"""Tool servers: MCP servers whose tools tasks may call."""

from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, put
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import Limit100, read_query
from services.gateway.tool_servers import PutToolServer, ToolServerList, ToolServerSeen, ToolsSeen

TOOL_SERVERS: Final = "/api/v1/tool-servers"
PATH: Final = f"{TOOL_SERVERS}/{{server_name:str}}"
TAG: Final = "Tool servers"
_SEEN: Final[dict[str, Any]] = {
    "name": "tickets",
    "transport": "http",
    "command": [],
    "env": {},
    "url": "https://tickets.example/mcp",
    "headers": {"Authorization": {"secret": "tickets-token"}},
    "tools": ["find_ticket", "close_ticket"],
    "idempotent": ["find_ticket"],
    "timeout_s": 60.0,
    "enabled": True,
    "description": "The ticket system",
    "version": 1,
    "created_at": "2026-11-21T12:00:00Z",
    "updated_at": "2026-11-21T12:00:00Z",
}
_REMOTE: Final = {
    "transport": "http",
    "url": "https://tickets.example/mcp",
    "headers": {"Authorization": {"secret": "tickets-token"}},
    "tools": ["find_ticket", "close_ticket"],
    "idempotent": ["find_ticket"],
}
_LOCAL: Final = {"transport": "stdio", "command": ["mcp-server-time", "--local-timezone", "UTC"]}
_TIME: Final = {
    "name": "get_current_time",
    "description": "Get current time in a specific timezone",
    "schema": {"type": "object", "properties": {"timezone": {"type": "string"}}, "required": ["timezone"]},
}
_TOOLS: Final = {
    "name": "time",
    "healthy": True,
    "task_id": "task-7c1e",
    "latency_ms": 41,
    "tools": [_TIME],
    "error": "",
}


class ToolServersQuery(Struct, frozen=True):
    cursor: Annotated[str, Meta(max_length=128, description="The next_cursor of the page before")] = ""
    limit: Limit100 = 100


def _name(server_name: str) -> str:
    return checked_id(server_name, "server_name")


@get(
    TOOL_SERVERS,
    opt=documented(
        Doc(
            summary="List tool servers, by name",
            tag=TAG,
            query=ToolServersQuery,
            answers={200: Answered("One page", ToolServerList, {"tool_servers": [_SEEN], "total_count": 1})},
            errors=(400,),
        )
    ),
)
async def list_tool_servers(request: AnyRequest) -> ASGIApp:
    query, gateway = read_query(pairs_of(request), ToolServersQuery), gateway_of(request)
    found = await gateway.tool_servers.page(caller_in(request), query.cursor, query.limit)
    return json_answer(found, headers=gateway.lag.header())


@get(
    PATH,
    opt=documented(
        Doc(summary="A tool server", tag=TAG, answers={200: Answered("It", ToolServerSeen, _SEEN)}, errors=(400, 404))
    ),
)
async def get_tool_server(request: AnyRequest, server_name: FromPath[str]) -> ASGIApp:
    return json_answer(await gateway_of(request).tool_servers.get(caller_in(request), _name(server_name)))


@put(
    PATH,
    status_code=200,
    opt=documented(
        Doc(
            summary="Register a tool server",
            tag=TAG,
            details="An MCP server: a command that executors start where TASKLOOM_MCP_COMMANDS allows it (stdio), or "
            "an address (http, streamable HTTP). Values of env and headers may refer to secrets; executors alone put "
            "them in, and they are masked in all that a tool answers. With `tools` only these can be called. "
            "`idempotent` ones may be called again when it is not known whether a call took place.",
            body=PutToolServer,
            examples={"over HTTP": _REMOTE, "a command": _LOCAL},
            answers={200: Answered("It is registered", ToolServerSeen, _SEEN)},
            errors=(400, 409, 503),
        )
    ),
)
async def put_tool_server(request: AnyRequest, server_name: FromPath[str]) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(PutToolServer).decode, await request.body())
    gateway = gateway_of(request)
    return json_answer(await gateway.tool_servers.put(_name(server_name), wish, origin_of(request, gateway)))


@delete(
    PATH,
    status_code=200,
    opt=documented(
        Doc(
            summary="Remove a tool server",
            tag=TAG,
            details="Calls that run go on; new ones are refused within 5 seconds.",
            answers={200: Answered("Removed", example={"success": True})},
            errors=(400, 404, 503),
        )
    ),
)
async def delete_tool_server(request: AnyRequest, server_name: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    await gateway.tool_servers.remove(_name(server_name), origin_of(request, gateway))
    return json_answer({"success": True})


@get(
    f"{PATH}/tools",
    opt=documented(
        Doc(
            summary="The tools of a tool server, and whether it answers",
            tag=TAG,
            details="An executor asks the server now, in a task of kind `tool`.",
            answers={200: Answered("What it has, or why it cannot be asked", ToolsSeen, _TOOLS)},
            errors=(400, 404, 503),
        )
    ),
)
async def list_tools(request: AnyRequest, server_name: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.tool_servers.tools(_name(server_name), origin_of(request, gateway)))


HANDLERS: Final = [list_tool_servers, get_tool_server, put_tool_server, delete_tool_server, list_tools]
