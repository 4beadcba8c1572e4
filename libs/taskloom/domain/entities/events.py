"""Facts about aggregates that are no tasks."""

from typing import Any, Final, get_args

from taskloom.domain.event import Event


class DefinitionSaved(Event, frozen=True, tag="taskloom.definition.saved.v1"):
    """``revision`` counts from 1. A save after a removal brings the definition back."""

    revision: int
    definition: dict[str, Any]


class DefinitionRemoved(Event, frozen=True, tag="taskloom.definition.removed.v1"):
    reason: str = ""


DefinitionEvent = DefinitionSaved | DefinitionRemoved
EntityEvent = DefinitionEvent

ENTITY_EVENTS: Final = get_args(EntityEvent)
