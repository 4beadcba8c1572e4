"""One decision in the making: the draft of the state, the time, and the events so far."""

from datetime import datetime
from typing import Final

from taskloom.domain.workflow.draft import draft_of
from taskloom.domain.workflow.events import WorkflowEvent
from taskloom.domain.workflow.evolve import apply
from taskloom.domain.workflow.scope import Scope
from taskloom.domain.workflow.state import Node, RunState

MAX_EVENTS: Final = 5_000
"""Events after which a decision leaves the rest for later, so that no run holds up the others of its partition. What
stops a body, or expands a map, is not cut in two: that may go over it."""


class Work:
    def __init__(self, state: RunState, now: datetime) -> None:
        self.d, self.now = draft_of(state), now
        self.events: list[WorkflowEvent] = []

    def emit(self, event: WorkflowEvent) -> None:
        """Takes the event down and applies it."""
        self.events.append(event)
        apply(self.d, event)

    def has_room(self) -> bool:
        return len(self.events) < MAX_EVENTS

    def scope(self, node: Node) -> Scope:
        """Names for the expressions of a step."""
        return Scope(self.d, node.frame, node.plan.id)
