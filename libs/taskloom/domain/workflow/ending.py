"""What follows the end of a step: who became ready, who must be skipped, whether a body is through."""

from typing import Any

from immutables import Map
from msgspec import structs

from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.draft import Draft, within
from taskloom.domain.workflow.persistent import EMPTY_QUEUE, NO_TIMERS
from taskloom.domain.workflow.plan import StepPlan
from taskloom.domain.workflow.scope import place_of
from taskloom.domain.workflow.state import (
    KEPT_ROUNDS,
    Ended,
    Frame,
    LoopData,
    MapData,
    Node,
    StepStatus,
    Undo,
)

__all__ = [
    "EMPTY_QUEUE",
    "NO_TIMERS",
    "ask_for_next",
    "end_step",
    "item_told",
    "join",
    "keep_round",
    "map_data",
    "own_result",
    "results_of",
]


def end_step(
    d: Draft,
    path: str,
    status: StepStatus,
    *,
    result: Any = None,
    error: ErrorInfo | None = None,
    reason: str = "",
    handled: bool = False,
) -> None:
    """The step ended. A ``handled`` failure counts as done for those that wait for it; other bad ends keep what ran
    within the step, for a retry of the run to go on with."""
    if path not in d.nodes:
        _name_unstarted(d, path)
    node = d.nodes[path]
    _leave(d, node)
    d.ended += 1
    data = None
    if status not in ("failed", "cancelled") or handled:
        d.drop_bodies(node)
    else:
        data = node.data
    ended = d.change(path, status=status, result=result, error=error, doomed=reason, ended=d.ended, data=data)
    if status == "completed" and node.plan.undo is not None and d.phase == "steps":
        d.undo, d.undo_count = (Undo(node.plan, path, result, place_of(d, node.frame)), d.undo), d.undo_count + 1
    if node.frame in d.frames:
        d.latest = d.latest.set(node.plan.id, Ended(status, result, error))
        _step_of_body(d, d.frames[node.frame], ended, handled)
    else:
        _item_of_map(d, d.nodes[node.frame], ended)


def _name_unstarted(d: Draft, path: str) -> None:
    """A step that never became ready is ended too, when its body is stopped."""
    owner, _, step_id = path.rpartition(".")
    d.add(path, d.frames[owner].body.by_id[step_id], owner, doomed="stopped")


def _leave(d: Draft, node: Node) -> None:
    """Nothing waits for the step any more."""
    path = node.path
    d.agenda, d.slots, d.timers = d.agenda.remove(path), d.slots.remove(path), d.timers.clear(path)
    d.watching, d.approvals = d.watching.remove(path), d.approvals.remove(path)
    if node.status == "running" and node.plan.needs_slot:
        d.running -= 1
    if node.status == "waiting" and node.plan.kind == "signal":
        name = node.plan.step.signal  # type: ignore[union-attr]
        waiting = d.listeners[name].remove(path)
        d.listeners = d.listeners.set(name, waiting) if waiting else d.listeners.delete(name)


def _step_of_body(d: Draft, frame: Frame, node: Node, handled: bool) -> None:
    done = node.status == "completed" or handled
    failed = node.status == "failed" and not handled
    pending = frame.pending
    for waiting in frame.body.dependents[node.plan.id]:
        left = pending[waiting] - 1
        pending = pending.set(waiting, left)
        _release(d, frame, frame.body.by_id[waiting], left, "" if done else f"{node.plan.id} {node.status}")
    changed = d.change_frame(
        frame.path,
        pending=pending,
        open=frame.open - 1,
        last=node.path,
        error=frame.error or (node.error if failed else None),
        failed_at=frame.failed_at or (node.path if failed else ""),
    )
    if not changed.open:
        join(d, changed)


def _release(d: Draft, frame: Frame, plan: StepPlan, left: int, broken: str) -> None:
    """Once nothing is left to wait for the step is ready; a broken dependency dooms it at once."""
    path = within(frame.path, plan.id)
    if path in d.nodes:
        return
    if broken:
        d.add(path, plan, frame.path, doomed=broken)
    elif not left:
        d.add(path, plan, frame.path)


def join(d: Draft, frame: Frame) -> None:
    """All steps of the body ended: what it belongs to has to be decided on."""
    if frame.node in d.nodes:
        d.change(frame.node, joined=True, error=frame.error)
    d.agenda = d.agenda.push(frame.node)


