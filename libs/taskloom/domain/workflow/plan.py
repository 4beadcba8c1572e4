"""A definition made ready to run: each body with its edges in both directions."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from taskloom.domain.workflow import check, graph, references
from taskloom.domain.workflow import definition as d


class StepPlan(Struct, frozen=True, eq=False):
    """A step with its bodies. ``item`` of a map is what runs for each item; ``needs_slot``: it is a task of its own."""

    id: str
    kind: str
    step: d.Step
    needs_slot: bool = False
    body: "Body | None" = None
    other: "Body | None" = None
    item: "StepPlan | None" = None
    undo: "Body | None" = None


class Body(Struct, frozen=True, eq=False):
    """Steps that run together. ``needs`` counts what a step waits for, ``dependents`` who waits for it."""

    steps: tuple[StepPlan, ...]
    by_id: dict[str, StepPlan]
    depends_on: dict[str, tuple[str, ...]]
    dependents: dict[str, tuple[str, ...]]


class Plan(Struct, frozen=True, eq=False):
    """``pinned``: the stored workflows that its child steps name (``references``)."""

    definition: d.Definition
    root: Body
    failure: Body | None
    pinned: dict[str, Any]


def plan_of(raw: dict[str, Any], pinned: Mapping[str, Any] | None = None) -> Plan:
    """The plan of a definition; runs of the same definition share one.

    Raises:
        BadDefinition: it has faults.
    """
    return _plan(msgspec.json.encode(raw), msgspec.json.encode(pinned or {}))


def plan_in(run_input: Mapping[str, Any]) -> Plan:
    """The plan that a run's input describes, or names."""
    definition = references.definition_in(run_input)
    if references.is_goal(run_input):
        return _goal_plan(msgspec.json.encode(definition))
    return plan_of(definition, run_input.get(references.PINNED))


@lru_cache(maxsize=256)
def _goal_plan(encoded: bytes) -> Plan:
    """That of a goal was made here, and needs no check."""
    definition = msgspec.json.decode(encoded, type=d.Definition)
    return Plan(definition, _body(definition.steps, chained=False), None, {})


@lru_cache(maxsize=256)
def _plan(encoded: bytes, pinned: bytes) -> Plan:
    definition = check.decode(msgspec.json.decode(encoded))
    failure = _body(definition.failure_steps, chained=True) if definition.failure_steps else None
    return Plan(definition, _body(definition.steps, chained=False), failure, msgspec.json.decode(pinned))


_CHAINED: Final = frozenset({"sequential", "conditional", "loop", "map"})
"""Kinds whose steps run one after the other."""


def _body(steps: tuple[d.Step, ...], *, chained: bool) -> Body:
    named = check.names(steps)
    ids = {step.id for step in steps}
    depends_on: dict[str, tuple[str, ...]] = {}
    before: tuple[str, ...] = ()
    for step in steps:
        wanted = [name if name in ids else named[name][0] for name in step.depends_on]
        depends_on[step.id] = tuple(dict.fromkeys((*wanted, *before)))
        before = (step.id,) if chained else ()
    plans = tuple(_step(step) for step in steps)
    return Body(plans, {plan.id: plan for plan in plans}, depends_on, graph.dependents_of(depends_on, depends_on))


def _step(step: d.Step) -> StepPlan:
    kind = str(step.__struct_config__.tag)
    inner = [
        _body(steps, chained=kind in _CHAINED) if steps else None
        for name, steps in d.bodies(step)
        if name != "compensation"
    ]
    undo = _body(step.compensation, chained=True) if step.compensation else None
    if isinstance(step, d.MapStep):
        return StepPlan(step.id, kind, step, item=_item(step, inner[0]), undo=undo)
    slot = kind in ("task", "child")
    body = inner[0] if inner else None
    return StepPlan(step.id, kind, step, slot, body, inner[1] if len(inner) > 1 else None, undo=undo)


def _item(step: d.MapStep, body: Body | None) -> StepPlan:
    """What runs for one item: it fails alone, and bears the map's id."""
    if body is not None:
        return StepPlan(step.id, "sequential", d.SequentialStep(step.id), body=body)
    return StepPlan(step.id, "task", d.TaskStep(step.id, step.name, task_template=step.task_template or {}), True)
