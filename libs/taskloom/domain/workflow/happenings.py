"""What can happen to a run from outside: an argument of ``advance``."""

from typing import Any, Literal

from msgspec import Struct

from taskloom.domain.values import ErrorInfo

ChildOutcome = Literal["completed", "failed", "cancelled", "timed_out", "refused"]
"""How the task of a step ended; refused: it never began, or could not go on."""


class ChildEnded(Struct, frozen=True):
    """The task of the step at ``path`` ended. ``result`` is its structured answer, else its text. ``restart`` is that
    of its submission: a task that was given up by a retry of the run is not heard any more. ``text`` is what it says
    beside a structured answer."""

    path: str
    outcome: ChildOutcome
    result: Any = None
    error: ErrorInfo | None = None
    restart: int = 0
    text: str = ""


class TimerDue(Struct, frozen=True):
    """``next_due`` has passed: whatever is due happens, and what was left over goes on."""


class Signal(Struct, frozen=True):
    name: str
    payload: Any = None


class Decide(Struct, frozen=True):
    """A decision on the approval at ``step``: its path, or its id where only one of that id waits."""

    step: str
    approved: bool
    by: str = ""
    comment: str = ""
    modified_action: Any = None
    on_behalf_of: str = ""


class PatchVariables(Struct, frozen=True):
    values: dict[str, Any]


class Cancel(Struct, frozen=True):
    reason: str = ""


class Break(Struct, frozen=True):
    """The run cannot go on: it fails with ``error`` as it stands."""

    error: ErrorInfo


class Pause(Struct, frozen=True):
    reason: str = ""


class Resume(Struct, frozen=True):
    reason: str = ""


Happening = ChildEnded | TimerDue | Signal | Decide | PatchVariables | Cancel | Break | Pause | Resume
