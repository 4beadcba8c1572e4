"""A run's state as JSON data and back, so that who takes a long run over need not fold it from its first event.

Plans are left out: they follow from the run's input, and steps are found in them by their ids, which are unique in a
workflow. The heap of the timers is an index, and made anew.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec
from immutables import Map
from msgspec import Struct, structs

from taskloom.domain.goals.state import GoalState
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.evolve import open_run
from taskloom.domain.workflow.outcomes import UNDO
from taskloom.domain.workflow.persistent import EMPTY_QUEUE, NO_TIMERS, Heap, Queue, Timers, merge
from taskloom.domain.workflow.plan import Body, Plan, StepPlan
from taskloom.domain.workflow.sizes import size_of
from taskloom.domain.workflow.state import (
    FAILURE_STEPS,
    ROOT,
    Ended,
    Frame,
    ItemList,
    LoopData,
    MapData,
    Node,
    RunState,
    Undo,
)
from taskloom.domain.workflow.values import with_marks, without_marks

_Value = Callable[[Any], Any]


class _Data(Struct, omit_defaults=True):
    """Of a loop (``n`` is there) or of a map."""

    n: int | None = None
    rounds: list[Any] = []
    over: bool = False
    items: list[tuple[int, Any]] = []
    total: int = 0
    known: int = 0
    following: int = 0
    live: list[int] = []
    results: list[tuple[int, Any]] = []
    errors: list[tuple[int, str]] = []
    faults: list[tuple[int, ErrorInfo]] = []
    untold: list[int] = []
    again: list[int] = []


class _Node(Struct, omit_defaults=True):
    frame: str
    item: bool = False
    status: Any = "ready"
    result: Any = None
    error: ErrorInfo | None = None
    ended: int = 0
    doomed: str = ""
    joined: bool = False
    stopping: str = ""
    branch: bool = False
    data: _Data | None = None
    restart: int | None = None
    since: datetime | None = None


class _Frame(Struct, omit_defaults=True):
    node: str
    pending: dict[str, int]
    open: int
    error: ErrorInfo | None = None
    failed_at: str = ""
    stopping: str = ""
    last: str = ""


class _Undo(Struct, omit_defaults=True):
    id: str
    path: str
    result: Any = None
    place: Any = None


class _Queue(Struct, omit_defaults=True):
    entries: list[tuple[int, str]] = []
    tail_at: int = 0


class Dump(Struct, omit_defaults=True):
    """A run's state as JSON data; ``scalars`` are the fields that are JSON already."""

    scalars: dict[str, Any]
    variables: dict[str, Any]
    nodes: dict[str, _Node] = {}
    frames: dict[str, _Frame] = {}
    latest: dict[str, tuple[Any, Any, ErrorInfo | None]] = {}
    queues: dict[str, _Queue] = {}
    listeners: dict[str, _Queue] = {}
    signals: dict[str, list[Any]] = {}
    timers: list[tuple[str, datetime, int]] = []
    came: int = 0
    undo: list[_Undo] = []
    undoing: _Undo | None = None
    error: ErrorInfo | None = None
    goal: GoalState | None = None


_SCALARS: Final = (
    *("status", "paused", "stopping", "reason", "running", "started", "ended", "refs", "kept_signals"),
    *("kept_signal_bytes", "undo_count", "compensated", "compensate", "phase", "failed_at", "output"),
    *("restarts", "undone"),
)
_QUEUES: Final = ("agenda", "slots", "watching", "approvals")


def dump_run(run: RunState) -> Dump:
    """The state as JSON data."""
    value = with_marks if run.refs else _itself
    undo, rest = [], run.undo
    while rest is not None:
        undo.append(_dump_undo(rest[0], value))
        rest = rest[1]
    return Dump(
        scalars={name: getattr(run, name) for name in _SCALARS},
        variables=dict(run.variables.items()),
        nodes={path: _dump_node(run, node, value) for path, node in run.nodes.items()},
        frames={path: _dump_frame(frame) for path, frame in run.frames.items()},
        latest={name: (one.status, value(one.result), one.error) for name, one in run.latest.items()},
        queues={name: _dump_queue(getattr(run, name)) for name in _QUEUES},
        listeners={name: _dump_queue(queue) for name, queue in run.listeners.items()},
        signals={name: list(kept) for name, kept in run.signals.items()},
        timers=[(path, due_at, came) for path, (due_at, came) in run.timers.due_of.items()],
        came=run.timers.came,
        undo=undo,
        undoing=None if run.undoing is None else _dump_undo(run.undoing, value),
        error=run.error,
        goal=run.goal,
    )


def load_run(run_input: dict[str, Any], data: Any) -> RunState:
    """The state that was dumped; ``run_input`` is the one it was opened with.

    Raises:
        msgspec.ValidationError: ``data`` is no dump.
    """
    dump = msgspec.convert(data, Dump)
    opened = open_run(run_input)
    plans, value = dict(_plans(opened.plan)), without_marks if dump.scalars["refs"] else _itself
    nodes = _load_nodes(dump, plans, value)
    undoing = None if dump.undoing is None else _load_undo(dump.undoing, plans, value)
    undo: Any = None
    for one in reversed(dump.undo):
        undo = (_load_undo(one, plans, value), undo)
    sizes = {name: size_of(each) for name, each in dump.variables.items()}
    return structs.replace(
        opened,
        **dump.scalars,
        variables=Map(dump.variables),
        sizes=Map(sizes),
        variables_bytes=sum(sizes.values()),
        nodes=nodes,
        frames=Map({path: _load_frame(path, one, opened.plan, plans, nodes) for path, one in dump.frames.items()}),
        latest=Map(
            {name: Ended(status, value(result), error) for name, (status, result, error) in dump.latest.items()}
        ),
        **{name: _load_queue(queue) for name, queue in dump.queues.items()},
        listeners=Map({name: _load_queue(queue) for name, queue in dump.listeners.items()}),
        signals=Map({name: tuple(kept) for name, kept in dump.signals.items()}),
        timers=_load_timers(dump),
        undo=undo,
        undoing=undoing,
        error=dump.error,
        goal=dump.goal,
    )


