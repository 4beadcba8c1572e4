"""Steps and variables of a run: each row against the fold of the run's stored events."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TaskSubmitted
from taskloom.views.steps.fold import StepRow, fold_all
from taskloom.views.steps.shape import Shape


def is_run(history: Sequence[Recorded]) -> bool:
    first = history[0].event
    return isinstance(first, TaskSubmitted) and first.spec.kind == "workflow"


def step_faults(
    history: Sequence[Recorded], rows: Sequence[StepRow], variables: Mapping[str, bytes]
) -> Mapping[str, tuple[Any, Any]]:
    """What is stored and what should be, by where they differ; empty when all is well."""
    first = history[0].event
    assert isinstance(first, TaskSubmitted)
    stored, expected = {row.path: row for row in rows}, fold_all(history, Shape(first.spec.input))
    faults: dict[str, tuple[Any, Any]] = {
        f"step {path}": (stored.get(path), expected.rows.get(path))
        for path in sorted({*stored, *expected.rows})
        if stored.get(path) != expected.rows.get(path)
    }
    for name in sorted({*variables, *expected.variables}):
        if variables.get(name) != expected.variables.get(name):
            faults[f"variable {name}"] = (variables.get(name), expected.variables.get(name))
    return faults
