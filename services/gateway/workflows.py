"""A workflow's run as people see it, folded from the events of its task."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from services.gateway.problems import Conflict
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TaskSubmitted
from taskloom.domain.workflow.events import WorkflowEvent
from taskloom.domain.workflow.evolve import fold_run, open_run
from taskloom.domain.workflow.results import progress, step_counts
from taskloom.domain.workflow.state import RunState
from taskloom.domain.workflow.wanted import child_id

MAX_STEPS_SHOWN = 10_000


class StepSeen(Struct, frozen=True, omit_defaults=True):
    """``task_id`` is set for a step that is a task of its own."""

    path: str
    status: str
    kind: str
    task_id: str = ""
    error: str = ""


class RunSeen(Struct, frozen=True):
    """``progress`` in percent; ``steps`` in the order of their paths, at most 10,000; ``counts`` of top-level steps."""

    status: str
    progress: float
    counts: dict[str, int]
    steps: list[StepSeen]
    variables: dict[str, Any]


def run_seen(history: Sequence[Recorded]) -> RunSeen:
    """The run in a history that begins with the task's first event.

    Raises:
        Conflict: the task is no workflow.
    """
    submitted = history[0].event
    if not isinstance(submitted, TaskSubmitted) or submitted.spec.kind != "workflow":
        raise Conflict("the task is no workflow", task_id=history[0].task_id)
    events = [recorded.event for recorded in history if isinstance(recorded.event, WorkflowEvent)]
    run = fold_run(open_run(submitted.spec.input), events)
    return RunSeen(
        "paused" if run.paused else run.status,
        round(progress(run), 2),
        step_counts(run),
        _steps(history[0].task_id, run),
        {name: run.variables[name] for name in sorted(run.variables)},
    )


def _steps(task_id: str, run: RunState) -> list[StepSeen]:
    seen = []
    for path in sorted(run.nodes)[:MAX_STEPS_SHOWN]:
        node = run.nodes[path]
        own = child_id(task_id, path) if node.plan.needs_slot and node.status not in ("ready", "skipped") else ""
        error = "" if node.error is None else node.error.message
        seen.append(StepSeen(path, node.status, node.plan.kind, own, error))
    return seen
