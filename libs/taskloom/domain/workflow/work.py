"""One decision in the making: the draft of the state, the time, and the events so far."""

from datetime import datetime

from taskloom.domain.workflow.draft import draft_of
from taskloom.domain.workflow.events import WorkflowEvent
from taskloom.domain.workflow.evolve import apply
from taskloom.domain.workflow.means import USUAL, Means
from taskloom.domain.workflow.scope import Scope
from taskloom.domain.workflow.state import Node, RunState


class Work:
    """What stops a body of steps, or expands a map, is not cut in two: that may go over ``means.room``."""

    def __init__(self, state: RunState, now: datetime, means: Means = USUAL) -> None:
        self.d, self.now, self.means = draft_of(state), now, means
        self.events: list[WorkflowEvent] = []

    def emit(self, event: WorkflowEvent) -> None:
        """Takes the event down and applies it."""
        self.events.append(event)
        apply(self.d, event)

    def has_room(self) -> bool:
        return len(self.events) < self.means.room

    def scope(self, node: Node) -> Scope:
        """Names for the expressions of a step."""
        return Scope(self.d, node.frame, node.plan.id, self.means.values)
