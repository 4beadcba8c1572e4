"""Decides, one after the other, all that the last events left to decide: starts, skips, ends of bodies, due times."""

from contextlib import suppress
from typing import Any

from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import conditions, starting, stopping
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.definition import WaitStep
from taskloom.domain.workflow.draft import Draft, within
from taskloom.domain.workflow.expressions import BadExpression, render
from taskloom.domain.workflow.outcomes import UNDO
from taskloom.domain.workflow.results import run_result
from taskloom.domain.workflow.scope import Scope
from taskloom.domain.workflow.sizes import MAX_VALUE_BYTES, MAX_VARIABLES_BYTES, check_size, size_of
from taskloom.domain.workflow.state import ENDED, MAX_STARTS, ROOT, LoopData, Node
from taskloom.domain.workflow.values import Absent, ref_of
from taskloom.domain.workflow.work import Work


def settle(work: Work) -> None:
    """Goes on until everything waits for something outside, or the decision is long enough.

    Then a step to decide on, or a timer that is due, is left: the state says that it is due at once. Signals and
    conditions leave no such trace, and are never left. An expression over a large value that is not in memory leaves
    its step where it is: the shell fetches the value and comes back.
    """
    with suppress(Absent):
        _settle(work)


def _settle(work: Work) -> None:
    looked_at = -1
    while not _holds_still(work):
        path = _next(work)
        if path is not None:
            if not work.has_room():
                return
            _step_or_run(work, path)
        elif not (_deliver_signals(work) or _expire(work)):
            if not work.d.watching or looked_at == len(work.events):
                return
            _look_again(work)
            looked_at = len(work.events)


def complete(work: Work, path: str, result: Any) -> None:
    """The step completed: ``result.variables`` go into those of the run. Where they do not fit the step fails.
    What a goal's steps give are the words of a model or a tool: they set nothing."""
    node = work.d.nodes[path]
    if work.d.goal is not None:
        work.emit(e.StepCompleted(path, result))
        return
    ref = ref_of(result) if node.plan.needs_slot else None
    try:
        values = work.means.values.variables(ref) if ref is not None else _variables_of(result)
    except BadExpression as error:
        stopping.fail(work, node, ErrorInfo("Lost", str(error), retryable=False))
        return
    fault = too_many(work.d, values) if values else ""
    if fault:
        stopping.fail(work, node, ErrorInfo("TooLarge", fault, retryable=False))
        return
    if values:
        work.emit(e.VariablesMerged(values, path))
    work.emit(e.StepCompleted(path, result))


def _variables_of(result: Any) -> dict[str, Any]:
    values = result.get("variables") if isinstance(result, dict) else None
    return values if isinstance(values, dict) else {}


def too_many(d: Draft, values: dict[str, Any]) -> str:
    """Why the variables cannot be set; empty when they can."""
    sizes = {name: size_of(value) for name, value in values.items()}
    total = d.variables_bytes + sum(size - d.sizes.get(name, 0) for name, size in sizes.items())
    if total <= MAX_VARIABLES_BYTES:
        return ""
    largest = max(sizes, key=lambda name: sizes[name])
    return (
        f"the run's variables would have {total} bytes, {MAX_VARIABLES_BYTES} are allowed; {largest!r:.80} has "
        f"{sizes[largest]}: return large values beside `variables`, and read them as steps.<id>.result"
    )


def _holds_still(work: Work) -> bool:
    d = work.d
    return d.status in ENDED or (d.paused and not d.stopping)


def _next(work: Work) -> str | None:
    """The step to decide on: what needs no place first, then what waited longest for one."""
    d = work.d
    head = d.agenda.head
    if head is None and d.running < d.plan.definition.max_parallel_tasks:
        head = d.slots.head
    return head


def _step_or_run(work: Work, path: str) -> None:
    d = work.d
    if path == ROOT:
        _decide_run(work)
        return
    node = d.nodes[path]
    if node.status == "ready":
        if node.doomed:
            work.emit(e.StepSkipped(path, node.doomed))
        elif d.started >= MAX_STARTS and not d.stopping:
            stopping.stop_run(work, "failed", f"the run started {MAX_STARTS} steps, which is its limit")
        else:
            starting.start_step(work, node)
    elif node.joined:
        _join(work, node)
    elif node.stopping:
        stopping.stop_next_item(work, node)
    else:
        starting.next_item(work, node)


