"""Every decision is an event: what was decided is never worked out again."""

from typing import Any

import pytest

from taskloom.domain.workflow import conditions, expressions, settle, starting
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.definition import KINDS
from taskloom.domain.workflow.evolve import fold_run, open_run
from taskloom.domain.workflow.scope import Scope
from tests.unit.domain.workflow.runs import Run, step, task


def every_kind() -> Run:
    """A run through steps of all kinds whose expressions all matter, to its end by a failure and compensations."""
    run = Run(
        task("t", input={"x": "{{ n }}"}, compensation=[task("back", input={"was": "{{ compensated }}"})]),
        step("p", "parallel", depends_on=["t"], sub_steps=[task("p1"), task("p2")]),
        step("q", "sequential", depends_on=["t"], sub_steps=[task("q1"), task("q2", input={"r": "{{ result }}"})]),
        step(
            "i", "conditional", depends_on=["t"], condition="n > 2", true_steps=[task("yes")], false_steps=[task("no")]
        ),
        step(
            "l", "loop", loop_condition="iteration < 3", max_iterations=5, loop_steps=[task("r")], on_failure="continue"
        ),
        step("w", "wait", wait_seconds="{{ n }}"),
        step("c", "wait", wait_condition={"field": "later", "operator": "exists"}),
        step("m", "map", items="[n, n]", task_template={"kind": "echo", "input": {"i": "{{ item }}"}}),
        step("k", "child", definition={"name": "k", "steps": [task("x")]}, variables={"n": "{{ n }}"}),
        step("o", "approval", message="is {{ n }} right?"),
        step("s", "signal", signal="go"),
        step("z", "checkpoint", depends_on=["s"]),
        task("last", "p", "q", "i", "l", "w", "c", "m", "k", "o", "z"),
        max_parallel_tasks=20,
        on_failure="compensate",
        failure_steps=[task("sorry", input={"n": "{{ n }}"})],
        variables={"n": 3},
    )
    run.when(h.Signal("go", {"variables": {"later": 1}}))
    run.when(h.Decide("o", True))
    while "last" not in run.live:
        if run.live:
            run.complete(run.live[0], {"at": run.live[0]})
        else:
            run.pass_time(3)
    run.fail("last")
    return run.finish()


def test_a_replay_evaluates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = every_kind()
    assert {node.plan.kind for node in run.state.nodes.values()} == set(KINDS)

    def evaluated(*_: Any, **__: Any) -> None:
        raise AssertionError("something was worked out anew")

    for module, name in (
        *((expressions, name) for name in ("evaluate", "render", "render_in", "parsed")),
        *((conditions, name) for name in ("holds", "look_up")),
        *((settle, "render"), (starting, "render_in")),
    ):
        monkeypatch.setattr(module, name, evaluated)
    monkeypatch.setattr(Scope, "__getitem__", evaluated)
    opened = open_run(run.input)
    assert fold_run(opened, run.history) == run.state
