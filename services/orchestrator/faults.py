"""Tasks whose timers could not be applied: when they are tried again, and when a workflow is given up."""

from datetime import datetime, timedelta
from typing import Final

MAX_TRIES: Final = 5
"""Tries of a workflow's timer; then its run fails with the reason. Other tasks are tried for ever, ever less often."""

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
MAX_TASKS: Final = 10_000
"""Tasks that are remembered; with one more the oldest is forgotten, and so tried at once."""


class Faults:
    def __init__(self) -> None:
        self._held: dict[str, tuple[int, datetime]] = {}

    def note(self, task_id: str, now: datetime) -> bool:
        """One more try failed; True when that was the last one."""
        tries = self._held.pop(task_id, (0, now))[0] + 1
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries - 1, 20))
        if len(self._held) >= MAX_TASKS:
            del self._held[next(iter(self._held))]
        self._held[task_id] = (tries, now + timedelta(seconds=pause_s))
        return tries >= MAX_TRIES

    def clear(self, task_id: str) -> None:
        self._held.pop(task_id, None)

    def due(self, task_id: str, due: datetime | None) -> datetime | None:
        """When the task's timer may be applied, given when it is due."""
        held = self._held.get(task_id)
        return due if held is None or due is None else max(due, held[1])
