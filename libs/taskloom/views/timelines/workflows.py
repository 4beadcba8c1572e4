"""What the events of a workflow's run are called in streams and timelines, and what they say to people."""

from collections.abc import Callable
from typing import Any, Final, get_args

from taskloom.domain.event import Event
from taskloom.domain.workflow import events as w
from taskloom.views.timelines.goals import GOAL_ENTRY_TYPES, GOAL_TEXTS


def _stream_type(kind: type[Event]) -> str:
    """``taskloom.step.wait-started.v1`` is STEP_WAIT_STARTED; the run's own begin with RUN, a goal's with GOAL."""
    _, scope, name, _ = str(kind.__struct_config__.tag).split(".")
    return f"{'RUN' if scope == 'workflow' else scope.upper()}_{name.replace('-', '_').upper()}"


WORKFLOW_STREAM_TYPES: Final[dict[type[Event], str]] = {
    **{kind: _stream_type(kind) for kind in get_args(w.AnyWorkflowEvent)},
    w.ApprovalRequested: "APPROVAL_REQUESTED",
    w.ApprovalDecided: "APPROVAL_DECISION",
    w.SignalReceived: "SIGNAL_RECEIVED",
}

WORKFLOW_ENTRY_TYPES: Final[dict[type[Event], str]] = {
    **dict.fromkeys(get_args(w.AnyWorkflowEvent), "MARKER_RECORDED"),
    w.SignalReceived: "SIG_RECEIVED",
    w.ApprovalDecided: "SIG_RECEIVED",
    w.VariablesMerged: "ATTR_UPSERT",
    w.WaitStarted: "TIMER_STARTED",
    w.ApprovalRequested: "TIMER_STARTED",
    w.SignalAwaited: "TIMER_STARTED",
    w.ApprovalExpired: "TIMER_FIRED",
    w.StepScheduled: "CHILD_INITIATED",
    w.StepStarted: "CHILD_STARTED",
    w.StepCompleted: "CHILD_COMPLETED",
    w.StepFailed: "CHILD_FAILED",
    w.StepCancelled: "CHILD_CANCELLED",
    **GOAL_ENTRY_TYPES,
}


def _because(text: str) -> str:
    return f": {text}" if text else ""


def _error(event: Any) -> str:
    return f": {event.error.type}: {event.error.message}" if event.error is not None else ""


def _until(event: Any) -> str:
    return f" until {event.due_at.isoformat()}" if event.due_at is not None else ""


WORKFLOW_TEXTS: Final[dict[type[Event], Callable[[Any], str]]] = {
    w.WorkflowStarted: lambda event: f"Workflow {event.name} began with {event.steps} steps",
    w.WorkflowRetried: lambda event: (
        "The workflow begins again from its start"
        if event.start == "start"
        else f"The workflow goes on: {len(event.steps)} of its steps are not done"
    ),
    w.WorkflowPaused: lambda event: f"No further step starts{_because(event.reason)}",
    w.WorkflowResumed: lambda event: f"Steps start again{_because(event.reason)}",
    w.WorkflowStopping: lambda event: f"The workflow stops ({event.why}){_because(event.reason)}",
    w.VariablesMerged: lambda event: f"Variables set: {', '.join(sorted(event.values)[:10])}",
    w.SignalReceived: lambda event: f"Signal {event.name} received",
    w.CompensationStarted: lambda event: f"{event.steps} completed steps are undone",
    w.FailureStepsStarted: lambda _event: "The failure steps began",
    w.WorkflowCompleted: lambda _event: "All steps have ended",
    w.WorkflowFailed: lambda event: f"The workflow failed{_because(event.path)}{_error(event)}",
    w.WorkflowCancelled: lambda event: f"The workflow was cancelled{_because(event.reason)}",
    w.WorkflowTimedOut: lambda event: f"The workflow passed its limit of {event.limit_s:g} s",
    w.StepScheduled: lambda event: f"Step {event.path} became a task",
    w.StepRetried: lambda event: f"The child workflow of step {event.path} goes on",
    w.StepStarted: lambda event: f"Step {event.path} began",
    w.BranchTaken: lambda event: f"Step {event.path} took its {'true' if event.value else 'false'} branch",
    w.LoopRound: lambda event: f"Step {event.path} {f'began round {event.n}' if event.condition else 'is through'}",
    w.MapExpanded: lambda event: f"Step {event.path} has {event.total} items",
    w.WaitStarted: lambda event: f"Step {event.path} waits{_until(event)}",
    w.SignalAwaited: lambda event: f"Step {event.path} waits for the signal {event.name}{_until(event)}",
    w.SignalDelivered: lambda event: f"Step {event.path} took the signal {event.name}",
    w.ApprovalRequested: lambda event: f"Step {event.path} waits for approval{_because(event.message)}",
    w.ApprovalDecided: lambda event: (
        f"Step {event.path} was {'approved' if event.approved else 'rejected'} by {event.by}{_because(event.comment)}"
    ),
    w.ApprovalExpired: lambda event: f"Nobody decided on step {event.path} in time: {event.outcome}",
    w.CheckpointSaved: lambda event: f"Checkpoint at step {event.path}",
    w.StepCompleted: lambda event: f"Step {event.path} completed",
    w.StepFailed: lambda event: f"Step {event.path} failed{_error(event)}",
    w.StepSkipped: lambda event: f"Step {event.path} was skipped{_because(event.reason)}",
    w.StepCancelRequested: lambda event: f"Step {event.path} is told to stop{_because(event.reason)}",
    w.StepCancelled: lambda event: f"Step {event.path} was cancelled{_because(event.reason)}",
    w.StepStopping: lambda event: f"The rest of step {event.path} stops{_because(event.reason)}",
    w.StepRestored: lambda event: f"Step {event.path} had completed before",
    w.StepCompensating: lambda event: f"Step {event.path} is undone",
    w.StepCompensated: lambda event: (
        f"Step {event.path} {'could not be' if event.error else 'was'} undone{_error(event)}"
    ),
    **GOAL_TEXTS,
}
