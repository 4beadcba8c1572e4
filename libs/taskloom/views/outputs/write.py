"""Output chunks into their table. A chunk that is there already is dropped by its key."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString

from psycopg import Cursor
from psycopg.errors import UniqueViolation

from taskloom.views.copying import Target, copy_rows, micros
from taskloom.wire.messages import OutputChunk

_COLUMNS: Final = ("task_id", "seq", "attempt", "stream", "at", "is_text", "body")
_TYPES: Final = ("text", "int8", "int4", "text", "int8", "bool", "bytea")
_TABLE: Final = Target("task_outputs", _COLUMNS, _TYPES)
_BESIDE: Final = Target("arrived_outputs", _COLUMNS, _TYPES)

PREPARE: Final[LiteralString] = """
CREATE TEMPORARY TABLE IF NOT EXISTS arrived_outputs ON COMMIT DELETE ROWS AS SELECT * FROM task_outputs WITH NO DATA
"""

MERGE: Final[LiteralString] = """
INSERT INTO task_outputs (task_id, seq, attempt, stream, at, is_text, body)
SELECT task_id, seq, attempt, stream, at, is_text, body FROM arrived_outputs
ON CONFLICT (task_id, seq) DO NOTHING
"""


def prepare(cursor: Cursor[Any]) -> None:
    """Makes the session's temporary table; once a connection."""
    cursor.execute(PREPARE)


def add(cursor: Cursor[Any], chunks: Sequence[OutputChunk]) -> int:
    """Writes chunks and returns how many were there already.

    Straight into the table, since repeats are rare; when one is met, the batch is written again by way of a temporary
    table that can leave it out.
    """
    if not chunks:
        return 0
    rows = [_columns(chunk) for chunk in chunks]
    cursor.execute("SAVEPOINT outputs")
    try:
        copy_rows(cursor, _TABLE, rows)
    except UniqueViolation:
        cursor.execute("ROLLBACK TO SAVEPOINT outputs")
        copy_rows(cursor, _BESIDE, rows)
        cursor.execute(MERGE)
        return len(rows) - cursor.rowcount
    return 0


def _columns(chunk: OutputChunk) -> tuple[Any, ...]:
    is_text = not chunk.data
    body = chunk.text.encode() if is_text else chunk.data
    return chunk.task_id, chunk.seq, chunk.attempt, chunk.stream, micros(chunk.at), is_text, body
