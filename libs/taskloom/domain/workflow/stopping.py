"""How steps fail, and how what runs is stopped: for a failure, a cancel, or a limit that passed."""

from typing import Any, Literal

from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.definition import MapStep, ParallelStep, Step
from taskloom.domain.workflow.draft import within
from taskloom.domain.workflow.evolve import outermost
from taskloom.domain.workflow.state import ROOT, STEP_ENDED, LoopData, MapData, Node
from taskloom.domain.workflow.work import Work


def fail(work: Work, node: Node, error: ErrorInfo, *, refused: bool = False) -> None:
    """The step failed. What depends on it is skipped later; the rest of its body stops now where that is wished.
    ``refused``: there is no task of it."""
    d, rule = work.d, node.plan.step.on_failure
    handled = rule == "continue"
    work.emit(e.StepFailed(node.path, error, handled, refused, node.status != "ready"))
    if rule == "compensate" and d.phase == "steps" and not d.stopping:
        stop_run(work, "failed", f"{node.path} failed")
    elif not handled:
        _fail_fast(work, node)


def _fail_fast(work: Work, node: Node) -> None:
    d, reason = work.d, f"{node.path} failed"
    if node.frame == ROOT:
        if d.plan.definition.fail_fast and not d.stopping:
            stop_run(work, "failed", reason)
        return
    frame = d.frames.get(node.frame)
    owner = d.nodes.get(node.frame if frame is None else frame.node)
    if owner is not None and _stops_at_failure(owner.plan.step) and not owner.stopping:
        stop_step(work, owner, reason)


def _stops_at_failure(step: Step) -> bool:
    if isinstance(step, MapStep):
        return step.fail_fast and not step.allow_failures
    return isinstance(step, ParallelStep) and step.fail_fast


def stop_run(work: Work, why: Literal["cancelled", "timed_out", "failed"], reason: str) -> None:
    """Nothing new starts, and everything that runs is told to stop."""
    work.emit(e.WorkflowStopping(why, reason))
    for frame in outermost(work.d):
        _stop_frame(work, frame, reason or why)


def stop_step(work: Work, node: Node, reason: str) -> None:
    """Ends what only waits, and asks what runs to end."""
    if node.status in STEP_ENDED:
        return
    if node.status == "ready":
        work.emit(e.StepSkipped(node.path, reason))
    elif node.status == "waiting":
        work.emit(e.StepCancelled(node.path, reason))
    elif not node.stopping:
        if node.plan.needs_slot:
            work.emit(e.StepCancelRequested(node.path, reason, node.restart or 0))
        else:
            work.emit(e.StepStopping(node.path, reason))
            _stop_within(work, node, reason)


def break_off(work: Work, error: ErrorInfo) -> None:
    """The run fails as it stands: its tasks are told to end, and nothing else is decided any more."""
    d = work.d
    for path in sorted(d.nodes):
        node = d.nodes[path]
        if node.status == "running" and node.plan.needs_slot and not node.stopping:
            work.emit(e.StepCancelRequested(path, error.message, node.restart or 0))
    work.emit(e.WorkflowFailed(error, compensated=d.compensated))


def stop_next_item(work: Work, node: Node) -> None:
    """A map that is stopped asks its items to end one by one, so that a wide one can be left half-way."""
    assert isinstance(node.data, MapData)
    at = next(iter(node.data.untold))
    stop_step(work, work.d.nodes[within(node.path, at)], node.stopping)


def _stop_within(work: Work, node: Node, reason: str) -> None:
    if isinstance(node.data, MapData):
        return  # it is on the agenda now: see stop_next_item
    frame = within(node.path, node.data.n) if isinstance(node.data, LoopData) else node.path
    if frame in work.d.frames:
        _stop_frame(work, frame, reason)


def _stop_frame(work: Work, path: str, reason: str) -> None:
    for plan in work.d.frames[path].body.steps:
        step = within(path, plan.id)
        node = work.d.nodes.get(step)
        if node is None:
            work.emit(e.StepSkipped(step, reason))
        else:
            stop_step(work, node, reason)


def answer_approval(work: Work, node: Node, answer: dict[str, Any]) -> None:
    """The approval ends: by a decision, or by its limit."""
    if answer["approved"] or node.plan.step.on_reject == "continue":  # type: ignore[union-attr]
        work.emit(e.StepCompleted(node.path, answer))
        return
    by = f" by {answer['by']}" if answer.get("by") else ""
    fail(work, node, ErrorInfo("Rejected", f"rejected{by}: {answer.get('comment') or 'no comment'}", retryable=False))
