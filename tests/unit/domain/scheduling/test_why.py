from datetime import timedelta

import pytest

from taskloom.domain.scheduling.gates import Gate
from taskloom.domain.scheduling.why import explain
from taskloom.domain.task import commands as c
from taskloom.domain.task.snapshot import decode_state, encode_state
from taskloom.testing.clock import START
from taskloom.testing.given import given
from tests.unit.domain.scheduling.test_scheduling import offer, ready, scheduler
from tests.unit.domain.task.lives import ENDED, in_state


@pytest.mark.parametrize("word", [*ENDED, "running"])
def test_nothing_holds_a_task_that_runs_or_has_ended(word: str) -> None:
    found = explain(in_state(word).state, scheduler(), START)
    assert (found.state, found.gates) == (word, ())


def test_a_scheduled_task_waits_for_its_time() -> None:
    found = explain(in_state("scheduled").state, scheduler(), START)
    assert [gate.gate for gate in found.gates] == ["schedule"]
    assert found.expected_start == START + timedelta(days=365)


def test_a_retry_names_the_error_before_and_when_it_goes_on() -> None:
    task = in_state("retrying")
    found = explain(task.state, scheduler(), START)
    assert found.gates == (Gate("retry", "waits before attempt 2 (ValueError: boom)", START),)
    assert found.expected_start == task.state.retry_at


def test_a_pause_names_who_asked_for_it_beside_the_other_gates() -> None:
    task = ready("t")
    task.when(c.PauseTask("lunch"), actor="ann")
    gates = explain(task.state, scheduler(), START).gates
    assert gates == (Gate("pause", "lunch", START, ("ann",)), Gate("executor", "no executor is connected", START))


def test_a_cancel_that_is_under_way_is_a_gate() -> None:
    gates = explain(in_state("cancelling").state, scheduler(), START).gates
    assert [gate.gate for gate in gates] == ["cancel"]


def test_an_assigned_task_waits_for_its_executor() -> None:
    [gate] = explain(in_state("assigned").state, scheduler(), START).gates
    assert (gate.gate, gate.held_by) == ("start", ("ex-1",))


@pytest.mark.parametrize(
    ("fields", "gate", "detail"),
    [
        ({"kind": "shell"}, "kind", "no executor runs kind 'shell'"),
        ({"queue": "slow"}, "queue", "no executor serves queue 'slow'"),
        ({"executor_id": "ex-7"}, "executor", "executor ex-7 is not connected"),
        ({"capabilities": ["gpu"]}, "capability", "no executor has all of the capabilities gpu"),
        ({"labels": {"zone": "b"}}, "label", "no executor has the labels zone=b"),
    ],
)
def test_what_no_executor_has_is_named(fields: dict[str, object], gate: str, detail: str) -> None:
    assert explain(ready("t", **fields).state, scheduler(offer()), START).gates == (Gate(gate, detail, START),)


def test_agents_of_other_tenants_are_not_there_and_own_ones_say_what_they_run() -> None:
    gate = Gate("executor", "no executor is connected", START)
    assert explain(ready("t").state, scheduler(offer(tenant_id="red", agent_id="ex-1")), START).gates == (gate,)
    own = scheduler(offer(tenant_id="default", agent_id="ex-1"))
    detail = "agents run only what names one of them, a queue of theirs, a capability or a label"
    assert explain(ready("t").state, own, START).gates == (Gate("agent", detail, START),)
    assert explain(ready("t", executor_id="ex-1").state, own, START).gates == ()


def test_taken_slots_are_named_with_who_holds_them() -> None:
    it, first, second = scheduler(offer()), ready("first"), ready("second")
    for task in (first, second):
        it.observe(task.state)
    it.assign(1, START)
    [gate] = explain(second.state, it, START).gates
    assert (gate.gate, gate.detail, gate.held_by) == ("slot", "all slots of ex-1 are taken", ("first",))


def test_tasks_that_go_first_are_named() -> None:
    it, second = scheduler(offer()), ready("second")
    it.observe(ready("first", priority=5).state)
    it.observe(second.state)
    [gate] = explain(second.state, it, START).gates
    assert (gate.gate, gate.held_by) == ("priority", ("first",))


def test_why_names_what_the_steps_of_a_workflow_wait_for() -> None:
    steps = [{"step_type": "signal", "id": "go", "signal": "go"}, {"step_type": "approval", "id": "ok"}]
    task = given(c.SubmitTask(kind="workflow", input={"definition": {"name": "p", "steps": steps}}))
    found = explain(task.state, scheduler(), START)
    assert found.state == "running"
    assert [(gate.gate, gate.held_by, gate.detail) for gate in found.gates] == [
        ("step", ("go",), "waits for its signal"),
        ("step", ("ok",), "waits for a decision"),
    ]


def test_why_tells_since_when_each_step_waits() -> None:
    steps = [
        {"step_type": "signal", "id": "s", "signal": "go"},
        {"step_type": "wait", "id": "w", "wait_seconds": 60},
        {"step_type": "approval", "id": "ok", "depends_on": ["w"]},
    ]
    run = given(c.SubmitTask(kind="workflow", input={"definition": {"name": "p", "steps": steps}}))
    run.when(c.FireTimers(), after_s=60)
    later = run.state.changed_at
    run.when(c.PatchVariables({"x": 1}), after_s=5)
    run.when(c.PatchVariables({"x": 2}), after_s=5)
    gates = explain(decode_state(encode_state(run.state)), scheduler(offer()), START).gates
    assert {gate.held_by: gate.since for gate in gates} == {("ok",): later, ("s",): run.state.submitted_at}


def test_why_shows_what_holds_the_task_of_a_workflows_step() -> None:
    template = {"kind": "echo", "capabilities": ["gpu"]}
    steps = [
        {"step_type": "task", "id": "a", "task_template": template},
        {"step_type": "signal", "id": "s", "signal": "s"},
    ]
    run = given(c.SubmitTask(kind="workflow", input={"definition": {"name": "p", "steps": steps}}))
    held, running = ready("t", capabilities=["gpu"]).state, in_state("running").state
    [gate, _signal] = explain(run.state, scheduler(offer()), START, {f"{run.state.task_id}~a": held}.get).gates
    assert (gate.gate, gate.detail) == ("capability", "step a: no executor has all of the capabilities gpu")
    [_signal, gate] = explain(run.state, scheduler(offer()), START, {f"{run.state.task_id}~a": running}.get).gates
    assert (gate.gate, gate.detail, gate.held_by) == ("step", "its task is under way", (running.task_id,))
