"""Older stored forms of events to today's, one small function a step, applied on read."""

from collections.abc import Callable
from typing import Any, Final

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Final[dict[str, Upcaster]] = {}
"""By the type it reads, say ``taskloom.task.queued.v1``; it returns the next version's form, ``type`` included."""


def upcast(data: dict[str, Any], upcasters: dict[str, Upcaster] | None = None) -> dict[str, Any]:
    """Applies upcasters until none fits the data's ``type``; data of an unknown type comes back as it is."""
    known = UPCASTERS if upcasters is None else upcasters
    while (step := known.get(str(data.get("type", "")))) is not None:
        data = step(data)
    return data
