"""Goals, their steps and traces: each row against the fold of the goal's stored events."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TaskSubmitted
from taskloom.replay import verify_sql as sql
from taskloom.replay.verify_steps import Faults
from taskloom.views.goals.fold import KIND, Folded, fold_all
from taskloom.views.goals.rows import Goal, GoalStep, Trace
from taskloom.views.goals.write import goal_of, step_of, trace_of
from taskloom.views.reading import Pool, rows
from taskloom.views.retired import query as retired


class _Stored:
    """What the tables have of one goal, by what it is called in a report."""

    def __init__(self) -> None:
        self.rows: dict[str, Goal | GoalStep | Trace] = {}

    def add(self, found: Goal | GoalStep | Trace) -> None:
        self.rows[_name(found)] = found


async def goal_faults(pool: Pool, histories: Mapping[str, Sequence[Recorded]]) -> dict[str, Faults]:
    """Of the goals among these tasks what differs, by task id; those without a difference are absent."""
    goals = {task_id: history for task_id, history in histories.items() if _is_goal(history)}
    if not goals:
        return {}
    stored = {task_id: _Stored() for task_id in goals}
    wanted = {"tasks": list(goals)}
    for columns in await rows(pool, sql.GOALS, wanted):
        stored[columns[0]].add(goal_of(columns))
    for columns in await rows(pool, sql.GOAL_STEPS, wanted):
        stored[columns[0]].add(step_of(columns))
    for columns in await rows(pool, sql.GOAL_TRACES, wanted):
        stored[columns[0]].add(trace_of(columns))
    gone = await retired.parts_of(pool, list(goals))
    found: dict[str, Faults] = {}
    for task_id, history in goals.items():
        part = gone.get((task_id, "traces"))
        found[task_id] = _faults(stored[task_id].rows, _expected(history, 0 if part is None else part.up_to))
    return {task_id: faults for task_id, faults in found.items() if faults}


def _is_goal(history: Sequence[Recorded]) -> bool:
    first = history[0].event
    return isinstance(first, TaskSubmitted) and first.spec.kind == KIND


def _expected(history: Iterable[Recorded], retired_up_to: int) -> dict[str, Goal | GoalStep | Trace]:
    folded = fold_all(history)
    assert isinstance(folded, Folded)
    traces = [trace for trace in folded.traces if trace.number > retired_up_to]
    due: list[Goal | GoalStep | Trace] = [folded.goal, *folded.steps.values(), *traces]
    return {_name(each): each for each in due}


def _name(row: Goal | GoalStep | Trace) -> str:
    if isinstance(row, GoalStep):
        return f"goal step {row.plan}.{row.number}"
    return f"goal trace {row.number}" if isinstance(row, Trace) else "goal"


def _faults(there: Mapping[str, Any], due: Mapping[str, Any]) -> Faults:
    names = sorted({*there, *due})
    return {name: (there.get(name), due.get(name)) for name in names if there.get(name) != due.get(name)}