def _join(work: Work, node: Node) -> None:
    """All that ran within the step has ended."""
    if node.error is not None:
        stopping.fail(work, node, node.error)
    elif node.stopping:
        work.emit(e.StepCancelled(node.path, node.stopping))
    elif isinstance(node.data, LoopData) and not node.data.over:
        starting.next_round(work, node)
    else:
        work.emit(e.StepCompleted(node.path))


def _decide_run(work: Work) -> None:
    """The workflow's own body has ended, or a compensation, or the failure steps: what comes now."""
    d = work.d
    if d.phase == "compensation" and d.undoing is not None:
        frame = d.frames[within(d.undoing.path, UNDO)]
        stopped = ErrorInfo("Cancelled", frame.stopping, retryable=False) if frame.stopping else None
        work.emit(e.StepCompensated(d.undoing.path, frame.error or stopped))
    elif d.stopping == "cancelled":
        work.emit(e.WorkflowCancelled(d.reason))
    elif d.phase == "compensation" and d.undo is not None:
        work.emit(e.StepCompensating(d.undo[0].path))
    elif d.phase == "steps" and _cause(work) is None:
        _complete(work)
    elif d.phase == "steps" and d.undo is not None and (d.compensate or d.plan.definition.on_failure == "compensate"):
        work.emit(e.CompensationStarted(d.undo_count))
    elif d.phase != "failure_steps" and d.plan.failure is not None:
        work.emit(e.FailureStepsStarted())
    elif d.stopping == "timed_out":
        work.emit(e.WorkflowTimedOut(d.plan.definition.timeout_seconds or 0.0))
    else:
        frame = d.frames[ROOT]
        work.emit(e.WorkflowFailed(_cause(work) or _unknown(), d.failed_at or frame.failed_at, d.compensated))


def _cause(work: Work) -> ErrorInfo | None:
    """Why the run fails; None when it does not."""
    d = work.d
    error = d.error or d.frames[ROOT].error
    if error is None and d.stopping:
        return ErrorInfo("Timeout" if d.stopping == "timed_out" else "Stopped", d.reason, retryable=False)
    return error


def _unknown() -> ErrorInfo:
    return ErrorInfo("Failed", "the workflow failed", retryable=False)


def _complete(work: Work) -> None:
    template = work.d.plan.definition.output
    try:
        output = None if template is None else render(template, Scope(work.d, ROOT, values=work.means.values))
        result = run_result(work.d, work.means.values) if template is None else output
        check_size("it", result, MAX_VALUE_BYTES, "give the definition an output that names less of the steps' results")
        work.emit(e.WorkflowCompleted(output))
    except BadExpression as error:
        work.emit(e.WorkflowFailed(starting.expression_error(error, "output")))


def _deliver_signals(work: Work) -> bool:
    """Gives the oldest kept signal of a name to the step that waited longest for it; False when none fits."""
    d = work.d
    if not d.kept_signals or not d.listeners:
        return False
    fewer, other = sorted((d.signals, d.listeners), key=len)
    name = min((name for name in fewer if name in other), default=None)
    path = None if name is None else d.listeners[name].head
    if name is None or path is None:
        return False
    payload = d.signals[name][0]
    work.emit(e.SignalDelivered(path, name))
    complete(work, path, payload)
    return True


def _expire(work: Work) -> bool:
    """Lets the earliest timer happen; False when none is due."""
    first = work.d.timers.first
    if first is None or first.due_at > work.now or not work.has_room():
        return False
    if first.path == ROOT:
        limit_s = work.d.plan.definition.timeout_seconds
        stopping.stop_run(work, "timed_out", f"the workflow passed its limit of {limit_s} s")
    else:
        starting.expire_step(work, work.d.nodes[first.path])
    return True


def _look_again(work: Work) -> None:
    """Looks at all conditions that steps wait for."""
    waiting = work.d.watching.by_place
    for place in sorted(waiting):
        node = work.d.nodes.get(waiting[place])
        if node is None or node.status != "waiting":
            continue  # the end of one before it stopped this one
        assert isinstance(node.plan.step, WaitStep)
        condition = node.plan.step.wait_condition
        try:
            holds = condition is not None and conditions.holds(condition, work.scope(node))
        except BadExpression as error:
            stopping.fail(work, node, starting.expression_error(error, "wait_condition"))
            continue
        if holds:
            work.emit(e.StepCompleted(node.path, {"wait_completed": True}))
