"""How each kind of step begins, how loops and maps go on, and what happens when a waiting step's time is up."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import conditions, expressions, goal_steps
from taskloom.domain.workflow import definition as d
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.draft import within
from taskloom.domain.workflow.expressions import BadExpression, render_in
from taskloom.domain.workflow.plan import StepPlan
from taskloom.domain.workflow.references import PINNED, pinned_for, reference_of
from taskloom.domain.workflow.scope import Scope
from taskloom.domain.workflow.sizes import (
    MAX_TASK_BYTES,
    MAX_TEXT_BYTES,
    MAX_VALUE_BYTES,
    TooLarge,
    check_size,
    size_of,
)
from taskloom.domain.workflow.state import MAX_WATCHING, ROOT, LoopData, MapData, Node
from taskloom.domain.workflow.stopping import answer_approval, fail
from taskloom.domain.workflow.work import Work

MAX_ITEMS_PER_EVENT: Final = 500
MAX_ITEM_BYTES_PER_EVENT: Final = 48 * 1024
DEFAULT_ROUNDS: Final = 100
MAX_WAIT_S: Final = 366 * 86_400.0


def start_step(work: Work, node: Node) -> None:
    """The step begins, or fails where its expressions cannot be evaluated."""
    if node.frame == ROOT and node.plan.id in work.d.restored:
        work.emit(e.StepRestored(node.path, work.d.restored[node.plan.id]))
        return
    try:
        _STARTS[node.plan.kind](work, node, node.plan.step)
    except BadExpression as error:
        fail(work, node, expression_error(error))


def expression_error(error: BadExpression, field: str = "") -> ErrorInfo:
    if field:
        error.within(field)
    return ErrorInfo(type(error).__name__, f"{error.where}: {error}" if error.where else str(error), retryable=False)


def next_item(work: Work, node: Node) -> None:
    """The map's next item begins."""
    data, plan = node.data, node.plan.item
    assert isinstance(data, MapData)
    assert plan is not None
    assert data.upcoming is not None
    path = within(node.path, data.upcoming)
    if plan.body is not None:
        work.emit(e.StepStarted(path, len(plan.body.steps)))
        return
    try:
        scope = Scope(work.d, path, values=work.means.values)
        work.emit(e.StepScheduled(path, _submission(plan, _template_of(plan), scope), work.d.restarts))
    except BadExpression as error:
        # The item has begun before it can fail, so that its end is counted like any other.
        work.emit(e.StepStarted(path))
        fail(work, work.d.nodes[path], expression_error(error))


def next_round(work: Work, node: Node) -> None:
    """The condition is looked at, for the first time or after a round; the loop ends at its limit."""
    step, data = node.plan.step, node.data
    assert isinstance(step, d.LoopStep)
    done = data.n if isinstance(data, LoopData) else 0
    limit = step.max_iterations or DEFAULT_ROUNDS
    if done >= limit:
        work.emit(e.StepCompleted(node.path))
        return
    scope = Scope(work.d, within(node.path, done), values=work.means.values) if done else work.scope(node)
    try:
        over = done > 0 and step.until_condition is not None and conditions.holds(step.until_condition, scope)
    except BadExpression as error:
        fail(work, node, expression_error(error, "until_condition"))
        return
    try:
        goes_on = not over and (step.loop_condition is None or conditions.holds(step.loop_condition, scope))
    except BadExpression as error:
        fail(work, node, expression_error(error, "loop_condition"))
        return
    work.emit(e.LoopRound(node.path, done + 1, goes_on, limit))


def expire_step(work: Work, node: Node) -> None:
    """The time of a wait is over, or the limit of a step that waits for something."""
    step = node.plan.step
    if isinstance(step, d.WaitStep) and step.wait_seconds is not None:
        work.emit(e.StepCompleted(node.path, {"wait_completed": True}))
    elif isinstance(step, d.ApprovalStep):
        work.emit(e.ApprovalExpired(node.path, step.on_timeout))
        if step.on_timeout == "fail":
            _time_out(work, node, step.timeout_seconds)
        else:
            answer = {"approved": step.on_timeout == "approve", "by": "", "comment": "nobody decided in time"}
            answer_approval(work, node, answer)
    elif isinstance(step, (d.WaitStep, d.SignalStep)):
        if step.on_timeout == "fail":
            _time_out(work, node, step.timeout_seconds)
        else:
            work.emit(e.StepCompleted(node.path, {"wait_completed": False} if isinstance(step, d.WaitStep) else None))


def _time_out(work: Work, node: Node, limit_s: float | None) -> None:
    fail(work, node, ErrorInfo("Timeout", f"nothing came within {limit_s} s", retryable=False))


def _task(work: Work, node: Node, _step: d.TaskStep) -> None:
    submission = _submission(node.plan, _template_of(node.plan), work.scope(node))
    work.emit(e.StepScheduled(node.path, submission, work.d.restarts))


def _template_of(plan: StepPlan) -> d.Template:
    assert isinstance(plan.step, d.TaskStep)
    return plan.step.task_template


def _submission(plan: StepPlan, template: d.Template, scope: Scope) -> dict[str, Any]:
    fields = render_in("task_template", template, scope)
    fields.setdefault("name", plan.step.name or plan.id)
    fields["metadata"] = {**(fields.get("metadata") or {}), "workflow_step_id": plan.id}
    try:
        msgspec.convert(fields, SubmitTask)
    except msgspec.ValidationError as error:
        raise BadExpression(f"task_template: the task cannot be submitted: {error}") from error
    rest = {name: value for name, value in fields.items() if name != "input"}
    check_size("task_template.input: it", fields.get("input"), MAX_VALUE_BYTES, "hand on less of what the steps gave")
    check_size("task_template: the task without its input", rest, MAX_TASK_BYTES, "put large values into the input")
    submission: dict[str, Any] = fields
    return submission


