"""Reads of a task's output. An unknown task and another tenant's look the same: None."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, LiteralString

from msgspec import Struct

from taskloom.views.reading import Pool, row, rows

MAX_CHUNKS: Final = 10_000
"""Most chunks of one page, whatever limit is asked for."""

MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page ends when it holds this much, so that it is never larger than this and one chunk."""

# Whether all is there: the task ended, and the last chunk of each attempt that reported one is stored. A partition
# keeps an attempt's chunks in order, so its last one comes after all others. What retention took out is not waited for.
TASK: Final[LiteralString] = """
SELECT
    completed_at IS NOT NULL AS ended,
    NOT EXISTS (
        SELECT FROM json_array_elements_text(coalesce(output_ends, '[]')) AS last(seq)
        WHERE last.seq::bigint > coalesce(gone.up_to, 0) AND NOT EXISTS (
            SELECT FROM task_outputs WHERE task_id = %(task)s AND task_outputs.seq = last.seq::bigint)),
    coalesce(gone.up_to, 0), gone.retired_at
FROM task_executions LEFT JOIN (
    SELECT up_to, retired_at FROM retired_parts WHERE task_id = %(task)s AND part = 'output'
) AS gone ON true
WHERE task_id = %(task)s AND tenant_id = %(tenant)s AND deleted_at IS NULL
"""

CHUNKS: Final[LiteralString] = """
SELECT seq, attempt, stream, at, is_text, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) AS bytes_before FROM (
        SELECT * FROM task_outputs
        WHERE task_id = %(task)s AND seq > %(after)s
            AND (%(attempt)s::integer IS NULL OR attempt = %(attempt)s::integer)
            AND (%(streams)s::text[] IS NULL OR stream = ANY(%(streams)s::text[]))
        ORDER BY seq LIMIT %(limit)s
    ) AS candidates
) AS sized
WHERE bytes_before < %(max_bytes)s
ORDER BY seq
"""

LAST: Final[LiteralString] = "SELECT coalesce(max(seq), 0) FROM task_outputs WHERE task_id = %(task)s"


class Chunk(Struct, frozen=True):
    """A piece of output. ``body`` is UTF-8 when ``is_text``, else whatever the program wrote."""

    seq: int
    attempt: int
    stream: str
    at: datetime
    is_text: bool
    body: bytes


class OutputPage(Struct, frozen=True):
    """Chunks in order. ``next`` is what to ask ``after`` for more. ``complete``: this page and those before it hold all
    output that the task will ever have. ``retired_at``: when that up to ``retired_seq`` was taken out; None: none was.
    """

    chunks: list[Chunk]
    next: int
    complete: bool
    retired_seq: int = 0
    retired_at: datetime | None = None


async def chunks(
    pool: Pool,
    tenant_id: str,
    task_id: str,
    *,
    after: int = 0,
    streams: Collection[str] = (),
    attempt: int | None = None,
    limit: int = 1_000,
) -> OutputPage | None:
    """Up to ``limit`` chunks of seq above ``after``; at most about 4 MiB.

    None for an unknown task, or another tenant's.
    """
    # The task first: when it says that all chunks are stored, the chunks read after it are all of them.
    state = await row(pool, TASK, {"task": task_id, "tenant": tenant_id})
    if state is None:
        return None
    ended, stored, *retired = state
    found = await read_chunks(pool, task_id, after=after, streams=streams, attempt=attempt, limit=limit)
    if found:
        more = await read_chunks(pool, task_id, after=found[-1].seq, streams=streams, attempt=attempt, limit=1)
    else:
        more = []
    return OutputPage(found, found[-1].seq if found else after, bool(ended and stored and not more), *retired)


async def read_chunks(
    pool: Pool,
    task_id: str,
    *,
    after: int = 0,
    streams: Collection[str] = (),
    attempt: int | None = None,
    limit: int = 1_000,
) -> list[Chunk]:
    """As ``chunks``, for a caller that has checked whose task it is."""
    values: dict[str, Any] = {
        "task": task_id,
        "after": after,
        "attempt": attempt,
        "streams": sorted(streams) or None,
        "limit": min(limit, MAX_CHUNKS),
        "max_bytes": MAX_PAGE_BYTES,
    }
    return [Chunk(*columns) for columns in await rows(pool, CHUNKS, values)]


async def last_seq(pool: Pool, task_id: str) -> int:
    """Seq of the newest stored chunk, 0 when there is none; for a caller that has checked whose task it is."""
    found = await row(pool, LAST, {"task": task_id})
    return 0 if found is None else int(found[0])
