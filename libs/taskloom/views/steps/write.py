"""Steps and variables of runs into their tables, in the order of their events."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

from msgspec import Struct
from psycopg import Cursor

from taskloom.domain.envelope import Recorded
from taskloom.domain.workflow.events import WorkflowRetried
from taskloom.domain.workflow.state import FAILURE_STEPS
from taskloom.views.copying import Target, copy_rows, micros_or_none
from taskloom.views.steps.fold import StepRow, Steps, set_back
from taskloom.views.steps.query import FIELDS, step_row
from taskloom.views.steps.shape import Shape

_TYPES: Final = ("text",) * 5 + ("int4", "int8", "int8", "text", "text", "bool", "bytea")
_COLUMNS: Final = ("task_id", *FIELDS)
_BESIDE: Final = Target("changed_task_execution_steps", _COLUMNS, _TYPES)
_WRITTEN: Final = tuple(name for name in FIELDS if name not in ("path", "started_at"))

PREPARE: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS changed_task_execution_steps ON COMMIT DELETE ROWS
AS SELECT * FROM task_execution_steps WITH NO DATA
"""

MERGE: Final = f"""
INSERT INTO task_execution_steps AS step ({", ".join(_COLUMNS)})
SELECT {", ".join(_COLUMNS)} FROM changed_task_execution_steps
ON CONFLICT (task_id, path) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _WRITTEN)},
    started_at = coalesce(step.started_at, excluded.started_at)
"""

EMPTY: Final[LiteralString] = "DELETE FROM changed_task_execution_steps"

PUT_VARIABLES: Final[LiteralString] = """
INSERT INTO run_variables (task_id, name, value)
SELECT * FROM unnest(%(tasks)s::text[], %(names)s::bytea[], %(values)s::bytea[])
ON CONFLICT (task_id, name) DO UPDATE SET value = excluded.value
"""

UNDONE: Final = f"""
SELECT {", ".join(FIELDS)} FROM task_execution_steps
WHERE task_id = %(task)s AND (status <> 'completed' OR path LIKE '{FAILURE_STEPS}.%%')
"""

DELETE_SOME: Final[LiteralString] = (
    "DELETE FROM task_execution_steps WHERE task_id = %(task)s AND path = ANY(%(paths)s)"
)
DELETE_STEPS: Final[LiteralString] = "DELETE FROM task_execution_steps WHERE task_id = %(task)s"
DELETE_VARIABLES: Final[LiteralString] = "DELETE FROM run_variables WHERE task_id = %(task)s"


class OfRun(Struct, frozen=True):
    """An event of a run that concerns its steps or variables, and the shape of the run."""

    recorded: Recorded
    shape: Shape


def prepare(cursor: Cursor[Any]) -> None:
    """Makes the session's temporary table; once a connection."""
    cursor.execute(PREPARE.encode())


def apply(cursor: Cursor[Any], events: Sequence[OfRun]) -> None:
    """Writes what events change, in their order. Each must come once: the rows of their tasks see to it."""
    gathered: dict[str, Steps] = {}
    for each in events:
        task_id, event = each.recorded.task_id, each.recorded.event
        if isinstance(event, WorkflowRetried):
            _flush(cursor, gathered)
            cursor.execute(EMPTY)
            gathered = {task_id: _went_on(cursor, task_id, event)}
        else:
            gathered.setdefault(task_id, Steps()).fold(each.recorded, each.shape)
    _flush(cursor, gathered)


def _went_on(cursor: Cursor[Any], task_id: str, event: WorkflowRetried) -> Steps:
    """What the retry of a run leaves to write; it looks at all steps of it that did not complete."""
    if event.start == "start":
        cursor.execute(DELETE_STEPS, {"task": task_id})
        cursor.execute(DELETE_VARIABLES, {"task": task_id})
        return Steps()
    cursor.execute(UNDONE.encode(), {"task": task_id})
    rows = {row.path: row for row in map(step_row, cursor.fetchall())}
    gone, changed = set_back(rows)
    if gone:
        cursor.execute(DELETE_SOME, {"task": task_id, "paths": gone})
    return Steps(changed)


def _flush(cursor: Cursor[Any], gathered: Mapping[str, Steps]) -> None:
    rows = [_columns(task_id, row) for task_id, steps in gathered.items() for row in steps.rows.values()]
    if rows:
        copy_rows(cursor, _BESIDE, rows)
        cursor.execute(MERGE.encode())
    named = [(task_id, *one) for task_id, steps in gathered.items() for one in steps.variables.items()]
    if named:
        values = {
            "tasks": [task_id for task_id, _, _ in named],
            "names": [name.encode() for _, name, _ in named],
            "values": [value for _, _, value in named],
        }
        cursor.execute(PUT_VARIABLES, values)


def _columns(task_id: str, row: StepRow) -> tuple[Any, ...]:
    return (
        task_id,
        row.path,
        row.kind,
        row.status,
        row.parent or None,
        row.number,
        micros_or_none(row.started_at),
        micros_or_none(row.ended_at),
        row.error or None,
        row.error_type or None,
        row.handled or None,
        row.result,
    )
