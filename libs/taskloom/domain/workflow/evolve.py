"""``evolve_run(state, event)``: how each event changes a run. Live and replay run this one function."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, get_args

from immutables import Map

from taskloom.domain.goals.events import AnyGoalEvent, GoalEvent
from taskloom.domain.goals.state import evolve_goal, open_goal
from taskloom.domain.workflow import ending, outcomes, restarting
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.draft import Draft, draft_of, within
from taskloom.domain.workflow.outcomes import UNDO
from taskloom.domain.workflow.plan import plan_in
from taskloom.domain.workflow.references import FORKED, definition_in, is_goal
from taskloom.domain.workflow.sizes import size_of
from taskloom.domain.workflow.state import FAILURE_STEPS, ROOT, STEP_ENDED, LoopData, MapData, RunState
from taskloom.domain.workflow.values import has_refs, ref_of, without_marks


def open_run(run_input: dict[str, Any]) -> RunState:
    """The state before the first event, from ``spec.input``: ``{"definition", "variables", "context"}``, or
    ``{"workflow", "pinned", …}`` where a stored one was named.

    The run's variables and context go over those of the definition. ``"checkpoint"`` (from ``results.checkpoint``) lets
    the top-level steps that had completed count as done; its variables and context come in between. The input must have
    passed ``check.validate_input`` before it was pinned.

    Raises:
        BadDefinition: the definition has faults.
    """
    plan = plan_in(run_input)
    checkpoint = _begun_from(run_input)
    definition, steps = plan.definition, checkpoint.get("steps") or {}
    value = without_marks if FORKED in run_input else _itself
    variables = _variables_in(run_input, definition.variables)
    sizes = {name: size_of(value) for name, value in variables.items()}
    initial = Map(variables)
    return RunState(
        plan,
        initial,
        {**definition.context, **(checkpoint.get("context") or {}), **(run_input.get("context") or {})},
        sizes=Map(sizes),
        variables_bytes=sum(sizes.values()),
        restored={name: value(step.get("result")) for name, step in steps.items() if step.get("status") == "completed"},
        initial=initial,
        goal=open_goal(run_input) if is_goal(run_input) else None,
    )


def initial_variables(run_input: dict[str, Any]) -> dict[str, Any]:
    """The variables that a run begins with."""
    return _variables_in(run_input, definition_in(run_input).get("variables") or {})


def _variables_in(run_input: dict[str, Any], defined: dict[str, Any]) -> dict[str, Any]:
    checkpoint = _begun_from(run_input)
    return {**defined, **(checkpoint.get("variables") or {}), **(run_input.get("variables") or {})}


def _begun_from(run_input: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint that the run begins with; where it is a fork, what it was forked from."""
    found: dict[str, Any] = run_input.get(FORKED) or run_input.get("checkpoint") or {}
    return found


def _itself(value: Any) -> Any:
    return value


def evolve_run(state: RunState, event: e.WorkflowEvent, at: datetime | None = None) -> RunState:
    """The state after one more event, that happened at ``at``."""
    draft = draft_of(state)
    draft.clock = at
    apply(draft, event)
    return draft.freeze()


def fold_run(state: RunState, history: Iterable[e.WorkflowEvent]) -> RunState:
    """The state after a history; cheaper than event by event."""
    draft = draft_of(state)
    for event in history:
        apply(draft, event)
    return draft.freeze()


def apply(draft: Draft, event: e.WorkflowEvent) -> None:
    """Changes the draft as the event says."""
    _CHANGES[type(event)](draft, event)


def _started(d: Draft, event: e.WorkflowStarted) -> None:
    d.status = "running"
    d.set_timer(ROOT, event.due_at)
    d.open_frame(ROOT, d.plan.root, ROOT)


def _paused(d: Draft, _event: e.WorkflowPaused) -> None:
    d.paused = True


def _resumed(d: Draft, _event: e.WorkflowResumed) -> None:
    d.paused = False


def _run_stopping(d: Draft, event: e.WorkflowStopping) -> None:
    d.stopping, d.reason, d.paused = event.why, event.reason, False
    d.timers = d.timers.clear(ROOT)
    for path in outermost(d):
        d.change_frame(path, stopping=event.reason or event.why)


def outermost(d: Draft) -> list[str]:
    """The bodies that belong to no step: the workflow's own, that of a compensation, the failure steps."""
    undoing = [] if d.undoing is None else [within(d.undoing.path, UNDO)]
    return [ROOT, *undoing, *([FAILURE_STEPS] if d.phase == "failure_steps" else [])]


