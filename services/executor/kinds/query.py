"""``query``: what a task without a kind gets: an answer, of a model or of an offline assistant that says what it is."""

from collections.abc import Mapping
from typing import Any, Final

from services.executor.models.port import OFFLINE, LlmInput, Model, ModelChoice
from taskloom.domain.values import Usage
from taskloom.kinds import Context, Handler, Outcome
from taskloom.kinds.inputs import QueryContext, read

STEP_S: Final = 0.5
PIECE_S: Final = 0.025
"""Between two pieces of the answer: a little more than the time in which small writes are joined."""

MAX_STEPS: Final = 40


class Query(Handler):
    """The model's answer to the query, streamed as ``message`` output. ``context.sleep_seconds`` makes it take that
    long, with ``log`` output and checkpoints in between.

    Without a model it repeats the query with a count of its words, and says so.
    """

    kind = "query"

    def __init__(self, model: Model) -> None:
        self._model = model

    async def run(self, ctx: Context) -> Outcome:
        seconds = read(QueryContext, ctx.context, root="context").sleep_seconds
        await ctx.checkpoint("start")
        if seconds:
            await _take_time(ctx, seconds)
        said = 0

        async def say(piece: str) -> None:
            nonlocal said
            if said and offline:
                await ctx.sleep(PIECE_S, "answer")
            said += 1
            await ctx.write(piece, "message")

        offline = self._model.offline
        reply = await self._model.ask(LlmInput("answer", model=_choice(ctx.context), message=ctx.query), (), say)
        words = len(ctx.query.split())
        usage = reply.usage
        if reply.model_used == OFFLINE:
            usage = Usage(words, len(reply.text.split()), 0.0, OFFLINE, "offline")
        response = {
            "answer": reply.text,
            "words": words,
            "model": reply.model_used,
            "offline": reply.model_used == OFFLINE,
        }
        return Outcome(reply.text, response, usage=usage)


def _choice(context: Mapping[str, Any]) -> ModelChoice:
    """The model that the submission wishes for; a tier that is none is the usual model."""
    tier = str(context.get("model_tier") or "").lower()
    return ModelChoice(
        str(context.get("provider_override") or ""),
        str(context.get("model_override") or ""),
        tier if tier in ("small", "medium", "large") else "",  # type: ignore[arg-type]
    )


async def _take_time(ctx: Context, seconds: float) -> None:
    steps = max(1, min(MAX_STEPS, int(seconds / STEP_S)))
    for step in range(steps):
        await ctx.write(f"working, step {step + 1} of {steps}\n", "log")
        await ctx.sleep(seconds / steps, "step")
        await ctx.heartbeat((step + 1) / (steps + 1), f"step {step + 1} of {steps}")
