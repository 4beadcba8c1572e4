"""``llm``: one turn of a model."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from services.executor.models.port import LlmInput, Model, Reply, Toolbox, ToolDescription
from taskloom.domain.tools import is_allowed
from taskloom.kinds import Context, Handler, Outcome
from taskloom.kinds.inputs import read


class Llm(Handler):
    """Plans, takes a turn with tools, thinks, sums up, reports, answers, or judges whether a request needs a plan.

    The answer is streamed as ``message`` output. The response is ``{text, model_used, provider, usage}`` with ``steps``
    and ``repaired`` of a plan, ``calls`` of a turn, ``orchestrate`` of a judgement.
    """

    kind = "llm"
    schema: Mapping[str, Any] | None = msgspec.json.schema(LlmInput)
    _with_tools: ClassVar[frozenset[str]] = frozenset({"plan", "turn"})

    def __init__(self, model: Model, toolbox: Toolbox | None = None) -> None:
        self._model = model
        self._toolbox = toolbox

    async def close(self) -> None:
        await self._model.close()

    async def run(self, ctx: Context) -> Outcome:
        wish = read(LlmInput, ctx.input)
        await ctx.checkpoint("model")
        tools = await self._tools(ctx, wish)

        async def say(piece: str) -> None:
            await ctx.write(piece, "message")

        reply = await self._model.ask(wish, tools, say)
        return Outcome(reply.text, response(reply), usage=reply.usage)

    async def _tools(self, ctx: Context, wish: LlmInput) -> Sequence[ToolDescription]:
        """Those that the pinned allow-list names, whatever the toolbox says."""
        if self._toolbox is None or not wish.tools or wish.op not in self._with_tools or wish.last:
            return ()
        told = await self._toolbox.describe(ctx.tenant_id, wish.tools)
        return [tool for tool in told if is_allowed(wish.tools, tool.server, tool.name)]


def response(reply: Reply) -> dict[str, Any]:
    """The reply as the task's response."""
    told: dict[str, Any] = msgspec.to_builtins(reply)
    usage = reply.usage
    told["usage"] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }
    return told
