from datetime import timedelta

import pytest

from taskloom.domain.policies import elsewhere
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.submission import Invalid, normalise
from taskloom.domain.values import ErrorInfo
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask, given
from tests.unit.domain.task.lives import ASSIGN, FIRE, ready, running, submit


def waiting(*depends_on: str, **fields: object) -> GivenTask:
    return given(submit(depends_on=depends_on, **fields))


def done(task: str, outcome: str = "completed") -> c.NoteDependency:
    return c.NoteDependency(task, outcome)  # type: ignore[arg-type]


def test_a_task_with_dependencies_waits_and_asks_each_of_them() -> None:
    task = waiting("a", "b")
    assert task.state.word == "waiting"
    assert not task.state.dispatchable
    asked = elsewhere("task-1", e.TaskWaiting(("a", "b")))
    assert asked == [("a", c.WatchTask("task-1")), ("b", c.WatchTask("task-1"))]


def test_the_last_dependency_that_completes_lets_it_go() -> None:
    task = waiting("a", "b")
    task.when(done("a")).then(e.DependencyEnded("a", "completed"))
    task.when(done("b")).then(e.DependencyEnded("b", "completed"), e.TaskQueued("dependencies"))
    assert task.state.dispatchable


def test_a_dependency_that_is_told_twice_changes_nothing_the_second_time() -> None:
    task = waiting("a", "b")
    task.when(done("a"))
    task.when(done("a")).then_nothing()
    task.when(done("c")).then_nothing()


def test_its_own_start_time_still_holds_after_the_dependencies() -> None:
    task = waiting("a", run_at=START + timedelta(hours=1))
    task.when(done("a")).then_types(e.DependencyEnded, e.TaskScheduled)
    task.when(FIRE, after_s=3600).then(e.TaskQueued("run_at"))


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "timed_out", "unknown"])
def test_a_dependency_that_did_not_complete_fails_the_task(outcome: str) -> None:
    task = waiting("a", "b")
    task.when(done("a", outcome)).then_types(e.DependencyEnded, e.TaskFailed)
    assert task.state.error is not None
    assert task.state.error.type == "dependency_failed"
    assert "dependency a" in task.state.error.message


def test_the_policy_can_skip_the_task() -> None:
    task = waiting("a", on_dependency_failure="skip")
    task.when(done("a", "failed")).then(
        e.DependencyEnded("a", "failed"), e.TaskCancelled(reason="skipped: dependency a failed")
    )


def test_the_policy_can_go_on_all_the_same() -> None:
    task = waiting("a", on_dependency_failure="continue")
    task.when(done("a", "failed")).then(e.DependencyEnded("a", "failed"), e.TaskQueued("dependencies"))


def test_a_waiting_task_can_be_cancelled_and_paused() -> None:
    waiting("a").when(c.CancelTask()).then_types(e.CancelRequested, e.TaskCancelled)
    task = waiting("a")
    task.when(c.PauseTask()).then_types(e.PauseRequested, e.TaskPaused)
    task.when(done("a")).then_types(e.DependencyEnded, e.TaskQueued)
    assert not task.state.dispatchable
    task.when(c.ResumeTask())
    assert task.state.dispatchable


def test_dependencies_come_and_go_until_the_task_is_handed_out() -> None:
    task = ready()
    task.when(c.AddDependency("a")).then(e.DependencyAdded("a"))
    assert task.state.word == "waiting"
    task.when(c.AddDependency("a")).then_nothing()
    task.when(c.RemoveDependency("a")).then(e.DependencyRemoved("a"), e.TaskQueued("dependencies"))
    task.when(c.RemoveDependency("a")).then_refused("conflict", "the task does not wait for a")
    task.when(ASSIGN)
    task.when(c.AddDependency("b")).then_refused("conflict")


def test_a_task_cannot_depend_on_itself() -> None:
    ready().when(c.AddDependency("task-1")).then_refused("invalid", "a task cannot depend on itself")
    with pytest.raises(Invalid, match="itself") as caught:
        normalise(c.SubmitTask(kind="echo", depends_on=("a", "t")), task_id="t", tenant_id="default", user_id="")
    assert caught.value.field == "depends_on[1]"


def test_who_watches_is_told_in_the_transaction_of_the_end() -> None:
    task = running()
    task.when(c.WatchTask("w-1")).then(e.WatcherAdded("w-1"))
    task.when(c.WatchTask("w-1")).then_nothing()
    task.when(c.WatchTask("w-2"))
    told = e.WatchersTold(("w-1", "w-2"), "completed")
    task.when(c.ReportCompleted(1, "ex-1")).then(told, e.TaskCompleted(1))
    assert elsewhere("task-1", told) == [("w-1", done("task-1")), ("w-2", done("task-1"))]


def test_a_retry_is_no_end_and_tells_nobody() -> None:
    task = running(retry={"max_attempts": 2})
    task.when(c.WatchTask("w-1"))
    failed = c.ReportFailed(1, "ex-1", ErrorInfo("ValueError", "boom"))
    task.when(failed).then_types(e.AttemptFailed, e.RetryScheduled)


def test_who_asks_after_the_end_is_answered_by_the_event_itself() -> None:
    task = running()
    task.when(c.ReportCompleted(1, "ex-1"))
    task.when(c.WatchTask("w-1")).then(e.WatcherAdded("w-1", "completed"))
    assert elsewhere("task-1", e.WatcherAdded("w-1", "completed")) == [("w-1", done("task-1"))]
    assert elsewhere("task-1", e.WatcherAdded("w-1")) == []


def test_another_tenants_task_cannot_be_watched() -> None:
    running().when(c.WatchTask("w-1"), tenant_id="other").then_refused("not_found")
