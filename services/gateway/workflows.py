"""A workflow's run as people see it, folded from the events of its task."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from taskloom.domain.envelope import Recorded
from taskloom.domain.workflow.draft import within
from taskloom.domain.workflow.events import CheckpointSaved
from taskloom.domain.workflow.plan import Body, StepPlan
from taskloom.domain.workflow.results import progress, step_counts
from taskloom.domain.workflow.state import ROOT, STEP_ENDED, LoopData, Node, RunState
from taskloom.domain.workflow.wanted import child_id

MAX_STEPS_SHOWN: Final = 10_000
MAX_CHECKPOINTS_SHOWN: Final = 1_000
_RUN_ONCE: Final = frozenset({"parallel", "sequential", "conditional"})
"""Kinds whose bodies run once, so that the path of a step in them says all."""


class StepSeen(Struct, frozen=True, omit_defaults=True):
    """``task_id`` is set for a step that is a task of its own."""

    path: str
    status: str
    kind: str
    task_id: str = ""
    error: str = ""


class RunSeen(Struct, frozen=True):
    """``progress`` in percent; ``steps`` in the order of their paths; ``counts`` of top-level steps. ``next`` is the
    path to go on ``after``, empty on the last page."""

    status: str
    progress: float
    counts: dict[str, int]
    steps: list[StepSeen]
    variables: dict[str, Any]
    next: str = ""


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


def run_seen(task_id: str, run: RunState, after: str = "", limit: int = MAX_STEPS_SHOWN) -> RunSeen:
    """The run, with up to ``limit`` steps whose paths come after ``after``."""
    steps = [step for step in _steps(task_id, run) if step.path > after]
    return RunSeen(
        "paused" if run.paused else run.status,
        round(progress(run), 2),
        step_counts(run),
        steps[:limit],
        {name: run.variables[name] for name in sorted(run.variables)},
        steps[limit - 1].path if len(steps) > limit else "",
    )


def _steps(task_id: str, run: RunState) -> list[StepSeen]:
    seen = {}
    for path, node in run.nodes.items():
        own = child_id(task_id, path) if node.plan.needs_slot and node.status not in ("ready", "skipped") else ""
        error = "" if node.error is None else node.error.message
        seen[path] = StepSeen(path, node.status, node.plan.kind, own, error)
    for step in _forgotten(task_id, run, run.plan.root, ROOT, over=False):
        seen.setdefault(step.path, step)
    return [seen[path] for path in sorted(seen)]


def _forgotten(task_id: str, run: RunState, body: Body, frame: str, *, over: bool) -> Iterator[StepSeen]:
    """Steps that ended within steps that ended: the run keeps only how they ended. ``over``: this body is through."""
    for plan in body.steps:
        path = within(frame, plan.id)
        node, ended = run.nodes.get(path), run.latest.get(plan.id)
        if node is None and (not over or ended is None):
            continue  # has not begun
        if node is None and ended is not None:
            own = child_id(task_id, path) if plan.needs_slot and ended.status != "skipped" else ""
            yield StepSeen(path, ended.status, plan.kind, own, "" if ended.error is None else ended.error.message)
        for inner, inner_frame, inner_over in _bodies(plan, path, node):
            yield from _forgotten(task_id, run, inner, inner_frame, over=inner_over)


def _bodies(plan: StepPlan, path: str, node: Node | None) -> list[tuple[Body, str, bool]]:
    """Bodies of a step that has begun, with their path and whether they are through; of a loop the round that runs."""
    if node is not None and isinstance(node.data, LoopData) and node.data.n and plan.body is not None:
        return [(plan.body, within(path, node.data.n), False)]
    if plan.kind not in _RUN_ONCE:
        return []
    taken = (plan.body, plan.other)
    if node is not None and plan.kind == "conditional":
        taken = (plan.body if node.branch else plan.other, None)
    return [(body, path, node is None or node.status in STEP_ENDED) for body in taken if body is not None]
