"""Task rows into their table: new ones are copied in, known ones copied beside and merged. And the counts by status."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, LiteralString

from msgspec import Struct
from psycopg import Cursor

from taskloom.views.copying import Target, as_json, as_jsonb, copy_rows, encode, micros, micros_or_none
from taskloom.views.task_executions.query import row_of
from taskloom.views.task_executions.row import CHANGING, EDITABLE, FIELDS, FIXED, Row

_FIXED_TYPES: Final = (
    *("text",) * 7,
    "int2",
    *("text",) * 2,
    *("bytea",) * 4,
    "int4",
    *("int8",) * 3,
    *("text",) * 5,
    "int8",
)
_CHANGING_TYPES: Final = (
    "int4", "text", "text", "text", "int4", "int4", "text", "text", "bytea", "text", "text", "int4", "float8", "text",
    *("int8",) * 6,
    "bool", "bool", "int8", "int8", "text", "text", "text",
    "bool", "int8", "text", "text", "bool",
    "int8", "int8", "float8", "text", "text",
    "int8", "bytea", "int8", "int8", "int8",
    "int4", "int4", "int4", "text", "int4", "int4", "bytea", "int4", "int4",
)  # fmt: skip

_EDIT_TYPES: Final = {
    **dict.fromkeys(("name", "queue", "description", "assigned_to"), "::text"),
    "priority": "::smallint",
    **dict.fromkeys(("metadata", "tags"), "::jsonb"),
    **dict.fromkeys(("deadline", "deleted_at"), "::timestamptz"),
}
assert _EDIT_TYPES.keys() == set(EDITABLE)

_TABLE: Final = Target("task_executions", FIELDS, _FIXED_TYPES + _CHANGING_TYPES)
_BESIDE: Final = Target("changed_task_executions", ("task_id", *CHANGING), ("text", *_CHANGING_TYPES))

PREPARE: Final = f"""
CREATE TEMPORARY TABLE IF NOT EXISTS changed_task_executions ON COMMIT DELETE ROWS
AS SELECT task_id, {", ".join(CHANGING)} FROM task_executions WITH NO DATA
"""

MERGE: Final = f"""
UPDATE task_executions AS row SET {", ".join(f"{name} = changed.{name}" for name in CHANGING)}
FROM changed_task_executions AS changed
WHERE row.task_id = changed.task_id
"""

EDIT: Final = f"""
UPDATE task_executions SET {", ".join(f"{name} = %({name})s{cast}" for name, cast in _EDIT_TYPES.items())}
WHERE task_id = %(task_id)s
"""

LOAD: Final = f"SELECT {', '.join(FIELDS)} FROM task_executions WHERE task_id = ANY(%(tasks)s)"

COUNT: Final[LiteralString] = """
INSERT INTO task_counts AS counted (tenant_id, partition, status, tasks)
SELECT * FROM unnest(%(tenants)s::text[], %(partitions)s::integer[], %(statuses)s::text[], %(changes)s::bigint[])
ON CONFLICT (tenant_id, partition, status) DO UPDATE SET tasks = counted.tasks + excluded.tasks
"""


class MissingRow(Exception):
    """A row that should be updated is not in the table."""


class CountKey(Struct, frozen=True, array_like=True):
    tenant_id: str
    partition: int
    status: str


def prepare(cursor: Cursor[Any]) -> None:
    """Makes the session's temporary table; once a connection."""
    cursor.execute(PREPARE.encode())


def load(cursor: Cursor[Any], task_ids: Sequence[str]) -> dict[str, Row]:
    """Rows by task id, of any tenant; unknown ids are absent."""
    if not task_ids:
        return {}
    cursor.execute(LOAD.encode(), {"tasks": list(task_ids)})
    return {row.task_id: row for row in map(row_of, cursor.fetchall())}


def insert(cursor: Cursor[Any], rows: Iterable[Row]) -> None:
    """Writes rows that are new.

    Raises:
        psycopg.errors.UniqueViolation: one is there already.
    """
    copy_rows(cursor, _TABLE, (_fixed(row) + _changing(row) for row in rows))


