"""What a run gives to others: its result, a checkpoint, what it waits for."""

from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import Struct

from taskloom.domain.goals.state import saved
from taskloom.domain.workflow.draft import draft_of, within
from taskloom.domain.workflow.scope import Scope
from taskloom.domain.workflow.sizes import TooLarge
from taskloom.domain.workflow.state import ROOT, STEP_ENDED, Node, RunFields, RunState
from taskloom.domain.workflow.values import NO_VALUES, Values


def run_result(state: RunFields, values: Values = NO_VALUES) -> Any:
    """What the definition's ``output`` gave, else ``{"variables": …, "results": {id of a top-level step: result}}``.

    Results kept by reference are put in. Where they are more than 32 MiB together the references stay.

    Raises:
        Absent: one of them has to be fetched first.
    """
    if state.plan.definition.output is not None:
        return state.output
    results = {}
    for plan in state.plan.root.steps:
        node = state.nodes.get(plan.id)
        if node is not None and node.status == "completed":
            results[plan.id] = node.result
    if state.refs:
        with suppress(TooLarge):
            results = Scope(draft_of(state), ROOT, values=values).opened_all(results)
    return {"variables": _sorted(state.variables), "results": results}


def checkpoint(state: RunState) -> dict[str, Any]:
    """What a new run can start from, as ``spec.input["checkpoint"]``: JSON data.

    ``{"status", "steps": {id: {"status", "result", "error_message"}}, "variables", "context"}`` with the steps that
    have begun, those in bodies too (the last one of each id); only top-level ones are taken over. A goal's has ``goal``
    besides: what was found, and which steps are left.
    """
    steps: dict[str, Any] = {}
    for step_id in sorted(state.latest):
        ended = state.latest[step_id]
        message = None if ended.error is None else ended.error.message
        steps[step_id] = {"status": ended.status, "result": ended.result, "error_message": message}
    for plan in state.plan.root.steps:
        node = state.nodes.get(within(ROOT, plan.id))
        if node is not None and node.status not in STEP_ENDED:
            steps[plan.id] = {"status": node.status, "result": None, "error_message": None}
    return {
        "status": state.status,
        "steps": steps,
        "variables": _sorted(state.variables),
        "context": state.context,
        **({} if state.goal is None else {"goal": saved(state.goal)}),
    }


class Held(Struct, frozen=True):
    """A step that waits, and since when where that is known; ``restart`` is part of the id of its task."""

    step: str
    gate: str
    since: datetime | None = None
    restart: int = 0


def held_by(state: RunState) -> list[Held]:
    """What the run waits for now, for people: at most 100 steps in the order of their paths."""
    if state.paused:
        return [Held("", "paused")]
    waits = []
    for path in sorted(state.nodes):
        node = state.nodes[path]
        if node.status == "waiting":
            waits.append(_held(node, node.plan.kind))
        elif node.status == "ready" and path in state.slots:
            waits.append(_held(node, "max_parallel_tasks"))
        elif node.status == "running" and node.plan.needs_slot:
            waits.append(_held(node, "task"))
        if len(waits) == 100:
            break
    return waits


def _held(node: Node, gate: str) -> Held:
    return Held(node.path, gate, node.since, node.restart or 0)


def _sorted(variables: Any) -> dict[str, Any]:
    """A persistent map has no order of its own that would be the same in each process."""
    return {name: variables[name] for name in sorted(variables)}
