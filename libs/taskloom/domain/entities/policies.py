"""What follows an event of an entity elsewhere: commands for tasks. They follow from the event alone, so whoever finds
the event unpublished can send them again."""

from typing import Any

import msgspec

from taskloom.domain.entities.commands import NoteRun
from taskloom.domain.entities.events import RunTriggered
from taskloom.domain.task.commands import CancelTask, SubmitTask, TaskCommand, WatchTask


def elsewhere(entity_id: str, event: Any) -> list[tuple[str, TaskCommand | NoteRun, str]]:
    """Each with its task and in whose name it is sent."""
    if not isinstance(event, RunTriggered):
        return []
    submission = msgspec.convert(event.submission, SubmitTask)
    cancels = [(run, CancelTask("the schedule's next run is due"), "") for run in event.cancels]
    return [*cancels, (event.run_id, submission, event.user_id), (event.run_id, WatchTask(entity_id), "")]
