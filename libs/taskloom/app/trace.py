"""Runs a workflow's function once, to write down what it does as the steps of a definition."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from taskloom.app.errors import TraceError
from taskloom.app.expressions import Expression, Reference, written

_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACE: Final = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_NO_ID: Final = re.compile(r"[^A-Za-z0-9_]+")
MAX_ID_CHARS: Final = 48

_current: ContextVar[Trace | None] = ContextVar("taskloom_trace", default=None)


class Body:
    """Steps that are written into one list. ``chained``: the engine runs them one after the other."""

    def __init__(self, owner: str, kind: str, steps: list[dict[str, Any]]) -> None:
        self.owner, self.kind, self.steps = owner, kind, steps
        self.branch: str | None = None
        """The id of the conditional that an ``otherwise`` would belong to."""
        self.uses: set[str] = set()
        """Steps that the next step uses, or the condition of the block."""
        self.all_uses: set[str] = set()


class Trace:
    """The definition under way. ``bodies`` are those around the next step, the workflow's own first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: list[dict[str, Any]] = []
        self.failure_steps: list[dict[str, Any]] = []
        self.bodies = [Body("", "root", self.steps)]
        self.tasks: dict[str, Any] = {}
        """The tasks that were called, those of child workflows too, by their kinds."""
        self._ids: set[str] = {"undo", "on_failure"}
        self._places: list[Expression] = []
        self._around: dict[str, tuple[str, ...]] = {}
        self._by_id: dict[str, dict[str, Any]] = {}

    # Steps.

    def add(self, kind: str, wanted: str, *, after: Collection[Reference] | None = None, **fields: Any) -> Reference:
        """Writes down a step with these fields of its definition; gives a reference to its result.

        The workflow's own steps follow each other as they are written, unless ``after`` says what a step waits for.
        """
        body = self.bodies[-1]
        step_id = self.new_id(wanted)
        self._note(after or ())
        told: dict[str, Any] = {"step_type": kind, "id": step_id}
        self._around[step_id] = (*(each.owner for each in self.bodies if each.owner), step_id)
        told |= {name: value for name, value in fields.items() if value not in (None, "", (), {})}
        self._by_id[step_id] = told
        body.steps.append(told)
        body.branch = None
        uses, body.uses = body.uses, set()
        body.all_uses |= uses
        if body.kind == "root" and after is None:
            if len(body.steps) > 1:
                told["depends_on"] = [body.steps[-2]["id"]]
        elif body.kind in ("root", "parallel"):
            self._wait_for(body, told, uses)
        return self.result_of(step_id)

    def written(self, value: object) -> str:
        """The text of an expression."""
        return written(value, self)

    @contextmanager
    def body(self, owner: str, kind: str, field: str) -> Iterator[Body]:
        """Steps of the block go into this field of the step ``owner``."""
        steps: list[dict[str, Any]] = self._by_id[owner].setdefault(field, [])
        inner = Body(owner, kind, steps)
        with self._within(inner):
            yield inner
        if not steps:
            raise TraceError(f"{self.name}: the block of {owner!r} has no step in it")
        outer, uses = self.bodies[-1], inner.all_uses | inner.uses
        outer.all_uses |= uses
        if outer.kind == "parallel":
            self._wait_for(outer, self._by_id[owner], uses)

    @contextmanager
    def failure_body(self) -> Iterator[None]:
        """Steps of the block run when the workflow has failed."""
        if len(self.bodies) > 1:
            raise TraceError(f"{self.name}: on_failure() belongs to the whole workflow; take it out of the block")
        with self._within(Body("", "failure", self.failure_steps)):
            yield

    def new_id(self, wanted: str) -> str:
        plain = _NO_ID.sub("_", wanted).strip("_")[:MAX_ID_CHARS] or "step"
        plain = f"step_{plain}" if plain[0].isdigit() else plain
        step_id, number = plain, 1
        while step_id in self._ids:
            number += 1
            step_id = f"{plain}_{number}"
        self._ids.add(step_id)
        return step_id

    @contextmanager
    def _within(self, body: Body) -> Iterator[None]:
        self.bodies.append(body)
        try:
            yield
        finally:
            self.bodies.pop()

    def _wait_for(self, body: Body, told: dict[str, Any], uses: Collection[str]) -> None:
        """A step of a parallel block waits for those beside it that it uses, or that hold what it uses."""
        beside = {step["id"] for step in body.steps} - {told["id"]}
        needed = {owner for used in uses for owner in self._around[used]} & beside
        if needed:
            told["depends_on"] = sorted(needed | set(told.get("depends_on", ())))

    def step(self, step_id: str) -> dict[str, Any]:
        """What was written down of a step.

        Raises:
            TraceError: it is another workflow's.
        """
        if step_id not in self._by_id:
            raise TraceError(f"{self.name}: a result of another workflow cannot be used here; pass it as an argument")
        return self._by_id[step_id]

    def shorten(self, owner: str) -> None:
        """A map whose block is one plain task gets it as its template: one event less for each item."""
        step = self._by_id[owner]
        only = step["map_steps"][0]
        plain = only["step_type"] == "task" and only.keys() <= {"step_type", "id", "name", "task_template"}
        if plain and len(step["map_steps"]) == 1:
            del step["map_steps"]
            step["task_template"] = only["task_template"]

    # Values.

    def result_of(self, step_id: str) -> Reference:
        return Reference(lambda trace: trace.of_step(step_id, "result"), step_id)

    def of_step(self, step_id: str, what: str) -> str:
        """The expression for a step's result, status or error, seen from the step that is being written down.

        Raises:
            TraceError: it cannot be known there.
        """
        around = self._around.get(step_id)
        if around is None:
            raise TraceError(f"{self.name}: a result of another workflow cannot be used here; pass it as an argument")
        here = [body.owner for body in self.bodies]
        for owner in around[:-1]:
            if self._by_id[owner]["step_type"] == "map" and owner not in here:
                raise TraceError(
                    f"{self.name}: {step_id!r} has one result for each item of its each(…); use what each(…).results "
                    "holds after the block"
                )
        self.bodies[-1].uses.add(step_id)
        if what == "result" and any(body.kind == "compensation" and body.owner == step_id for body in self.bodies):
            return "compensated"
        return f"steps.{step_id}.{what}"

    def item_of(self, owner: str, name: str) -> str:
        """``item`` or ``index`` of the map ``owner``.

        Raises:
            TraceError: it is hidden by a map within it, or used after its block.
        """
        maps = [body.owner for body in self.bodies if body.kind == "map"]
        if not maps or maps[-1] != owner:
            where = "inside another each(…)" if owner in maps else "outside its block"
            raise TraceError(
                f"{self.name}: the {name} of each(…) cannot be used {where}; call a workflow for each item, and give "
                "it what it needs as arguments"
            )
        return name

    def round_of(self, owner: str) -> str:
        """The number of the round of the loop ``owner``.

        Raises:
            TraceError: it is hidden by a loop within it, or used after its block.
        """
        loops = [body.owner for body in self.bodies if body.kind == "loop"]
        if not loops or loops[-1] != owner:
            raise TraceError(f"{self.name}: a loop's iteration can be used in its own block only")
        return "iteration"

    def _note(self, references: Collection[Reference]) -> None:
        """The step that is written down next uses these results."""
        for reference in references:
            if not isinstance(reference, Expression) or not reference._taskloom_step:
                raise TraceError(f"{self.name}: after: give what steps returned, as it is")
            self.of_step(reference._taskloom_step, "status")

    def place(self, value: Expression) -> str:
        """Stands for a value within a text."""
        self._places.append(value)
        return f"{_OPEN}{len(self._places) - 1}{_CLOSE}"

    def has_place(self, text: str) -> bool:
        return _OPEN in text

    def shown(self, text: str) -> str:
        return _PLACE.sub("…", text)

    def template(self, value: Any) -> Any:
        """JSON data with the expressions in ``value`` as templates. Braces that are meant as text stay text.

        Raises:
            TraceError: something in it has no JSON.
        """
        if isinstance(value, Expression):
            return f"{{{{ {self.written(value)} }}}}"
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {str(self._key(key)): self.template(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.template(inner) for inner in value]
        if (fields := fields_of(value)) is not None:
            return {name: self.template(inner) for name, inner in fields.items()}
        try:
            return msgspec.to_builtins(value, str_keys=True)
        except (TypeError, ValueError) as fault:
            raise TraceError(f"{self.name}: {value!r:.80} is not JSON: {fault}") from fault

    def _key(self, key: object) -> object:
        if isinstance(key, Expression) or (isinstance(key, str) and self.has_place(key)):
            raise TraceError(
                f"{self.name}: a value of the running workflow cannot be a key; build the object in a task"
            )
        return key

    def _text(self, text: str) -> str:
        parts, end = [], 0
        for found in _PLACE.finditer(text):
            parts += [_literal(text[end : found.start()]), f"{{{{ {self.written(self._places[int(found[1])])} }}}}"]
            end = found.end()
        return "".join((*parts, _literal(text[end:])))


def _literal(text: str) -> str:
    return text.replace("{{", '{{ "{" }}{{ "{" }}')


def fields_of(value: Any) -> dict[str, Any] | None:
    """Fields of a dataclass, Struct or pydantic model; None for anything else."""
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    model = getattr(type(value), "model_fields", None)
    return {name: getattr(value, name) for name in model} if isinstance(model, dict) else None


def is_open(value: Any) -> bool:
    """Whether something in ``value`` is known only when the workflow runs."""
    if isinstance(value, Expression):
        return True
    if isinstance(value, str):
        return _OPEN in value
    if isinstance(value, Mapping):
        return any(is_open(key) or is_open(inner) for key, inner in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(is_open(inner) for inner in value)
    fields = fields_of(value)
    return fields is not None and is_open(fields)


def tracing() -> Trace | None:
    """The trace under way, if a workflow's function runs here."""
    return _current.get()


def current() -> Trace:
    """
    Raises:
        TraceError: no workflow's function runs here.
    """
    trace = _current.get()
    if trace is None:
        raise TraceError("this belongs into the function of a workflow, which @workflow marks")
    return trace


@contextmanager
def traced(trace: Trace) -> Iterator[Trace]:
    """Calls of tasks in the block become steps."""
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)
