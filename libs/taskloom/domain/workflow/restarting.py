"""How a run that had ended goes on: what was done stays, everything else is as if it had not begun.

Done is what completed, and what failed in a way that its workflow goes on with. A step with bodies goes on within them:
a map with the items that are not done, a loop in its round, a conditional in its branch.
"""

from collections.abc import Mapping
from typing import Any, Final

from immutables import Map

from taskloom.domain.goals.state import retried
from taskloom.domain.workflow import ending
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.draft import Draft, within
from taskloom.domain.workflow.plan import StepPlan
from taskloom.domain.workflow.sizes import size_of
from taskloom.domain.workflow.state import (
    FAILURE_STEPS,
    ROOT,
    STEP_ENDED,
    Ended,
    Frame,
    ItemList,
    LoopData,
    MapData,
    Node,
)

_NOTHING: Final[Mapping[str, Any]] = {}
ANEW: Final[dict[str, Any]] = {"error": None, "ended": 0, "doomed": "", "joined": False, "stopping": ""}
"""Fields of a step that goes on."""


def restart(d: Draft, event: e.WorkflowRetried) -> None:
    """The run is under way again."""
    d.status, d.phase, d.stopping, d.reason, d.paused = "running", "steps", "", "", False
    d.error, d.failed_at, d.output, d.compensate, d.undoing = None, "", None, False, None
    d.agenda = d.slots = d.watching = d.approvals = ending.EMPTY_QUEUE
    d.listeners, d.timers, d.running = Map(), ending.NO_TIMERS, 0
    d.restarts = event.number
    d.set_timer(ROOT, event.due_at)
    if d.goal is not None:
        d.goal = retried(d.goal, from_start=event.start == "start")
    if event.start == "start":
        _from_start(d)
        return
    if FAILURE_STEPS in d.frames:
        for plan in d.frames[FAILURE_STEPS].body.steps:
            _never_ended(d, plan.id, _NOTHING)
        d.drop_frame(FAILURE_STEPS)
    reopen(d, ROOT)


def _from_start(d: Draft) -> None:
    d.variables = d.initial
    d.sizes = Map({name: size_of(value) for name, value in d.initial.items()})
    d.variables_bytes = sum(d.sizes.values())
    d.nodes, d.frames, d.latest = Map(), Map(), Map()
    d.undo, d.undo_count, d.compensated, d.undone = None, 0, 0, 0
    d.started = d.refs = 0
    d.open_frame(ROOT, d.plan.root, ROOT)


def reopen(d: Draft, path: str, before: Mapping[str, Any] = _NOTHING) -> None:
    """The steps of a body that are not done begin again, or go on. ``before``: results of the round before by id."""
    frame = d.frames[path]
    standing = {plan.id: d.nodes.get(within(path, plan.id)) for plan in frame.body.steps}
    done = {step_id: node for step_id, node in standing.items() if node is not None and node.done}
    pending = {step_id: sum(need not in done for need in needs) for step_id, needs in frame.body.depends_on.items()}
    last = max(done.values(), key=lambda node: node.ended).path if done else ""
    changed = Frame(path, frame.body, frame.node, Map(pending), len(standing) - len(done), last=last)
    d.frames = d.frames.set(path, changed)
    for plan in frame.body.steps:
        if plan.id not in done:
            _never_ended(d, plan.id, before)
            _again(d, plan, path, standing[plan.id], ready=not pending[plan.id])
    if not changed.open:
        ending.join(d, changed)


def _never_ended(d: Draft, step_id: str, before: Mapping[str, Any]) -> None:
    """Expressions see of the step what they saw before this life of the run."""
    if step_id in before:
        d.latest = d.latest.set(step_id, Ended("completed", before[step_id]))
    elif step_id in d.latest:
        d.latest = d.latest.delete(step_id)


def _again(d: Draft, plan: StepPlan, frame: str, node: Node | None, *, ready: bool) -> None:
    path = within(frame, plan.id)
    if node is not None and _has_begun(d, node):
        d.change(path, status="running", **ANEW)
        _go_on(d, node)
        return
    if node is not None:
        d.nodes = d.nodes.delete(path)
        d.drop_bodies(node)
    if ready:
        d.add(path, plan, frame)
        if plan.kind == "child" and node is not None and node.status in STEP_ENDED:
            d.change(path, restart=node.restart)  # its run goes on where it failed


def _has_begun(d: Draft, node: Node) -> bool:
    if node.status in ("ready", "skipped"):
        return False
    data = node.data
    return isinstance(data, MapData) or (isinstance(data, LoopData) and data.over) or _body_path(node) in d.frames


def _body_path(node: Node) -> str:
    return within(node.path, node.data.n) if isinstance(node.data, LoopData) else node.path


def _go_on(d: Draft, node: Node) -> None:
    data = node.data
    if isinstance(data, MapData):
        _go_on_with_items(d, node, data)
    elif isinstance(data, LoopData) and data.over:
        _is_through(d, node)
    else:
        rounds = data.rounds if isinstance(data, LoopData) else ()
        reopen(d, _body_path(node), rounds[-1]["results"] if rounds else _NOTHING)


def _go_on_with_items(d: Draft, node: Node, data: MapData) -> None:
    tolerated = node.plan.step.allow_failures  # type: ignore[union-attr]
    left = sorted({*data.live, *data.set_back, *(() if tolerated else data.errors)}, reverse=True)
    results, errors, faults = data.results.mutate(), data.errors.mutate(), data.faults.mutate()
    again: ItemList = None
    for at in left:
        again = (at, again)
        results.pop(at, None)
        errors.pop(at, None)
        faults.pop(at, None)
        _set_back(d, within(node.path, at))
    data = ending.map_data(
        data,
        live=Map(),
        untold=Map(),
        again=again,
        results=results.finish(),
        errors=errors.finish(),
        faults=faults.finish(),
    )
    d.change(node.path, data=data)
    if data.upcoming is None:
        _is_through(d, node)
    else:
        ending.ask_for_next(d, node.path)


def _set_back(d: Draft, path: str) -> None:
    """An item waits for its turn. Its body stays: it is gone on with then (``evolve``, ``StepStarted``)."""
    node = d.nodes.get(path)
    if node is not None and path in d.frames:
        d.change(path, status="cancelled", data=None)
    elif node is not None:
        d.nodes = d.nodes.delete(path)


def _is_through(d: Draft, node: Node) -> None:
    d.change(node.path, joined=True)
    d.agenda = d.agenda.push(node.path)
