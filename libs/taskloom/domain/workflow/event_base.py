"""What all events of a run have in common."""

from taskloom.domain.event import Event


class WorkflowEvent(Event, frozen=True):
    """Base of all events of a run."""


class StepEvent(WorkflowEvent, frozen=True):
    """Base of all events of one step."""

    path: str
