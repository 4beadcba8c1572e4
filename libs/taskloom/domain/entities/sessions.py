"""What a client says of a session: its title, and that it is gone. Its tasks and sums are a view of the tasks' events.

A removed session is not shown. A task that is submitted under its id later begins a new one, without title, that holds
only what came after the removal.
"""

import unicodedata
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import RemoveSession, SessionCommand
from taskloom.domain.entities.events import SessionEvent, SessionRemoved, SessionTitled
from taskloom.domain.envelope import Recorded
from taskloom.domain.refusals import Refusal

MAX_TITLE_CHARS: Final = 100
"""The chat orchestrator's; Shannon's route takes fewer."""

_UNSEEN: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Control and format characters, zero-width ones among them, and separators of lines and paragraphs."""


class Session(Struct, frozen=True, omit_defaults=True, tag="session"):
    """``removed_at``: the last time it was removed; tasks from before are no part of it."""

    title: str = ""
    removed_at: datetime | None = None

    @property
    def removed(self) -> bool:
        """Never: whether it is shown depends on its tasks."""
        return False

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"title": self.title}


def clean_title(text: str) -> str:
    """The title without characters that nobody sees, and without blanks around it; empty when nothing is left."""
    return "".join(char for char in text if unicodedata.category(char) not in _UNSEEN).strip()


def title_fault(title: str, most: int = MAX_TITLE_CHARS) -> str:
    """What is wrong with a cleaned title, empty when nothing is."""
    if not title:
        return f"the title is empty; send 1 to {most} characters that can be seen"
    if len(title) > most:
        return f"the title has {len(title)} characters, {most} are allowed"
    return ""


def decide(state: Session | None, command: SessionCommand, _asked: Asked) -> list[SessionEvent] | Refusal:
    if isinstance(command, RemoveSession):
        return [SessionRemoved(command.reason)]
    title = clean_title(command.title)
    if fault := title_fault(title):
        return Refusal("invalid", fault, "title")
    return [] if state is not None and state.title == title else [SessionTitled(title)]


def evolve(state: Session | None, event: SessionEvent, recorded: Recorded) -> Session:
    if isinstance(event, SessionRemoved):
        return Session(removed_at=recorded.meta.at)
    return structs.replace(state or Session(), title=event.title)
