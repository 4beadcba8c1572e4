"""The names that expressions of a step can use, looked up only when they are asked for.

``variables``, ``context``, ``result`` (of the dependency that ended last, else of the step before), ``steps.<id>``
(``status``, ``result``, ``error`` of the latest step with that id, the same round or item first), ``item`` and
``index`` in a map, ``iteration`` in a loop, ``compensated`` in a compensation (the step's result), ``goal`` in the run
of one (``goals.names``). Any other name is
looked up in the variables, then the last result, then the context.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from taskloom.domain.goals.names import GoalNames
from taskloom.domain.workflow.draft import Draft, within
from taskloom.domain.workflow.sizes import TooLarge
from taskloom.domain.workflow.state import ROOT, LoopData, MapData, Node
from taskloom.domain.workflow.values import NO_VALUES, Ref, Values

MAX_OPENED_BYTES: Final = 32 * 1024 * 1024
"""Results kept by reference that the expressions of one step may name, as JSON."""


class Scope:
    """Names as seen from a step in the body (or map) at ``frame``."""

    def __init__(self, draft: Draft, frame: str, step_id: str = "", values: Values = NO_VALUES) -> None:
        self._draft, self._frame, self._step_id, self._values = draft, frame, step_id, values
        self._opened: dict[str, int] = {}
        self._goal: GoalNames | None = None

    def opened(self, value: Any) -> Any:
        """The value that a reference stands for; any other value itself.

        Raises:
            Absent: it has to be fetched first.
            TooLarge: the expressions of one step refer to more than 32 MiB.
        """
        if not isinstance(value, Ref):
            return value
        self._opened[value.digest] = value.bytes
        total = sum(self._opened.values())
        if total > MAX_OPENED_BYTES:
            raise TooLarge(f"it refers to results of {total} bytes, {MAX_OPENED_BYTES} are allowed")
        return self._values.get(value)

    def opened_all(self, value: Any) -> Any:
        """The same for all references within it."""
        if not self._draft.refs:
            return value
        if isinstance(value, dict):
            return {key: self.opened_all(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.opened_all(inner) for inner in value]
        return self.opened(value)

    def __getitem__(self, name: str) -> Any:
        d = self._draft
        if name == "variables":
            return d.variables
        if name == "context":
            return d.context
        if name == "result":
            return last_result(d, self._frame, self._step_id)
        if name == "steps":
            return Steps(d, self._frame)
        if name == "goal" and d.goal is not None:
            if self._goal is None:
                self._goal = GoalNames(d.goal, self.opened)
            return self._goal
        place = place_of(d, self._frame)
        if name in place:
            return place[name]
        if name in d.variables:
            return d.variables[name]
        for source in (self.opened(last_result(d, self._frame, self._step_id)), d.context):
            if isinstance(source, Mapping) and name in source:
                return source[name]
        raise KeyError(name)


class Steps(Mapping[str, Any]):
    """Steps by id, each as ``{status, result, error}``."""

    def __init__(self, draft: Draft, frame: str) -> None:
        self._draft, self._frame = draft, frame

    def __getitem__(self, step_id: str) -> Any:
        d, frame = self._draft, self._frame
        while True:
            node = d.nodes.get(within(frame, step_id)) if frame in d.frames else None
            if node is not None and node.ended:
                return _shown(node.status, node.result, node.error)
            if frame == ROOT:
                break
            frame = _outer(d, frame)
        ended = d.latest[step_id]
        return _shown(ended.status, ended.result, ended.error)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._draft.latest))

    def __len__(self) -> int:
        return len(self._draft.latest)


def _shown(status: str, result: Any, error: Any) -> dict[str, Any]:
    return {"status": status, "result": result, "error": None if error is None else error.message}


def last_result(d: Draft, frame_path: str, step_id: str = "") -> Any:
    """Result of the step's dependency that ended last; else of the step that ended last in its body, or around it."""
    while True:
        frame = d.frames.get(frame_path)
        if frame is not None:
            needed = [d.nodes.get(within(frame_path, one)) for one in frame.body.depends_on.get(step_id, ())]
            ended = [node for node in needed if node is not None and node.ended]
            last = max(ended, key=_when_ended) if ended else d.nodes.get(frame.last)
            if last is not None:
                return last.result
        owner = d.nodes.get(frame_path if frame is None else frame.node)
        if owner is not None and isinstance(owner.data, LoopData) and owner.data.rounds:
            return next(reversed(owner.data.rounds[-1]["results"].values()), None)
        if frame_path == ROOT:
            return None if d.undoing is None else d.undoing.result
        frame_path, step_id = _outer(d, frame_path), "" if owner is None else owner.plan.id


def _when_ended(node: Node) -> int:
    return node.ended


def place_of(d: Draft, frame_path: str) -> dict[str, Any]:
    """``item``, ``index`` and ``iteration`` around a body, the innermost; ``compensated`` within a compensation."""
    place: dict[str, Any] = {}
    path = frame_path
    while path != ROOT:
        outer, _, number = path.rpartition(".")
        owner = d.nodes.get(outer)
        if owner is not None and isinstance(owner.data, LoopData) and path in d.frames:
            place.setdefault("iteration", int(number))
        if owner is not None and isinstance(owner.data, MapData) and number.isdecimal():
            place.setdefault("index", int(number))
            place.setdefault("item", owner.data.items.get(int(number)))
        path = _outer(d, path)
    if d.undoing is not None:
        place = {**d.undoing.place, "compensated": d.undoing.result, **place}
    return place


def _outer(d: Draft, path: str) -> str:
    """The body or map around a body, a map, or an item that has not begun."""
    frame = d.frames.get(path)
    owner = d.nodes.get(path if frame is None else frame.node)
    if owner is not None:
        return owner.frame
    around = path.rpartition(".")[0]
    return around if around in d.nodes else ROOT
