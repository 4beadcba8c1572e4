"""Which kind of task a submission asks for that names none: by its ``mode``. Pure, and the only place that knows."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import structs

from taskloom.domain.runs import GOAL
from taskloom.domain.task.commands import SubmitTask

QUERY: Final = "query"
JUDGED: Final = "standard"
"""A model says first whether a plan is needed."""

PURSUED: Final = frozenset({JUDGED, "complex"})
"""Modes whose submissions become goals."""


def resolved(command: SubmitTask) -> SubmitTask:
    """The submission with the kind that its mode stands for, where that is a goal. Twice is the same as once."""
    if command.kind or kind_of(command) != GOAL:
        return command
    judged = {"detect": True} if command.mode.lower() == JUDGED else {}
    return structs.replace(command, kind=GOAL, input={**judged, **command.input})


def kind_of(command: SubmitTask) -> str:
    """The kind of the task that the submission becomes."""
    return command.kind or _by_mode(command.mode, command.query, command.input)


def kind_in(fields: Mapping[str, Any]) -> str:
    """The same for the JSON of a submission; whatever is no text in it says nothing."""
    kind, mode, query, given = (fields.get(name) for name in ("kind", "mode", "query", "input"))
    if isinstance(kind, str) and kind:
        return kind
    return _by_mode(_text(mode), _text(query), given if isinstance(given, Mapping) else {})


def _by_mode(mode: str, query: str, given: Mapping[str, Any]) -> str:
    """Without a word there is nothing to pursue: it stays a query, which can be all attachments."""
    pursued = bool(mode) and mode.lower() in PURSUED and bool(query.strip() or given.get("goal"))
    return GOAL if pursued else QUERY


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