def _item_of_map(d: Draft, owner: Node, node: Node) -> None:
    data = owner.data
    assert isinstance(data, MapData)
    at = int(node.path.rpartition(".")[2])
    failed = node.status != "completed"
    message = (node.error.message if node.error else node.doomed or node.status) if failed else ""
    tolerated = owner.plan.step.allow_failures  # type: ignore[union-attr]
    over = not failed or tolerated
    data = map_data(
        data,
        items=data.items.delete(at) if over else data.items,
        live=data.live.delete(at),
        untold=_without(data.untold, at),
        results=data.results.set(at, node.result),
        errors=data.errors.set(at, message) if failed else data.errors,
        faults=data.faults.set(at, node.error) if failed and node.error and d.goal is not None else data.faults,
    )
    error = owner.error
    if failed and error is None and not tolerated:
        error = node.error or ErrorInfo("ItemFailed", f"item {at}: {message}", retryable=False)
    if over or node.path not in d.frames:
        d.nodes = d.nodes.delete(node.path)
        d.drop_bodies(node)
    through = not data.live and (data.upcoming is None or bool(owner.stopping))
    d.change(owner.path, data=data, error=error, joined=through)
    if through:
        d.slots = d.slots.remove(owner.path)
        d.agenda = d.agenda.push(owner.path)
    elif owner.stopping:
        _all_told(d, owner.path, data)
    else:
        ask_for_next(d, owner.path)


def item_told(d: Draft, node: Node) -> None:
    """The step was asked to end: as an item of a map being stopped it need not be asked again."""
    owner = d.nodes.get(node.frame)
    if node.frame not in d.frames and owner is not None and isinstance(owner.data, MapData) and owner.data.untold:
        at = int(node.path.rpartition(".")[2])
        data = map_data(owner.data, untold=_without(owner.data.untold, at))
        d.change(owner.path, data=data)
        _all_told(d, owner.path, data)


def _all_told(d: Draft, path: str, data: MapData) -> None:
    if not data.untold:
        d.agenda = d.agenda.remove(path)


def _without(numbers: Map[int, None], at: int) -> Map[int, None]:
    return numbers.delete(at) if at in numbers else numbers


def ask_for_next(d: Draft, path: str) -> None:
    """The map waits for a place for its next item, if it has one and may run one more."""
    node = d.nodes[path]
    data, limit = node.data, node.plan.step.max_parallel  # type: ignore[union-attr]
    assert isinstance(data, MapData)
    if not node.stopping and data.upcoming is not None and (limit is None or len(data.live) < limit):
        d.slots = d.slots.push(path)


def map_data(data: MapData, **fields: Any) -> MapData:
    changed: MapData = structs.replace(data, **fields)
    return changed


def results_of(d: Draft, frame_path: str) -> dict[str, Any]:
    """Results of a body by step id; steps that were skipped are left out."""
    frame, results = d.frames[frame_path], {}
    for plan in frame.body.steps:
        node = d.nodes.get(within(frame_path, plan.id))
        if node is not None and node.status == "completed":
            results[plan.id] = node.result
    return results


def keep_round(data: LoopData, results: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return (*data.rounds[1 - KEPT_ROUNDS :], {"iteration": data.n, "results": results})


def own_result(d: Draft, node: Node, given: Any) -> Any:
    """The result of a step: what its event says, or, for a step with bodies, theirs put together."""
    data = node.data
    if isinstance(data, MapData):
        errors: list[dict[str, Any]] = [{"index": at, "error": data.errors[at]} for at in sorted(data.errors)]
        for error in errors if data.faults else ():
            if (fault := data.faults.get(error["index"])) is not None:
                error |= {"type": fault.type, "retryable": fault.retryable}
        return {"count": data.total, "results": [data.results.get(at) for at in range(data.total)], "errors": errors}
    if isinstance(data, LoopData):
        live = within(node.path, data.n)
        rounds = data.rounds if live not in d.frames else keep_round(data, results_of(d, live))
        return {"iterations": data.n, "loop_results": list(rounds), "condition_ended": data.over}
    if node.plan.kind == "conditional":
        results = results_of(d, node.path) if node.path in d.frames else {}
        return {"condition_result": node.branch, "results": results}
    if node.plan.kind in ("parallel", "sequential"):
        return {"sub_step_results": results_of(d, node.path)}
    return given
