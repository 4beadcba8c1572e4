"""What the events of a goal say to people."""

from collections.abc import Callable
from typing import Any, Final

from taskloom.domain.event import Event
from taskloom.domain.goals import events as g

GOAL_ENTRY_TYPES: Final[dict[type[Event], str]] = {
    g.GoalPlanned: "CMD_SENT",
    g.GoalStepStarted: "MARKER_RECORDED",
}


def _called(calls: Any) -> str:
    names = [f"{call.server}/{call.tool}" for call in calls]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _checked(event: g.GoalCallsChecked) -> str:
    made = [call for call in event.calls if not call.refused]
    refused = [call for call in event.calls if call.refused]
    if event.error is not None:
        return f"No turn of the model: {event.error.message}"
    if not event.calls:
        return "The model calls no more tools"
    told = f"The model calls {_called(made)}" if made else "None of the model's calls is made"
    return told + (f"; refused: {_called(refused)}" if refused else "")


def _ended(event: g.GoalStepEnded) -> str:
    why = f": {event.error.message}" if event.error is not None else ""
    return f"Step {event.index + 1} of plan {event.plan_version} {event.status}{why}"


def _planned(event: g.GoalPlanned) -> str:
    steps = f"{len(event.steps)} step{'' if len(event.steps) == 1 else 's'}"
    return f"Plan {event.plan_version} has {steps}, by {event.by}" + (f": {event.reason}" if event.reason else "")


GOAL_TEXTS: Final[dict[type[Event], Callable[[Any], str]]] = {
    g.GoalPlanned: _planned,
    g.GoalStepStarted: lambda event: f"Step {event.index + 1} of plan {event.plan_version} ({event.step_id}) began",
    g.GoalCallsChecked: _checked,
    g.GoalCallsEnded: lambda event: (
        f"{sum(call.status == 'success' for call in event.calls)} of {len(event.calls)} calls succeeded"
    ),
    g.GoalStepEnded: _ended,
    g.GoalSummarized: lambda event: (
        f"The context was summed up: about {event.tokens_before} tokens became {event.tokens_after}"
    ),
    g.GoalSettled: lambda event: (
        f"The goal was {'' if event.achieved else 'not '}achieved" + (f": {event.reason}" if event.reason else "")
    ),
}
