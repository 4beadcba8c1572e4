from datetime import timedelta
from typing import Any

import msgspec
import pytest

from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.scheduling.why import explain
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.approvals import own_approval_id
from taskloom.domain.task.state import next_due
from taskloom.domain.values import ErrorInfo
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask, Outcome, given
from taskloom.views.timelines.stream import stream_event
from tests.unit.domain.task.lives import ASSIGN, FIRE, completed, failed, started, submit

FIRST = own_approval_id("task-1", 1)
SECOND = own_approval_id("task-1", 2)


def held(approval: dict[str, Any] | None = None, **fields: Any) -> GivenTask:
    return given(submit(approval={"message": "delete all?", **(approval or {})}, **fields))


def decide(task: GivenTask, approved: bool, *, by: str = "ann", approval: str = FIRST, **fields: Any) -> Outcome:
    return task.when(c.DecideApproval(approval, approved, **fields), after_s=1, actor=by, command_id=f"d-{by}")


def test_a_task_that_asks_for_approval_waits_and_is_not_dispatched() -> None:
    task = held({"approvers": ["ann"], "timeout_s": 60})
    assert task.events[1:] == [e.TaskApprovalRequested(1, "delete all?", ("ann",), START + timedelta(seconds=60))]
    assert (task.state.word, task.state.dispatchable) == ("waiting", False)
    assert next_due(task.state) == START + timedelta(seconds=60)
    task.when(ASSIGN).then_refused("conflict")
    [gate] = explain(task.state, Scheduler(ExecutorPool(4, lost_after_beats=4)), task.clock.now).gates
    assert (gate.gate, gate.since, gate.held_by) == ("approval", START, ("ann",))
    assert "delete all?" in gate.detail


def test_an_approved_task_goes_into_its_queue() -> None:
    task = held()
    decide(task, True, comment="go", modified_action={"rows": 3}).then(
        e.TaskApprovalDecided(1, True, "ann", "go", {"rows": 3}), e.TaskQueued("approved")
    )
    assert task.state.dispatchable
    assert next_due(task.state) is None
    task.check_replay()


def test_a_denied_task_fails_with_who_denied_it_and_why() -> None:
    task = held()
    outcome = decide(task, False, comment="too risky", on_behalf_of="the board")
    assert outcome.events[0] == e.TaskApprovalDecided(1, False, "ann", "too risky", None, "the board")
    error = ErrorInfo("approval_denied", "rejected by ann: too risky", False, {"approval_id": FIRST})
    assert outcome.events[1:] == [e.TaskFailed(error)]
    assert task.state.word == "failed"
    task.check_replay()


@pytest.mark.parametrize(
    ("on_timeout", "word", "error"),
    [("fail", "failed", "approval_expired"), ("reject", "failed", "approval_denied"), ("approve", "ready", None)],
)
def test_what_nobodys_decision_means(on_timeout: str, word: str, error: str | None) -> None:
    task = held({"timeout_s": 60, "on_timeout": on_timeout})
    task.when(FIRE, after_s=59).then_nothing()
    outcome = task.when(FIRE, after_s=1)
    assert outcome.events[0] == e.TaskApprovalExpired(1, on_timeout)  # type: ignore[arg-type]
    assert task.state.word == word
    assert (task.state.error and task.state.error.type) == error
    task.check_replay()


def test_only_the_approvers_may_decide_where_some_are_named() -> None:
    task = held({"approvers": ["ann"]})
    decide(task, True, by="bob").then_refused("conflict", field="by")
    assert decide(task, True).events


def test_a_decision_that_comes_twice_changes_nothing_the_second_time() -> None:
    task = held()
    assert decide(task, True).events
    decide(task, True).then_nothing()
    decide(task, False, by="bob").then_refused("conflict", field="step")


def test_another_approvals_id_does_not_decide_on_this_one() -> None:
    decide(held(), True, approval=SECOND).then_refused("conflict", field="step")
    decide(held(), True, approval="somewhere.else").then_refused("conflict", field="step")


def test_dependencies_and_an_approval_both_have_to_come() -> None:
    task = held(depends_on=["a"])
    decide(task, True).then(e.TaskApprovalDecided(1, True, "ann"))
    assert task.state.word == "waiting"
    task.when(c.NoteDependency("a", "completed")).then_types(e.DependencyEnded, e.TaskQueued)

    task = held(depends_on=["a"])
    task.when(c.NoteDependency("a", "completed")).then_types(e.DependencyEnded)
    assert task.state.word == "waiting"
    decide(task, True).then_types(e.TaskApprovalDecided, e.TaskQueued)


def test_a_paused_task_can_be_approved_and_goes_when_it_is_resumed() -> None:
    task = held()
    task.when(c.PauseTask("lunch")).then_types(e.PauseRequested, e.TaskPaused)
    decide(task, True).then_types(e.TaskApprovalDecided, e.TaskQueued)
    assert (task.state.word, task.state.dispatchable) == ("paused", False)
    task.when(c.ResumeTask())
    assert task.state.dispatchable


def test_a_task_that_waits_for_approval_can_be_cancelled_and_then_nobody_decides() -> None:
    task = held({"timeout_s": 60})
    task.when(c.CancelTask("no")).then_types(e.CancelRequested, e.TaskCancelled)
    assert next_due(task.state) is None
    decide(task, True).then_refused("conflict")


def test_a_retry_asks_anew_after_a_denial_and_not_after_an_approval() -> None:
    task = held()
    decide(task, False)
    retried = task.when(c.RetryTask("it is safe now"), after_s=1).events
    assert retried == [e.TaskRetried("it is safe now"), e.TaskApprovalRequested(2, "delete all?")]
    decide(task, True, by="bob").then_refused("conflict", field="step")
    decide(task, True, by="cid", approval=SECOND).then_types(e.TaskApprovalDecided, e.TaskQueued)
    for command in (ASSIGN, started(), failed(error=ErrorInfo("X", "x", retryable=False))):
        task.when(command)
    task.when(c.RetryTask()).then_types(e.TaskRetried, e.TaskQueued)
    task.check_replay()


def test_a_workflow_begins_when_it_was_approved() -> None:
    plan = {"definition": {"name": "w", "steps": [{"step_type": "approval", "id": "ok", "approvers": ["bob"]}]}}
    task = held(kind="workflow", input=plan)
    assert task.state.run is None
    decide(task, True)
    assert task.state.word == "running"
    decide(task, True, approval="task-1~ok", by="ann2").then_refused("conflict", field="by")
    decide(task, True, approval="task-1~ok", by="bob", modified_action="less")
    assert task.state.word == "completed"


def test_the_stream_event_tells_the_approvals_id_in_its_message() -> None:
    [_, asked] = held().history
    event = stream_event(asked)
    assert event.type == "APPROVAL_REQUESTED"
    told = msgspec.json.decode(event.message)
    assert (told["approval_id"], told["message"], told["workflow_id"]) == (FIRST, "delete all?", "task-1")
    task = held()
    decide(task, False, comment="no")
    decision = stream_event(task.history[2])
    assert (decision.type, decision.message) == ("APPROVAL_DECISION", "Rejected by ann: no")
    assert decision.payload is not None
    assert decision.payload["approval_id"] == FIRST


def test_a_task_without_an_approval_takes_no_decision() -> None:
    decide(given(submit()), True).then_refused("conflict", field="step")
    task = given(submit(), ASSIGN, started(), completed())
    decide(task, True).then_refused("conflict", field="step")
