"""What the shell is asked to do, and the names of events."""

from msgspec import structs

from taskloom.domain.envelope import EventMeta
from taskloom.domain.ids import is_valid_id
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.wanted import (
    CancelChild,
    EndRun,
    SubmitChild,
    child_id,
    event_names,
    parent_of,
    root_of,
    wanted,
)


def test_a_scheduled_step_is_submitted_with_the_fields_of_its_task() -> None:
    deed = wanted(e.StepScheduled("a", {"kind": "shell", "input": {"cmd": "true"}, "retry": {"max_attempts": 2}}))
    assert isinstance(deed, SubmitChild)
    assert (deed.path, deed.command.kind, deed.command.input) == ("a", "shell", {"cmd": "true"})
    assert deed.command.retry is not None
    assert deed.command.retry.max_attempts == 2


def test_ends_and_cancels_are_told_and_the_rest_is_not() -> None:
    error = ErrorInfo("X", "x")
    assert wanted(e.StepCancelRequested("a", "why")) == CancelChild("a", "why")
    assert wanted(e.WorkflowCompleted()) == EndRun("completed")
    assert wanted(e.WorkflowFailed(error)) == EndRun("failed", error)
    assert wanted(e.WorkflowFailed(error, "a")) == EndRun("failed", structs.replace(error, message="step a: x"))
    assert wanted(e.WorkflowCancelled("why")) == EndRun("cancelled", reason="why")
    assert wanted(e.WorkflowTimedOut(5.0)) == EndRun("timed_out", limit_s=5.0)
    assert wanted(e.StepCompleted("a")) is None


def test_a_child_of_a_child_leads_back_to_the_outermost_run() -> None:
    inner = child_id(child_id("run", "loop.3.sub"), "map.17")
    assert inner == "run~loop.3.sub~map.17"
    assert parent_of(inner) == ("run~loop.3.sub", "map.17")
    assert root_of(inner) == "run"
    assert (parent_of("run"), root_of("run")) == (None, "run")
    assert not is_valid_id(inner), "a client cannot take the id of a child"


def test_event_names_are_public_versioned_and_unique() -> None:
    names = event_names()
    assert len(names) == len(e.AnyWorkflowEvent.__args__)
    assert all(
        name.startswith(("taskloom.workflow.", "taskloom.step.", "taskloom.goal.")) and name.endswith(".v1")
        for name in names
    )


def test_no_field_of_an_event_hides_one_of_its_envelope() -> None:
    envelope = {*EventMeta.__struct_fields__, "type", "hash"}
    assert not [(kind, clash) for kind in event_names().values() if (clash := envelope & {*kind.__struct_fields__})]