def update(cursor: Cursor[Any], rows: Sequence[Row]) -> None:
    """Writes what changed of rows that are there.

    Raises:
        MissingRow: one is not.
    """
    copy_rows(cursor, _BESIDE, ((row.task_id, *_changing(row)) for row in rows))
    cursor.execute(MERGE.encode())
    if cursor.rowcount != len(rows):
        raise MissingRow


def edit(cursor: Cursor[Any], rows: Sequence[Row]) -> None:
    """Writes the ``EDITABLE`` columns of rows that are there; for few of them, a statement each."""
    if rows:
        cursor.executemany(EDIT.encode(), [_editable(row) for row in rows])


def is_edited(row: Row, before: Row) -> bool:
    """Whether a column that ``update`` leaves alone is another one."""
    return any((new := getattr(row, name)) is not (old := getattr(before, name)) and new != old for name in EDITABLE)


def count(cursor: Cursor[Any], changes: Mapping[CountKey, int]) -> None:
    """Adds to the counts by status; ``changes`` may be negative."""
    kept = sorted((tuple(_parts(key)), change) for key, change in changes.items() if change)
    if kept:
        cursor.execute(
            COUNT,
            {
                "tenants": [key[0] for key, _ in kept],
                "partitions": [key[1] for key, _ in kept],
                "statuses": [key[2] for key, _ in kept],
                "changes": [change for _, change in kept],
            },
        )


def _parts(key: CountKey) -> tuple[str, int, str]:
    return key.tenant_id, key.partition, key.status


def _editable(row: Row) -> dict[str, Any]:
    values = {name: getattr(row, name) or None for name in EDITABLE}
    as_text = {name: json.decode() for name in ("metadata", "tags") if (json := as_json(getattr(row, name)))}
    return {**values, "queue": row.queue, "metadata": None, "tags": None, **as_text, "task_id": row.task_id}


def _fixed(row: Row) -> tuple[Any, ...]:
    """Columns ``FIXED``, in order."""
    return (
        row.task_id,
        row.tenant_id,
        row.user_id or None,
        row.session_id or None,
        row.name or None,
        row.kind,
        row.queue,
        row.priority,
        row.query or None,
        row.mode or None,
        as_json(row.context),
        as_jsonb(row.metadata),
        as_jsonb(row.tags),
        as_json(row.input),
        row.max_attempts,
        micros(row.created_at),
        micros_or_none(row.run_at),
        micros_or_none(row.deadline),
        row.callback_url or None,
        row.correlation_id or None,
        row.traceparent or None,
        row.description or None,
        row.assigned_to or None,
        micros_or_none(row.deleted_at),
    )


def _changing(row: Row) -> tuple[Any, ...]:
    """Columns ``CHANGING``, in order."""
    return (
        row.version,
        row.phase,
        row.state,
        row.status,
        row.attempt,
        row.failures or None,
        row.executor_id or None,
        row.result or None,
        None if row.response is None else encode(row.response),
        row.error or None,
        row.error_type or None,
        row.exit_code,
        row.progress,
        row.progress_message or None,
        micros_or_none(row.queued_at),
        micros_or_none(row.started_at),
        micros_or_none(row.completed_at),
        micros_or_none(row.failed_at),
        micros_or_none(row.updated_at),
        micros_or_none(row.retry_at),
        row.overdue or None,
        row.is_paused or None,
        micros_or_none(row.pause_requested_at),
        micros_or_none(row.paused_at),
        row.pause_reason or None,
        row.paused_by or None,
        row.checkpoint or None,
        row.is_cancelled or None,
        micros_or_none(row.cancel_requested_at),
        row.cancel_reason or None,
        row.cancelled_by or None,
        row.was_paused or None,
        row.input_tokens or None,
        row.output_tokens or None,
        row.cost_usd or None,
        row.model_used or None,
        row.provider or None,
        row.output_last_seq or None,
        as_json(row.output_ends),
        row.output_chunks or None,
        row.output_bytes or None,
        micros_or_none(row.attempt_started_at),
        row.steps_total or None,
        row.steps_ended or None,
        row.steps_failed or None,
        row.current_step or None,
        row.steps_completed or None,
        row.steps_running or None,
        as_json(row.steps_parts),
        row.restarts or None,
        row.steps_since or None,
    )


assert len(_FIXED_TYPES) == len(FIXED)
assert len(_CHANGING_TYPES) == len(CHANGING)
