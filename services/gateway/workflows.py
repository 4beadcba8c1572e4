"""A workflow's run as people see it, from the read tables."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from services.gateway.runs import counts_of, progress_of
from taskloom.domain.envelope import Recorded
from taskloom.domain.workflow.events import CheckpointSaved
from taskloom.views.steps.query import Step, StepPage
from taskloom.views.task_executions.row import Row

MAX_STEPS_SHOWN: Final = 10_000
MAX_CHECKPOINTS_SHOWN: Final = 1_000
_RUN_WORDS: Final = {
    **dict.fromkeys(("scheduled", "waiting", "ready"), "pending"),
    **dict.fromkeys(("pausing", "paused"), "paused"),
    **{word: word for word in ("completed", "failed", "cancelled", "timed_out")},
}


class StepSeen(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A step that has begun, or was skipped; ``status``: running, waiting, completed, failed, skipped or cancelled.

    ``parent`` is the path of the step around it; ``index`` says which item of a map it is, ``iteration`` in which round
    of a loop it is. ``task_id``, ``attempts`` and ``executor_id`` are there for a step that is a task of its own.
    ``error`` is also why it was skipped or cancelled. A large ``result`` is a reference: the task has it in full.
    """

    path: str
    status: str
    kind: str
    task_id: str = ""
    error: str = ""
    error_type: str = ""
    parent: str = ""
    index: int | None = None
    iteration: int | None = None
    attempts: int = 0
    executor_id: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    result: Any | UnsetType = UNSET


class StepsSeen(Struct, frozen=True):
    """In the order of their paths. ``next`` is the path to go on ``after``, empty on the last page."""

    task_id: str
    steps: list[StepSeen]
    next: str = ""


class RunSeen(Struct, frozen=True):
    """``progress`` in percent; ``steps`` in the order of their paths; ``counts`` of top-level steps. ``next`` is the
    path to go on ``after``, empty on the last page. ``restarts``: how often the run was retried."""

    status: str
    progress: float
    counts: dict[str, int]
    steps: list[StepSeen]
    variables: dict[str, Any]
    next: str = ""
    restarts: int = 0


class CheckpointSeen(Struct, frozen=True):
    """``version`` is that of the task when the step at ``path`` saved it."""

    version: int
    path: str
    at: datetime


class Checkpoints(Struct, frozen=True):
    """Oldest first."""

    checkpoints: list[CheckpointSeen]


def checkpoints_in(history: Sequence[Recorded]) -> Checkpoints:
    """The last 1,000 checkpoints of a history."""
    saved = [
        CheckpointSeen(recorded.version, recorded.event.path, recorded.meta.at)
        for recorded in history
        if isinstance(recorded.event, CheckpointSaved)
    ]
    return Checkpoints(saved[-MAX_CHECKPOINTS_SHOWN:])


def run_seen(row: Row, page: StepPage, variables: dict[str, Any]) -> RunSeen:
    """The run with a page of its steps."""
    return RunSeen(
        status=_RUN_WORDS.get(row.state, "running"),
        progress=progress_of(row),
        counts=counts_of(row),
        steps=[step_seen(step) for step in page.steps],
        variables=variables,
        next=page.next,
        restarts=row.restarts,
    )


def steps_seen(row: Row, page: StepPage) -> StepsSeen:
    """A page of a run's steps with their results."""
    return StepsSeen(row.task_id, [step_seen(step, with_result=True) for step in page.steps], page.next)


def step_seen(step: Step, *, with_result: bool = False) -> StepSeen:
    of_map = step.kind == "item"
    return StepSeen(
        path=step.path,
        status=step.status,
        kind=step.kind,
        task_id=step.task_id,
        error=step.error,
        error_type=step.error_type,
        parent=step.parent,
        index=step.number if of_map else None,
        iteration=None if of_map else step.number,
        attempts=step.attempts,
        executor_id=step.executor_id,
        started_at=step.started_at,
        completed_at=step.ended_at,
        result=step.result if with_result and step.status == "completed" else UNSET,
    )
