"""A run of a workflow in few words, from its row."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from taskloom.domain.workflow.references import definition_in
from taskloom.views.task_executions.row import Row

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
    ``progress_percentage`` is 0 to 100, never rounded up. ``restarts``: how often the run was retried."""

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
    restarts: int


def run_status(row: Row) -> RunStatus:
    """The status of a run."""
    return RunStatus(
        id=row.task_id,
        name=row.name or str(definition_in(row.input).get("name", "")),
        status=STATUSES[row.state],
        progress_percentage=progress_of(row),
        started_at=row.started_at,
        completed_at=row.completed_at,
        restarts=row.restarts,
        **counts_of(row),
    )


def progress_of(row: Row) -> float:
    """In percent."""
    return round(100.0 * (row.progress or 0.0), 2)


def counts_of(row: Row) -> dict[str, int]:
    """Top-level steps by how they stand."""
    return {
        "step_count": row.steps_total or len(definition_in(row.input).get("steps", ())),
        "completed_steps": row.steps_completed,
        "failed_steps": row.steps_failed,
        "running_steps": row.steps_running,
    }
