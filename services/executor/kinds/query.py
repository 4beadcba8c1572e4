"""``query``: what a task without a kind gets: an offline assistant that says what it is."""

import re
from typing import Final

from taskloom.domain.values import Usage
from taskloom.kinds import Context, Handler, Outcome
from taskloom.kinds.inputs import QueryContext, read

MODEL: Final = "taskloom-offline"
STEP_S: Final = 0.5
PIECE_S: Final = 0.025
"""Between two pieces of the answer: a little more than the time in which small writes are joined."""

MAX_STEPS: Final = 40
QUOTED_CHARS: Final = 2_000


class Query(Handler):
    """Answers without a model, by repeating the query with a count of its words; says so in its answer.

    The answer is streamed as ``message`` output. ``context.sleep_seconds`` makes it take that long, with ``log`` output
    and checkpoints in between.
    """

    kind = "query"

    async def run(self, ctx: Context) -> Outcome:
        seconds = read(QueryContext, ctx.context, root="context").sleep_seconds
        await ctx.checkpoint("start")
        if seconds:
            await _take_time(ctx, seconds)
        words = len(ctx.query.split())
        answer = _answer(ctx.query, words)
        for count, piece in enumerate(_pieces(answer)):
            if count:
                await ctx.sleep(PIECE_S, "answer")
            await ctx.write(piece, "message")
        usage = Usage(words, len(answer.split()), 0.0, MODEL, "offline")
        return Outcome(answer, {"answer": answer, "words": words, "model": MODEL, "offline": True}, usage=usage)


async def _take_time(ctx: Context, seconds: float) -> None:
    steps = max(1, min(MAX_STEPS, int(seconds / STEP_S)))
    for step in range(steps):
        await ctx.write(f"working, step {step + 1} of {steps}\n", "log")
        await ctx.sleep(seconds / steps, "step")
        await ctx.heartbeat((step + 1) / (steps + 1), f"step {step + 1} of {steps}")


def _answer(query: str, words: int) -> str:
    quoted = query if len(query) <= QUOTED_CHARS else query[:QUOTED_CHARS] + " […]"
    counted = f"{words} word{'s' * (words != 1)}, {len(query)} character{'s' * (len(query) != 1)}"
    return f"You asked: {quoted}\n({counted}. This is Taskloom's offline assistant: no model was asked.)"


def _pieces(text: str) -> list[str]:
    """About a line each, so that a reader sees the answer grow."""
    return re.findall(r".{1,80}(?:\s+|$)|\S{1,80}", text, re.DOTALL)