def _child(work: Work, node: Node, step: d.ChildStep) -> None:
    if node.restart is not None:
        work.emit(e.StepRetried(node.path, node.restart))
        return
    scope = work.scope(node)
    run_input = {
        **_followed(step, work.d.plan.pinned),
        "variables": render_in("variables", step.variables, scope),
        "context": render_in("context", step.context, scope),
    }
    template = {"kind": "workflow", "name": step.name or step.id, "metadata": step.metadata}
    fields = {**_submission(node.plan, template, scope), "input": run_input}
    check_size("the child workflow", fields, MAX_TASK_BYTES, "hand less to it in variables and context")
    work.emit(e.StepScheduled(node.path, fields, work.d.restarts))


def _followed(step: d.ChildStep, pinned: dict[str, Any]) -> dict[str, Any]:
    """The child's definition, with the stored ones in it as they were pinned into this run."""
    if step.workflow is None:
        within = pinned_for(step.definition, pinned)
        return {"definition": step.definition, **({PINNED: within} if within else {})}
    reference = reference_of(step.workflow)
    stored = pinned[reference.key]
    within = {reference.key: stored, **pinned_for(stored["definition"], pinned)}
    return {"workflow": step.workflow, PINNED: within}


def _body(work: Work, node: Node, _step: d.ParallelStep | d.SequentialStep) -> None:
    work.emit(e.StepStarted(node.path, 0 if node.plan.body is None else len(node.plan.body.steps)))


def _conditional(work: Work, node: Node, step: d.ConditionalStep) -> None:
    try:
        holds = conditions.holds(step.condition, work.scope(node))
    except BadExpression as error:
        error.within("condition")
        raise
    body = node.plan.body if holds else node.plan.other
    work.emit(e.BranchTaken(node.path, holds, 0 if body is None else len(body.steps)))


def _loop(work: Work, node: Node, _step: d.LoopStep) -> None:
    next_round(work, node)


def _wait(work: Work, node: Node, step: d.WaitStep) -> None:
    if step.wait_seconds is not None:
        work.emit(e.WaitStarted(node.path, work.now + timedelta(seconds=_seconds(step.wait_seconds, work.scope(node)))))
    elif len(work.d.watching) >= MAX_WATCHING:
        fail(work, node, ErrorInfo("TooMany", f"{MAX_WATCHING} steps wait for conditions already", retryable=False))
    else:
        work.emit(e.WaitStarted(node.path, _due(work, step.timeout_seconds), condition=True))


def _seconds(given: float | str, scope: Scope) -> float:
    value = _value("wait_seconds", given, scope) if isinstance(given, str) else given
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_WAIT_S:
        raise BadExpression(f"wait_seconds: {value!r:.80} is no number of seconds from 0 to {MAX_WAIT_S:.0f}")
    return float(value)


def _value(field: str, text: str, scope: Scope) -> Any:
    try:
        return expressions.render(text, scope) if "{{" in text else expressions.evaluate(text, scope)
    except BadExpression as error:
        error.within(field)
        raise


def _due(work: Work, limit_s: float | None) -> datetime | None:
    return None if limit_s is None else work.now + timedelta(seconds=limit_s)


def _map(work: Work, node: Node, step: d.MapStep) -> None:
    items = _value("items", step.items, work.scope(node)) if isinstance(step.items, str) else step.items
    if not isinstance(items, list):
        raise BadExpression(f"items: {items!r:.80} is no list")
    if len(items) > d.MAX_MAP_ITEMS:
        raise BadExpression(f"items: a map may have {d.MAX_MAP_ITEMS} items, this list has {len(items)}")
    offset = 0
    for chunk in list(_chunks(items)):
        work.emit(e.MapExpanded(node.path, offset, len(items), chunk))
        offset += len(chunk)


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    """The items in parts that make events of a fair size; one empty part for no items."""
    chunk: list[Any] = []
    size = 0
    for item in items:
        bytes_of_it = size_of(item)
        if bytes_of_it > MAX_TASK_BYTES:
            raise TooLarge(f"items: one item has {bytes_of_it} bytes, {MAX_TASK_BYTES} are allowed")
        if chunk and (len(chunk) == MAX_ITEMS_PER_EVENT or size + bytes_of_it > MAX_ITEM_BYTES_PER_EVENT):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += bytes_of_it
    yield chunk


def _approval(work: Work, node: Node, step: d.ApprovalStep) -> None:
    message = str(render_in("message", step.message, work.scope(node)))
    check_size("message: it", message, MAX_TEXT_BYTES, "it is for people to read")
    work.emit(e.ApprovalRequested(node.path, message, step.approvers, _due(work, step.timeout_seconds)))


def _signal(work: Work, node: Node, step: d.SignalStep) -> None:
    work.emit(e.SignalAwaited(node.path, step.signal, _due(work, step.timeout_seconds)))


def _checkpoint(work: Work, node: Node, _step: d.CheckpointStep) -> None:
    work.emit(e.CheckpointSaved(node.path))
    work.emit(e.StepCompleted(node.path, {"checkpoint": node.path}))


_STARTS: Final[dict[str, Callable[[Work, Node, Any], None]]] = {
    "task": _task,
    "child": _child,
    "parallel": _body,
    "sequential": _body,
    "conditional": _conditional,
    "loop": _loop,
    "wait": _wait,
    "map": _map,
    "approval": _approval,
    "signal": _signal,
    "checkpoint": _checkpoint,
    "goal": goal_steps.act,
}
