"""A workflow is a task whose run advances in its own stream."""

from typing import Any

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.state import next_due
from taskloom.domain.values import ErrorInfo, Timeouts
from taskloom.domain.workflow import events as w
from taskloom.testing.given import GivenTask, given


def step(name: str, *needs: str, **more: Any) -> dict[str, Any]:
    template = {"kind": "shell", "input": {"cmd": f"echo {name}"}}
    return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": template, **more}


def submission(*steps: dict[str, Any], **more: Any) -> c.SubmitTask:
    variables = more.pop("variables", {})
    return c.SubmitTask(
        kind="workflow", input={"definition": {"name": "plan", "steps": list(steps), **more}, "variables": variables}
    )


def run_of(*steps: dict[str, Any], **more: Any) -> GivenTask:
    return given(submission(*steps, **more))


def ended(path: str, outcome: Any = "completed", result: Any = None) -> c.NoteChild:
    error = ErrorInfo("boom", "it broke") if outcome == "failed" else None
    return c.NoteChild(path, outcome, result, error)


def test_steps_in_a_row_run_one_after_the_other_and_end_the_task() -> None:
    task = run_of(step("a"), step("b", "a"))
    assert [type(event) for event in task.events] == [e.TaskSubmitted, w.WorkflowStarted, w.StepScheduled]
    assert (task.state.word, task.state.dispatchable, task.state.live) == ("running", False, None)
    task.when(ended("a", result=1)).then_types(w.StepCompleted, w.StepScheduled)
    done = task.when(ended("b", result=2)).then_types(w.StepCompleted, w.WorkflowCompleted, e.TaskCompleted).events[-1]
    assert isinstance(done, e.TaskCompleted)
    assert done.response == {"variables": {}, "results": {"a": 1, "b": 2}}
    assert (task.state.word, task.state.run, next_due(task.state)) == ("completed", None, None)
    task.check_replay()


def test_the_state_of_a_run_is_rebuilt_from_its_events() -> None:
    task = run_of(step("a"), step("b"), step("c", "a", "b"), variables={"x": 1})
    task.when(ended("b", result={"variables": {"y": 2}}))
    task.check_replay()


def test_a_step_that_ends_twice_counts_once() -> None:
    task = run_of(step("a"), step("b", "a"))
    task.when(ended("a"))
    task.when(ended("a")).then_nothing()


def test_a_failed_step_fails_the_task_and_the_others_are_skipped() -> None:
    task = run_of(step("a"), step("b", "a"))
    failed = task.when(ended("a", "failed")).events[-1]
    assert isinstance(failed, e.TaskFailed)
    assert failed.error.type == "boom"
    assert task.state.word == "failed"
    task.check_replay()


def test_a_cancel_stops_the_steps_before_the_task_ends() -> None:
    task = run_of(step("a"), step("b"))
    cancelled = task.when(c.CancelTask("enough"))
    asked = [event.path for event in cancelled.events if isinstance(event, w.StepCancelRequested)]
    assert (sorted(asked), task.state.word) == (["a", "b"], "cancelling")
    task.when(ended("a", "cancelled"))
    last = task.when(ended("b", "cancelled")).events[-1]
    assert isinstance(last, e.TaskCancelled)
    assert (last.attempt, last.reason, task.state.word) == (0, "enough", "cancelled")
    task.check_replay()


def test_a_paused_run_starts_no_step_until_it_is_resumed() -> None:
    task = run_of(step("a"), step("b", "a"))
    task.when(c.PauseTask()).then_types(e.PauseRequested, w.WorkflowPaused, e.TaskPaused)
    task.when(ended("a")).then_types(w.StepCompleted)
    assert (task.state.word, next_due(task.state)) == ("paused", None)
    task.when(c.ResumeTask()).then_types(e.TaskResumed, w.WorkflowResumed, w.StepScheduled)
    task.check_replay()


def test_a_workflow_paused_before_its_time_begins_when_it_is_resumed() -> None:
    task = GivenTask()
    run_at = task.clock.now.replace(year=task.clock.now.year + 1)
    plan = submission(step("a"))
    task.when(c.SubmitTask(kind="workflow", input=plan.input, run_at=run_at)).then_types(
        e.TaskSubmitted, e.TaskScheduled
    )
    task.when(c.PauseTask())
    task.when(c.FireTimers(), after_s=366 * 86_400).then_types(e.TaskQueued)
    assert (task.state.word, task.state.dispatchable) == ("paused", False)
    task.when(c.ResumeTask()).then_types(e.TaskResumed, w.WorkflowStarted, w.StepScheduled)


def test_timers_of_a_run_are_timers_of_its_task() -> None:
    task = run_of({"step_type": "wait", "id": "nap", "wait_seconds": 60}, timeout_seconds=100)
    due = next_due(task.state)
    assert due is not None
    assert (due - task.clock.now).total_seconds() == 60
    task.when(c.FireTimers(), after_s=59).then_nothing()
    task.when(c.FireTimers(), after_s=1).then_types(w.StepCompleted, w.WorkflowCompleted, e.TaskCompleted)


def test_a_run_over_its_limit_times_out() -> None:
    task = run_of({"step_type": "signal", "id": "go", "signal": "go"}, timeout_seconds=10)
    last = task.when(c.FireTimers(), after_s=10).events[-1]
    assert last == e.TaskTimedOut("total", 10.0)
    task.check_replay()


def test_signals_decisions_and_variables_reach_the_run() -> None:
    task = run_of(
        {"step_type": "signal", "id": "go", "signal": "start"},
        {"step_type": "approval", "id": "ok", "depends_on": ["go"]},
    )
    task.when(c.PatchVariables({"x": 1})).then_types(w.VariablesMerged)
    task.when(c.SignalTask("start", {"n": 1}))
    decided = task.when(c.DecideApproval("ok", True, "fine"), actor="ann", command_id="c1")
    assert w.ApprovalDecided("ok", True, "ann", "fine") in decided.events
    assert task.state.word == "completed"
    task.when(c.DecideApproval("ok", True), actor="ann", command_id="c1").then_nothing()
    task.when(c.SignalTask("late")).then_refused("conflict", "Task is already in terminal state: completed")
    task.check_replay()


def test_a_signal_is_for_workflows_only() -> None:
    given(c.SubmitTask(kind="echo")).when(c.SignalTask("x")).then_refused("conflict", "the task is no workflow")


def test_a_faulty_definition_is_refused_with_the_path_of_its_fault() -> None:
    GivenTask().when(submission(step("a"), step("a"))).then_refused("invalid", field="input.definition.steps[1].id")
    GivenTask().when(c.SubmitTask(kind="workflow")).then_refused("invalid", field="input.definition")


def test_a_total_limit_is_not_for_workflows() -> None:
    plan = submission(step("a"))
    limited = c.SubmitTask(kind="workflow", input=plan.input, timeouts=Timeouts(total_s=5))
    GivenTask().when(limited).then_refused("invalid", field="timeouts.total_s")


def test_a_definition_that_does_not_fit_into_an_event_is_refused() -> None:
    plan = submission(step("a"), variables={"x": "y" * 600_000})
    GivenTask().when(plan).then_refused("invalid", field="input")
