"""``tool``: one call of a tool of an MCP server."""

from typing import Final

import msgspec

from services.executor.kinds.text import text_of
from services.executor.tools.toolbox import Toolbox
from taskloom.kinds import Context, Handler, Outcome
from taskloom.kinds.inputs import ToolInput, read

RESULT_CHARS: Final = 16 * 1024


class ToolCall(Handler):
    """The response is ``{server, tool, result, status, duration_ms, truncated}``, the result its text (16 KiB).

    Without ``tool`` the response is ``{server, tools, duration_ms}``: what the server offers.
    """

    kind = "tool"

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox

    async def close(self) -> None:
        await self._toolbox.close()

    async def run(self, ctx: Context) -> Outcome:
        wished = read(ToolInput, ctx.input)
        if not wished.tool:
            tools, duration_ms = await self._toolbox.list_server(ctx.tenant_id, wished.server)
            about = {"server": wished.server, "tools": msgspec.to_builtins(tools), "duration_ms": duration_ms}
            return Outcome(result="\n".join(tool.name for tool in tools)[:RESULT_CHARS], response=about)
        done = await self._toolbox.call(ctx, wished.server, wished.tool, wished.args, wished.allowed)
        return Outcome(result=text_of(done.result)[:RESULT_CHARS], response=msgspec.to_builtins(done))
