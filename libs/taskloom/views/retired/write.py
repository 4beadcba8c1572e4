"""What the projection asks and says of retired tasks, in its transactions."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, LiteralString

from msgspec import Struct
from psycopg import Cursor

from taskloom.errors import TaskloomError
from taskloom.wire.messages import OutputChunk

LOAD: Final[LiteralString] = """
SELECT task_id, version, counted FROM retired_tasks WHERE task_id = ANY(%(tasks)s) AND restored_at IS NULL
"""

COUNT: Final[LiteralString] = """
UPDATE retired_tasks AS stone SET counted = news.reached
FROM unnest(%(tasks)s::text[], %(expected)s::int[], %(reached)s::int[]) AS news (task_id, expected, reached)
WHERE stone.task_id = news.task_id AND stone.counted = news.expected AND stone.restored_at IS NULL
"""

BRING_BACK: Final[LiteralString] = """
DELETE FROM retired_tasks AS stone
USING unnest(%(tasks)s::text[], %(expected)s::int[]) AS news (task_id, expected)
WHERE stone.task_id = news.task_id AND stone.counted = news.expected AND stone.restored_at IS NULL
"""

# The tasks of a run's steps: `<run>~<path>`; the character after ~ is 0x7f.
WANT_STEPS: Final[LiteralString] = """
UPDATE retired_tasks AS stone SET wanted = true
FROM unnest(%(tasks)s::text[]) AS run (task_id)
WHERE stone.task_id > (run.task_id || '~') COLLATE "C" AND stone.task_id < (run.task_id || chr(127)) COLLATE "C"
    AND stone.restored_at IS NULL
"""

OUTPUT_UP_TO: Final[LiteralString] = """
SELECT task_id, up_to FROM retired_parts WHERE task_id = ANY(%(tasks)s) AND part = 'output'
UNION ALL
SELECT task_id, 9223372036854775807 FROM retired_tasks WHERE task_id = ANY(%(tasks)s) AND restored_at IS NULL
"""

DROP_TRACES: Final[LiteralString] = """
DELETE FROM goal_traces AS trace USING retired_parts AS gone
WHERE gone.task_id = ANY(%(tasks)s) AND gone.part = 'traces'
    AND trace.task_id = gone.task_id AND trace.number <= gone.up_to
"""


class Stone(Struct, frozen=True):
    """A retired task: its version when its rows went, and up to which event the metrics have it."""

    version: int
    counted: int


class Moved(TaskloomError):
    """A retired task was brought back, or counted on, by somebody else meanwhile."""


def load(cursor: Cursor[Any], task_ids: Collection[str]) -> dict[str, Stone]:
    """Those of the tasks that are retired, by id."""
    if not task_ids:
        return {}
    cursor.execute(LOAD, {"tasks": list(task_ids)})
    return {task_id: Stone(*rest) for task_id, *rest in cursor.fetchall()}


def count(cursor: Cursor[Any], changes: Collection[tuple[str, int, int]]) -> None:
    """Moves ``counted`` of each task id from the first number to the second.

    Raises:
        Moved: one does not stand there.
    """
    if not changes:
        return
    tasks, expected, reached = zip(*sorted(changes), strict=True)
    cursor.execute(COUNT, {"tasks": list(tasks), "expected": list(expected), "reached": list(reached)})
    if cursor.rowcount != len(changes):
        raise Moved


def bring_back(cursor: Cursor[Any], returned: Collection[tuple[str, int]]) -> None:
    """Task ids, with what their ``counted`` is, are retired no longer; the tasks of their steps are to follow.

    Raises:
        Moved: one does not stand there.
    """
    if not returned:
        return
    tasks, expected = zip(*sorted(returned), strict=True)
    cursor.execute(BRING_BACK, {"tasks": list(tasks), "expected": list(expected)})
    if cursor.rowcount != len(returned):
        raise Moved
    cursor.execute(WANT_STEPS, {"tasks": list(tasks)})


def without_retired(cursor: Cursor[Any], chunks: Sequence[OutputChunk]) -> Sequence[OutputChunk]:
    """The pieces of output without those that were retired, which come again when a topic is read anew."""
    if not chunks:
        return chunks
    cursor.execute(OUTPUT_UP_TO, {"tasks": list({chunk.task_id for chunk in chunks})})
    gone: dict[str, int] = {}
    for task_id, up_to in cursor.fetchall():
        gone[task_id] = max(up_to, gone.get(task_id, 0))
    return [chunk for chunk in chunks if chunk.seq > gone.get(chunk.task_id, 0)] if gone else chunks


def drop_traces(cursor: Cursor[Any], goals: Iterable[str]) -> None:
    """Takes away traces that were retired and that reading the goals' events anew has made again."""
    if ids := sorted(set(goals)):
        cursor.execute(DROP_TRACES, {"tasks": ids})