def _plans(plan: Plan) -> Iterator[tuple[str, StepPlan]]:
    """All steps by id, those in bodies too; not what runs for a map's item, which bears the map's id."""
    waiting: list[Body | None] = [plan.root, plan.failure]
    while waiting:
        body = waiting.pop()
        for step in () if body is None else body.steps:
            yield step.id, step
            waiting += [step.body, step.other, step.undo, None if step.item is None else step.item.body]


def _dump_node(run: RunState, node: Node, value: _Value) -> _Node:
    return _Node(
        node.frame,
        node.frame not in run.frames,
        node.status,
        value(node.result),
        node.error,
        node.ended,
        node.doomed,
        node.joined,
        node.stopping,
        node.branch,
        _dump_data(node.data, value),
        node.restart,
        node.since,
    )


def _dump_data(data: LoopData | MapData | None, value: _Value) -> _Data | None:
    if isinstance(data, LoopData):
        return _Data(n=data.n, rounds=[value(one) for one in data.rounds], over=data.over)
    if data is None:
        return None
    return _Data(
        items=list(data.items.items()),
        total=data.total,
        known=data.known,
        following=data.following,
        live=list(data.live),
        results=[(at, value(result)) for at, result in data.results.items()],
        errors=list(data.errors.items()),
        faults=list(data.faults.items()),
        untold=list(data.untold),
        again=data.set_back,
    )


def _load_data(data: _Data | None, value: _Value) -> LoopData | MapData | None:
    if data is None:
        return None
    if data.n is not None:
        return LoopData(data.n, tuple(value(one) for one in data.rounds), data.over)
    again: ItemList = None
    for at in reversed(data.again):
        again = (at, again)
    return MapData(
        Map(data.items),
        data.total,
        data.known,
        data.following,
        Map(dict.fromkeys(data.live)),
        Map([(at, value(result)) for at, result in data.results]),
        Map(data.errors),
        Map(data.faults),
        Map(dict.fromkeys(data.untold)),
        again,
    )


def _load_nodes(dump: Dump, plans: dict[str, StepPlan], value: _Value) -> Map[str, Node]:
    nodes = {}
    for path, one in dump.nodes.items():
        plan = plans[one.frame.rpartition(".")[2] if one.item else path.rpartition(".")[2]]
        item = plan.item if one.item else plan
        assert item is not None
        nodes[path] = Node(
            *(path, item, one.frame, one.status, value(one.result), one.error, one.ended, one.doomed, one.joined),
            *(one.stopping, one.branch, _load_data(one.data, value), one.restart, one.since),
        )
    return Map(nodes)


def _dump_frame(frame: Frame) -> _Frame:
    pending = dict(frame.pending.items())
    return _Frame(frame.node, pending, frame.open, frame.error, frame.failed_at, frame.stopping, frame.last)


def _load_frame(path: str, one: _Frame, plan: Plan, plans: dict[str, StepPlan], nodes: Map[str, Node]) -> Frame:
    body = _body_of(path, one.node, plan, plans, nodes)
    assert body is not None
    return Frame(
        *(path, body, one.node, Map(one.pending), one.open, one.error, one.failed_at, one.stopping, one.last),
    )


def _body_of(path: str, node: str, plan: Plan, plans: dict[str, StepPlan], nodes: Map[str, Node]) -> Body | None:
    if node != ROOT:
        owner = nodes[node]
        return owner.plan.other if owner.plan.kind == "conditional" and not owner.branch else owner.plan.body
    if path == ROOT:
        return plan.root
    if path == FAILURE_STEPS:
        return plan.failure
    undone = path.removesuffix(f".{UNDO}")
    return plans[undone.rpartition(".")[2]].undo


def _dump_undo(undo: Undo, value: _Value) -> _Undo:
    return _Undo(undo.plan.id, undo.path, value(undo.result), value(undo.place))


def _load_undo(one: _Undo, plans: dict[str, StepPlan], value: _Value) -> Undo:
    return Undo(plans[one.id], one.path, value(one.result), value(one.place))


def _dump_queue(queue: Queue) -> _Queue:
    return _Queue(list(queue.by_place.items()), queue.tail_at)


def _load_queue(queue: _Queue) -> Queue:
    if not queue.entries:
        return EMPTY_QUEUE
    places = {entry: at for at, entry in queue.entries}
    return Queue(Map(queue.entries), Map(places), min(places.values()), queue.tail_at)


def _load_timers(dump: Dump) -> Timers:
    timers = NO_TIMERS
    for path, due_at, came in dump.timers:
        heap = merge(timers.heap, Heap(due_at, came, path))
        timers = Timers(timers.due_of.set(path, (due_at, came)), heap, dump.came)
    return structs.replace(timers, came=dump.came)


def _itself(value: Any) -> Any:
    return value
