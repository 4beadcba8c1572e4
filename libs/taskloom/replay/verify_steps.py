"""Steps and variables of runs: each row against the fold of the run's stored events."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskloom.domain.envelope import Recorded
from taskloom.domain.runs import is_run
from taskloom.domain.task.events import TaskSubmitted
from taskloom.replay import verify_sql as sql
from taskloom.views.reading import Pool, rows
from taskloom.views.steps.fold import StepRow, fold_all
from taskloom.views.steps.query import step_row
from taskloom.views.steps.shape import Shape

Faults = dict[str, tuple[Any, Any]]
"""What is stored and what should be, by where they differ."""


async def step_faults(pool: Pool, histories: Mapping[str, Sequence[Recorded]]) -> dict[str, Faults]:
    """Of the runs among these tasks what differs, by task id; those without a difference are absent."""
    runs = {task_id: history for task_id, history in histories.items() if _is_run(history)}
    if not runs:
        return {}
    stored: dict[str, list[StepRow]] = {}
    for task_id, *columns in await rows(pool, sql.STEPS, {"tasks": list(runs)}):
        stored.setdefault(task_id, []).append(step_row(columns))
    variables: dict[str, dict[str, bytes]] = {}
    for task_id, name, value in await rows(pool, sql.VARIABLES, {"tasks": list(runs)}):
        variables.setdefault(task_id, {})[bytes(name).decode()] = bytes(value)
    found = {name: _faults(runs[name], stored.get(name, ()), variables.get(name, {})) for name in runs}
    return {task_id: faults for task_id, faults in found.items() if faults}


def _is_run(history: Sequence[Recorded]) -> bool:
    first = history[0].event
    return isinstance(first, TaskSubmitted) and is_run(first.spec.kind)


def _faults(history: Sequence[Recorded], stored: Sequence[StepRow], variables: Mapping[str, bytes]) -> Faults:
    first = history[0].event
    assert isinstance(first, TaskSubmitted)
    there, expected = {row.path: row for row in stored}, fold_all(history, Shape(first.spec.input))
    faults: Faults = {
        f"step {path}": (there.get(path), expected.rows.get(path))
        for path in sorted({*there, *expected.rows})
        if there.get(path) != expected.rows.get(path)
    }
    for name in sorted({*variables, *expected.variables}):
        if variables.get(name) != expected.variables.get(name):
            faults[f"variable {name}"] = (variables.get(name), expected.variables.get(name))
    return faults
