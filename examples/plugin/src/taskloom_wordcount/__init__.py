"""A kind of task: counts the words of a text, or of a file where the executor runs."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from taskloom.kinds import Context, Handler, Outcome, TaskError

LINES_A_STEP = 10_000


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    """``text``, or ``path`` of a file; ``top``: how many of the most frequent words to return."""

    text: str = ""
    path: str = ""
    top: Annotated[int, Meta(ge=1, le=1000)] = 10


class WordCount(Handler):
    """Reads in steps, so that it tells its progress, and can be paused or cancelled between two steps."""

    kind = "wordcount"

    async def run(self, ctx: Context) -> Outcome:
        wanted = _read(ctx)
        lines = _lines(wanted)
        counts: Counter[str] = Counter()
        for start in range(0, len(lines), LINES_A_STEP):
            counts.update(word.lower() for line in lines[start : start + LINES_A_STEP] for word in line.split())
            await ctx.heartbeat(min(1.0, (start + LINES_A_STEP) / len(lines)), f"{sum(counts.values())} words")
            # A pause holds here; a cancel ends here.
            await ctx.checkpoint(f"line {start}")
        top = counts.most_common(wanted.top)
        for word, count in top:
            await ctx.write(f"{count:8} {word}\n")
        return Outcome(f"{sum(counts.values())} words, {len(counts)} different", {"words": counts.total(), "top": top})


def _read(ctx: Context) -> Input:
    try:
        wanted = msgspec.convert(ctx.input, Input)
    except msgspec.ValidationError as error:
        # Another attempt would get the same input: it is not retryable.
        raise TaskError("invalid_input", f"input: {error}", retryable=False) from error
    if bool(wanted.text) == bool(wanted.path):
        raise TaskError("invalid_input", "input: send either text or path", retryable=False)
    return wanted


def _lines(wanted: Input) -> list[str]:
    if wanted.text:
        return wanted.text.splitlines()
    try:
        return Path(wanted.path).read_text(errors="replace").splitlines()
    except OSError as error:
        # The file may come later: the task's retry policy decides how often to look.
        raise TaskError("unreadable", f"{wanted.path}: {error.strerror}") from error
