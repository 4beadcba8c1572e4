"""A run of a workflow in few words, folded from the events of its task."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from services.gateway.problems import Conflict
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TaskSubmitted
from taskloom.domain.workflow.events import WorkflowEvent
from taskloom.domain.workflow.evolve import fold_run, open_run
from taskloom.domain.workflow.results import progress, step_counts
from taskloom.domain.workflow.state import RunState
from taskloom.views.task_executions.fold import fold_all

STATUSES: Final = {
    **dict.fromkeys(("scheduled", "waiting", "ready"), "pending"),
    **dict.fromkeys(("assigned", "running", "retrying", "cancelling"), "running"),
    **dict.fromkeys(("pausing", "paused"), "paused"),
    "completed": "completed",
    **dict.fromkeys(("failed", "timed_out"), "failed"),
    "cancelled": "cancelled",
}
"""The words of a run's status by the state of its task."""


class RunStatus(Struct, frozen=True):
    """``status``: pending, running, paused, completed, failed or cancelled. Steps are those of the top level;
    ``progress_percentage`` is 0 to 100."""

    id: str
    name: str
    status: str
    progress_percentage: float
    started_at: datetime | None
    completed_at: datetime | None
    step_count: int
    completed_steps: int
    failed_steps: int
    running_steps: int


def run_status(history: Sequence[Recorded]) -> RunStatus:
    """The status in a history that begins with the task's first event.

    Raises:
        Conflict: the task is no workflow.
    """
    run, row = _run(history), fold_all(history)
    assert row is not None
    return RunStatus(
        id=row.task_id,
        name=row.name or run.plan.definition.name,
        status=STATUSES[row.state],
        progress_percentage=round(progress(run), 2),
        started_at=row.started_at,
        completed_at=row.completed_at,
        **step_counts(run),
    )


def run_variables(history: Sequence[Recorded]) -> dict[str, Any]:
    """The run's variables, by name. Raises Conflict: the task is no workflow."""
    variables = _run(history).variables
    return {name: variables[name] for name in sorted(variables)}


def _run(history: Sequence[Recorded]) -> RunState:
    submitted = history[0].event
    if not isinstance(submitted, TaskSubmitted) or submitted.spec.kind != "workflow":
        raise Conflict("the task is no workflow", task_id=history[0].task_id)
    events = [recorded.event for recorded in history if isinstance(recorded.event, WorkflowEvent)]
    return fold_run(open_run(submitted.spec.input), events)
