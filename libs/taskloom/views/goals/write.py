"""Events of goals into their tables: the goal's row is read, folded on and written back, with its steps and traces."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, LiteralString

import msgspec
from psycopg import Cursor

from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TaskSubmitted
from taskloom.views.goals.fold import Folded, begun
from taskloom.views.goals.rows import Goal, GoalStep, Trace

AS_JSON: Final = frozenset({"asked", "plans", "states", "doing", "checkpoints", "args", "calls", "usage", "metadata"})
"""Columns of type json."""

GOAL_COLUMNS: Final = Goal.__struct_fields__
STEP_COLUMNS: Final = GoalStep.__struct_fields__
TRACE_COLUMNS: Final = Trace.__struct_fields__


def _put(table: str, columns: Sequence[str], key: Sequence[str]) -> bytes:
    places = ", ".join("%s::json" if name in AS_JSON else "%s" for name in columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    names = ", ".join(columns)
    return f"""
INSERT INTO {table} ({names}) VALUES ({places})
ON CONFLICT ({", ".join(key)}) DO UPDATE SET {changes}
""".encode()


LOAD: Final = f"SELECT {', '.join(GOAL_COLUMNS)} FROM goals WHERE task_id = ANY(%(ids)s)".encode()
PUT_GOAL: Final = _put("goals", GOAL_COLUMNS, ("task_id",))
PUT_STEP: Final = _put("goal_steps", STEP_COLUMNS, ("task_id", "plan", "number"))
PUT_TRACE: Final = _put("goal_traces", TRACE_COLUMNS, ("task_id", "number"))
DELETE_STEPS: Final[LiteralString] = "DELETE FROM goal_steps WHERE task_id = ANY(%(ids)s)"


def apply(cursor: Cursor[Any], events: Sequence[Recorded]) -> None:
    """Folds events, in their order, onto what is there. Each must come once: the rows of their tasks see to it."""
    if not events:
        return
    known = _load(cursor, {recorded.task_id for recorded in events if not isinstance(recorded.event, TaskSubmitted)})
    for recorded in events:
        if isinstance(recorded.event, TaskSubmitted):
            known[recorded.task_id] = begun(recorded)
        elif recorded.task_id in known:
            known[recorded.task_id].fold(recorded)
    folded = [known[name] for name in sorted(known)]
    if anew := [each.goal.task_id for each in folded if each.began_anew]:
        cursor.execute(DELETE_STEPS, {"ids": anew})
    cursor.executemany(PUT_GOAL, [_columns(each.goal) for each in folded])
    cursor.executemany(PUT_STEP, _all(step for each in folded for step in each.steps.values()))
    cursor.executemany(PUT_TRACE, _all(trace for each in folded for trace in each.traces))


def _load(cursor: Cursor[Any], ids: Iterable[str]) -> dict[str, Folded]:
    wanted = sorted(ids)
    if not wanted:
        return {}
    cursor.execute(LOAD, {"ids": wanted})
    goals = [goal_of(columns) for columns in cursor.fetchall()]
    return {goal.task_id: Folded(goal) for goal in goals}


def goal_of(columns: Sequence[Any]) -> Goal:
    """A goal from its table's columns, in the order of ``GOAL_COLUMNS``."""
    return msgspec.convert(dict(zip(GOAL_COLUMNS, columns, strict=True)), Goal)


def step_of(columns: Sequence[Any]) -> GoalStep:
    return msgspec.convert(dict(zip(STEP_COLUMNS, columns, strict=True)), GoalStep)


def trace_of(columns: Sequence[Any]) -> Trace:
    return msgspec.convert(dict(zip(TRACE_COLUMNS, columns, strict=True)), Trace)


def _all(rows: Iterable[GoalStep | Trace]) -> list[tuple[Any, ...]]:
    return [_columns(row) for row in rows]


def _columns(row: Goal | GoalStep | Trace) -> tuple[Any, ...]:
    return tuple(
        msgspec.json.encode(value).decode() if name in AS_JSON else value
        for name in row.__struct_fields__
        for value in (getattr(row, name),)
    )
