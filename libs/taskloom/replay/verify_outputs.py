"""Stored output: each attempt's against what its executor reported."""

from collections.abc import Mapping, Sequence

from taskloom.domain.envelope import Recorded
from taskloom.domain.values import OUTPUT_SEQ_SPAN
from taskloom.replay import verify_sql as sql
from taskloom.replay.verify_steps import Faults
from taskloom.views.attempts.fold import attempts
from taskloom.views.reading import Pool, rows
from taskloom.views.retired import query as retired

NAMES = ("chunks", "last seq", "bytes")
NONE = (0, 0, 0)


async def output_faults(pool: Pool, histories: Mapping[str, Sequence[Recorded]]) -> dict[str, Faults]:
    """Of these tasks what differs, by task id; those without a difference are absent."""
    wanted = {task_id: summaries_of(history) for task_id, history in histories.items()}
    wanted = {task_id: summaries for task_id, summaries in wanted.items() if summaries}
    if not wanted:
        return {}
    there = {
        (task_id, attempt): (chunks, last, size)
        for task_id, attempt, chunks, last, size in await rows(pool, sql.OUTPUTS, {"tasks": list(wanted)})
    }
    gone = await retired.parts_of(pool, list(wanted))
    found: dict[str, Faults] = {}
    for task_id, summaries in wanted.items():
        part = gone.get((task_id, "output"))
        for attempt, reported in summaries.items():
            due = NONE if part is not None and reported[1] <= part.up_to else reported
            for name, is_there, is_due in zip(NAMES, there.get((task_id, attempt), NONE), due, strict=True):
                if is_there != is_due:
                    found.setdefault(task_id, {})[f"output of attempt {attempt}, {name}"] = (is_there, is_due)
    return found


def summaries_of(history: Sequence[Recorded]) -> dict[int, tuple[int, int, int]]:
    """Chunks, last seq and bytes of each attempt that reported output."""
    if not any(b'"last_seq"' in recorded.body for recorded in history):
        return {}
    return {
        tried.attempt: (
            tried.output.last_seq - (tried.attempt - 1) * OUTPUT_SEQ_SPAN,
            tried.output.last_seq,
            tried.output.bytes,
        )
        for tried in attempts(history)
        if tried.output.last_seq
    }