def _variables(d: Draft, event: e.VariablesMerged) -> None:
    d.variables = d.variables.update(event.values)
    sizes = {name: size_of(value) for name, value in event.values.items()}
    d.variables_bytes += sum(sizes.values()) - sum(d.sizes.get(name, 0) for name in sizes)
    d.sizes = d.sizes.update(sizes)


def _signal_received(d: Draft, event: e.SignalReceived) -> None:
    d.signals = d.signals.set(event.name, (*d.signals.get(event.name, ()), event.payload))
    d.kept_signals += 1
    d.kept_signal_bytes += size_of(event.payload)


def _signal_delivered(d: Draft, event: e.SignalDelivered) -> None:
    taken, *kept = d.signals[event.name]
    d.signals = d.signals.set(event.name, tuple(kept)) if kept else d.signals.delete(event.name)
    d.kept_signals -= 1
    d.kept_signal_bytes -= size_of(taken)


def _scheduled(d: Draft, event: e.StepScheduled) -> None:
    _take_item(d, event.path)
    d.begin(event.path, restart=event.restart)
    d.running += 1


def _step_retried(d: Draft, event: e.StepRetried) -> None:
    d.begin(event.path)
    d.running += 1


def _step_started(d: Draft, event: e.StepStarted) -> None:
    _take_item(d, event.path)
    node = d.begin(event.path, **restarting.ANEW)
    if node.plan.body is None:
        d.running += 1  # a map's item whose task could not be made: it fails at once, and gives its place back then
    elif event.path in d.frames:
        restarting.reopen(d, event.path)
    else:
        d.open_frame(event.path, node.plan.body, event.path)


def _branch(d: Draft, event: e.BranchTaken) -> None:
    node = d.begin(event.path, branch=event.value)
    body = node.plan.body if event.value else node.plan.other
    if body is None:
        d.change(event.path, joined=True)
        d.agenda = d.agenda.push(event.path)
    else:
        d.open_frame(event.path, body, event.path)


def _round(d: Draft, event: e.LoopRound) -> None:
    node = d.begin(event.path)
    data = node.data if isinstance(node.data, LoopData) else LoopData()
    if data.n:
        rounds = ending.keep_round(data, ending.results_of(d, within(event.path, data.n)))
        d.drop_frame(within(event.path, data.n))
        data = LoopData(data.n, rounds)
    if not event.condition:
        d.change(event.path, data=LoopData(data.n, data.rounds, over=True), joined=True)
        d.agenda = d.agenda.push(event.path)
        return
    d.change(event.path, data=LoopData(event.n, data.rounds), joined=False)
    assert node.plan.body is not None
    d.open_frame(within(event.path, event.n), node.plan.body, event.path)


def _expanded(d: Draft, event: e.MapExpanded) -> None:
    node = d.begin(event.path) if event.offset == 0 else d.nodes[event.path]
    data = node.data if isinstance(node.data, MapData) else MapData(total=event.total)
    with data.items.mutate() as items:
        for at, item in enumerate(event.items, start=event.offset):
            items[at] = item
        known = items.finish()
    data = MapData(known, event.total, event.offset + len(event.items))
    complete = data.known == data.total
    d.change(event.path, data=data, joined=complete and not data.total)
    if not complete:
        return
    if data.total:
        d.slots = d.slots.push(event.path)
    else:
        d.agenda = d.agenda.push(event.path)


def _take_item(d: Draft, path: str) -> None:
    """Makes the node of a map's item that begins, unless its body is gone on with; a step's node is there already."""
    begun = d.nodes.get(path)
    if begun is not None and begun.status not in STEP_ENDED:
        return
    owner, _, number = path.rpartition(".")
    node, at = d.nodes[owner], int(number)
    assert isinstance(node.data, MapData)
    assert node.plan.item is not None
    d.slots = d.slots.remove(owner)
    again = node.data.again
    moved = {"following": at + 1} if again is None else {"again": again[1]}
    d.change(owner, data=ending.map_data(node.data, live=node.data.live.set(at, None), **moved))
    if begun is None:
        d.add(path, node.plan.item, owner)
    ending.ask_for_next(d, owner)


def _waiting(d: Draft, event: e.WaitStarted) -> None:
    d.begin(event.path, status="waiting", since=d.clock)
    d.set_timer(event.path, event.due_at)
    if event.condition:
        d.watching = d.watching.push(event.path)


