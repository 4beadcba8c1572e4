"""What a path means in a workflow: ``loop.3.check`` is the step check in round 3. Read from the definition as JSON."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from taskloom.domain.workflow.outcomes import UNDO
from taskloom.domain.workflow.references import definition_in
from taskloom.domain.workflow.state import FAILURE_STEPS

_BODIES: Final = ("sub_steps", "true_steps", "false_steps", "loop_steps", "map_steps", "compensation")
_TASKS: Final = frozenset({"task", "child"})


class Kind(Struct, frozen=True):
    """Of a step: ``of_tasks`` a map whose items are tasks, ``tolerant`` one that goes on with failed items."""

    name: str
    of_tasks: bool = False
    tolerant: bool = False


class Place(Struct, frozen=True):
    """``parent`` is the path of the step around it, empty at the top; ``number`` the item or round of that.
    ``is_task``: it is a task of its own. ``tolerated``: the map goes on when this item fails."""

    kind: str
    parent: str = ""
    number: int | None = None
    is_task: bool = False
    tolerated: bool = False


class Shape:
    """The kinds of a definition's steps by id."""

    def __init__(self, run_input: Mapping[str, Any]) -> None:
        definition: Mapping[str, Any] = {}
        with suppress(KeyError, TypeError, msgspec.ValidationError):
            definition = definition_in(run_input)
        bodies = (definition.get("steps") or (), definition.get("failure_steps") or ())
        self._kinds = {step_id: kind for body in bodies for step_id, kind in _walk(body)}

    def place(self, path: str) -> Place:
        """Of a step or an item, read from the left: an id may look like a number too."""
        parts, at = path.split("."), 0
        parent, number, found = "", None, Place("")
        if parts[0] == FAILURE_STEPS and len(parts) > 1:
            parent, at = FAILURE_STEPS, 1
        while at < len(parts):
            here = ".".join(parts[: at + 1])
            kind = self._kinds.get(parts[at], _UNKNOWN)
            found = Place(kind.name, parent, number, kind.name in _TASKS)
            parent, number, at = here, None, at + 1
            if at < len(parts) and parts[at] == UNDO:
                at += 1
            elif at < len(parts) and kind.name == "loop":
                number, at = _number(parts[at]), at + 1
            elif at < len(parts) and kind.name == "map":
                found = Place("item", here, _number(parts[at]), kind.of_tasks, kind.tolerant)
                parent, at = f"{here}.{parts[at]}", at + 1
        return found


_UNKNOWN: Final = Kind("")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _walk(steps: Any) -> Iterator[tuple[str, Kind]]:
    for step in steps:
        kind = step["step_type"]
        yield step["id"], Kind(kind, step.get("task_template") is not None, bool(step.get("allow_failures")))
        for name in _BODIES:
            if step.get(name):
                yield from _walk(step[name])


class Shapes:
    """The shapes of the runs that were looked at last, at most ``limit``: a run's definition never changes."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._known: OrderedDict[str, Shape] = OrderedDict()

    def of(self, task_id: str, run_input: Mapping[str, Any]) -> Shape:
        shape = self._known.get(task_id)
        if shape is None:
            shape = self._known[task_id] = Shape(run_input)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        return shape
