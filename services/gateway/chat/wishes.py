"""What the chat orchestrator's calls ask for, and the goals that become of it. Pure."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from services.gateway.problems import BadRequest
from taskloom.domain.ids import is_valid_id

BUILT_IN: Final = "taskloom"
"""The server of the tools that are tasks of other kinds."""

BUILT_IN_TOOLS: Final = ("shell", "http", "python", "sql", "submit", "workflow")
DETECT_OVER_CHARS: Final = 20
"""A shorter message is no work for a goal, and nobody is asked."""

TOOLKIT: Final = {"code": "python", "http": "http", **{name: name for name in BUILT_IN_TOOLS}}
"""The source's default tools that there are here, and our own by their names; its others draw or search the web."""

Text = Annotated[str, Meta(min_length=1, max_length=100_000)]


class ChatModel(Struct, frozen=True, omit_defaults=True):
    provider: str = ""
    model: str = ""


class ServerTools(Struct, frozen=True):
    """Without ``tools`` all of the server's."""

    tools: list[str] | None = None


class Wish(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a goal and a message have in common. ``mentions`` of tools take the place of both lists of tools."""

    chat_model: ChatModel | None = None
    mentions: list[dict[str, Any]] = []
    allowed_mcp_servers: dict[str, ServerTools] | None = None
    allowed_app_default_toolkit: list[str] | None = None
    agent_id: str = ""


class OrchestrateGoal(Wish, frozen=True, kw_only=True, rename="camel"):
    """``threadId`` is a session's id. ``agentId``: the executor that shell commands run on."""

    goal: Text
    thread_id: Text


class MessagePart(Struct, frozen=True):
    """Other parts than text are not read."""

    type: str
    text: str = ""


class ChatMessage(Struct, frozen=True):
    parts: list[MessagePart]
    id: str = ""
    role: str = "user"

    @property
    def text(self) -> str:
        """The texts of its parts, joined with a space."""
        return " ".join(part.text for part in self.parts if part.type == "text" and part.text)


class SendMessage(Wish, frozen=True, kw_only=True, rename="camel"):
    """``id`` is the thread's. ``toolChoice`` none gives a goal no tools; with manual somebody approves its plan."""

    id: Text
    message: ChatMessage
    tool_choice: Literal["auto", "none", "manual"] = "auto"
    image_tool: Any = None
    attachments: list[Any] = []

    @property
    def may_be_a_goal(self) -> bool:
        return len(self.message.text) > DETECT_OVER_CHARS and not self.image_tool


def checked_thread(thread_id: str) -> str:
    """Raises BadRequest: a session cannot have this id."""
    if not is_valid_id(thread_id):
        raise BadRequest(f"{thread_id!r} is not a thread's id (1 to 128 of A-Z a-z 0-9 : _ - .)", field="threadId")
    return thread_id


def goal_input(goal: str, wish: Wish, toolkit: Iterable[str], history: list[dict[str, str]]) -> dict[str, Any]:
    """The input of the task of kind ``goal``. ``toolkit``: built-in tools where the wish names none."""
    choice = wish.tool_choice if isinstance(wish, SendMessage) else "auto"
    given: dict[str, Any] = {"goal": goal, "tools": {} if choice == "none" else tools_of(wish, toolkit)}
    if wish.chat_model is not None:
        given["model"] = {"provider": wish.chat_model.provider, "model": wish.chat_model.model}
    if choice == "manual":
        given["review"] = True
    optional = {"agent_id": wish.agent_id, "mentions": wish.mentions, "history": history}
    return given | {name: value for name, value in optional.items() if value}


def tools_of(wish: Wish, toolkit: Iterable[str]) -> dict[str, Any]:
    """Allowed tools by server. What is allowed is what the client says, and nothing where it says nothing."""
    if mentioned := _mentioned(wish.mentions):
        return mentioned
    tools: dict[str, Any] = {
        name: {"tools": None if server.tools is None else list(dict.fromkeys(server.tools))}
        for name, server in (wish.allowed_mcp_servers or {}).items()
    }
    named = toolkit if wish.allowed_app_default_toolkit is None else wish.allowed_app_default_toolkit
    built_in = [TOOLKIT[name] for name in named if name in TOOLKIT]
    if built_in and BUILT_IN not in tools:
        tools[BUILT_IN] = {"tools": list(dict.fromkeys(built_in))}
    return tools


def _mentioned(mentions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The tools that a message names: a server, a tool of one, a workflow or a default tool."""
    found: dict[str, list[str] | None] = {}
    for mention in mentions:
        kind, name = mention.get("type"), str(mention.get("name") or "")
        server = str(mention.get("serverId") or mention.get("serverName") or "")
        if kind == "mcpServer" and (server or name):
            found[server or name] = None
        elif kind == "mcpTool" and server and name:
            _add(found, server, name)
        elif kind == "workflow":
            _add(found, BUILT_IN, "workflow")
        elif kind == "defaultTool" and name in TOOLKIT:
            _add(found, BUILT_IN, TOOLKIT[name])
    return {server: {"tools": tools} for server, tools in found.items()}


def _add(found: dict[str, list[str] | None], server: str, tool: str) -> None:
    tools = found.setdefault(server, [])
    if tools is not None and tool not in tools:
        tools.append(tool)