def _awaited(d: Draft, event: e.SignalAwaited) -> None:
    d.begin(event.path, status="waiting", since=d.clock)
    d.set_timer(event.path, event.due_at)
    waiting = d.listeners.get(event.name)
    d.listeners = d.listeners.set(event.name, (waiting or ending.EMPTY_QUEUE).push(event.path))


def _requested(d: Draft, event: e.ApprovalRequested) -> None:
    d.begin(event.path, status="waiting", since=d.clock)
    d.set_timer(event.path, event.due_at)
    d.approvals = d.approvals.push(event.path)


def _decided(d: Draft, event: e.ApprovalDecided | e.ApprovalExpired) -> None:
    d.approvals = d.approvals.remove(event.path)
    d.timers = d.timers.clear(event.path)


def _checkpoint(d: Draft, event: e.CheckpointSaved) -> None:
    d.begin(event.path)


def _completed(d: Draft, event: e.StepCompleted) -> None:
    node = d.nodes[event.path]
    result = ending.own_result(d, node, event.result)
    ref = ref_of(result) if node.plan.needs_slot else None
    if ref is not None:
        result, d.refs = ref, d.refs + 1
    ending.end_step(d, event.path, "completed", result=result)


def _restored(d: Draft, event: e.StepRestored) -> None:
    kept = d.restored.get(d.nodes[event.path].plan.id)
    d.refs += has_refs(kept)
    ending.end_step(d, event.path, "completed", result=kept if has_refs(kept) else event.result)


def _failed(d: Draft, event: e.StepFailed) -> None:
    node = d.nodes[event.path]
    compensates = node.plan.step.on_failure == "compensate" and not event.handled
    if compensates and d.phase == "steps":
        d.compensate = True
        d.error, d.failed_at = d.error or event.error, d.failed_at or event.path
    if event.refused:
        d.change(event.path, restart=None)
    ending.end_step(d, event.path, "failed", error=event.error, handled=event.handled)


def _skipped(d: Draft, event: e.StepSkipped) -> None:
    ending.end_step(d, event.path, "skipped", reason=event.reason)


def _cancelled(d: Draft, event: e.StepCancelled) -> None:
    ending.end_step(d, event.path, "cancelled", reason=event.reason)


def _cancel_requested(d: Draft, event: e.StepCancelRequested) -> None:
    node = d.change(event.path, stopping=event.reason or "cancelled")
    ending.item_told(d, node)


def _stopping(d: Draft, event: e.StepStopping) -> None:
    node = d.change(event.path, stopping=event.reason or "stopped")
    ending.item_told(d, node)
    d.slots = d.slots.remove(event.path)
    data = node.data
    if isinstance(data, MapData):
        d.change(event.path, data=ending.map_data(data, untold=data.live), joined=not data.live)
        d.agenda = d.agenda.push(event.path)
    frame = within(event.path, data.n) if isinstance(data, LoopData) else event.path
    if frame in d.frames:
        d.change_frame(frame, stopping=node.stopping)


def _of_goal(d: Draft, event: GoalEvent) -> None:
    if d.nodes[event.path].status == "ready":
        d.begin(event.path)
    assert d.goal is not None
    d.goal = evolve_goal(d.goal, event)


_CHANGES: Final[dict[type[e.WorkflowEvent], Callable[[Draft, Any], None]]] = {
    e.WorkflowStarted: _started,
    e.WorkflowRetried: restarting.restart,
    e.WorkflowPaused: _paused,
    e.WorkflowResumed: _resumed,
    e.WorkflowStopping: _run_stopping,
    e.VariablesMerged: _variables,
    e.SignalReceived: _signal_received,
    e.SignalDelivered: _signal_delivered,
    e.StepScheduled: _scheduled,
    e.StepRetried: _step_retried,
    e.StepStarted: _step_started,
    e.BranchTaken: _branch,
    e.LoopRound: _round,
    e.MapExpanded: _expanded,
    e.WaitStarted: _waiting,
    e.SignalAwaited: _awaited,
    e.ApprovalRequested: _requested,
    e.ApprovalDecided: _decided,
    e.ApprovalExpired: _decided,
    e.CheckpointSaved: _checkpoint,
    e.StepCompleted: _completed,
    e.StepFailed: _failed,
    e.StepSkipped: _skipped,
    e.StepCancelRequested: _cancel_requested,
    e.StepCancelled: _cancelled,
    e.StepStopping: _stopping,
    e.StepRestored: _restored,
    **outcomes.CHANGES,
    **dict.fromkeys(get_args(AnyGoalEvent), _of_goal),
}
