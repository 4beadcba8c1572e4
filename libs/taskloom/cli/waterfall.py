"""A task's history drawn: one line an event, with its time since the start and a bar until the next event."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from rich.table import Table
from rich.text import Text

from taskloom.client import Event

BAR_CHARS: Final = 32
NARROW_BAR_CHARS: Final = 16
NARROW: Final = 100
"""Below this width texts need the place more than bars do."""
VIRTUAL: Final = frozenset({"STREAM_END"})
FREQUENT: Final = frozenset({"PROGRESS", "OUTPUT_STARTED"})

# What goes on from this event until the next one.
_WAITING, _RUNNING, _PAUSING, _STOPPING, _END = "yellow", "cyan", "magenta", "red", "green"
_COLOURS: Final = {
    "WORKFLOW_STARTED": _WAITING,
    "TASK_SCHEDULED": _PAUSING,
    "TASK_QUEUED": _WAITING,
    "ATTEMPT_ASSIGNED": _WAITING,
    "ATTEMPT_DECLINED": _WAITING,
    "ERROR_OCCURRED": _STOPPING,
    "ERROR_RECOVERY": _PAUSING,
    "WORKFLOW_PAUSING": _PAUSING,
    "WORKFLOW_PAUSED": _PAUSING,
    "WORKFLOW_CANCELLING": _STOPPING,
    "CANCEL_SIGNALLED": _STOPPING,
    "CANCEL_ESCALATED": _STOPPING,
    "WORKFLOW_CANCELLED": _STOPPING,
    "WORKFLOW_FAILED": _STOPPING,
    "WORKFLOW_COMPLETED": _END,
    "LLM_OUTPUT": _END,
}
_ENDS: Final = frozenset({"WORKFLOW_CANCELLED", "WORKFLOW_FAILED", "WORKFLOW_COMPLETED", "LLM_OUTPUT"})


def waterfall(events: Sequence[Event], *, every: bool = False, width: int = NARROW) -> Table:
    """A table of the events' versions, times in seconds since the first, bars and texts. Without ``every`` signs of
    life and first outputs are left out. ``width``: of the terminal."""
    chars = BAR_CHARS if width >= NARROW else NARROW_BAR_CHARS
    shown = [event for event in events if event.type not in VIRTUAL and (every or event.type not in FREQUENT)]
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("#", justify="right", style="dim", no_wrap=True, width=max(2, len(str(len(events)))))
    table.add_column("seconds", justify="right", no_wrap=True, width=9)
    table.add_column("", no_wrap=True, width=chars)
    table.add_column("what happened", no_wrap=True, overflow="ellipsis", ratio=1)
    for event, offset_s, bar in zip(shown, offsets_s(shown), bars(shown, chars), strict=True):
        table.add_row(str(event.seq), f"+{offset_s:.3f}", bar, Text(first_line(event.message)))
    return table


def offsets_s(events: Sequence[Event]) -> list[float]:
    return [(event.timestamp - events[0].timestamp).total_seconds() for event in events]


def bars(events: Sequence[Event], chars: int = BAR_CHARS) -> list[Text]:
    """One bar an event, ``chars`` wide in all: from its moment to the next one's; the end is a point."""
    if not events:
        return []
    offsets = offsets_s(events)
    whole_s = max(offsets[-1], 1e-6)
    places = [min(chars - 1, int(offset / whole_s * (chars - 1))) for offset in offsets]
    drawn = [_bar(event, *span) for event, span in zip(events, pairwise(places), strict=False)]
    return [*drawn, _bar(events[-1], places[-1], places[-1])]


def _bar(event: Event, start: int, end: int) -> Text:
    glyphs = "●" if event.type in _ENDS else "━" * (end - start) or "╸"
    return Text(" " * start + glyphs, style=_COLOURS.get(event.type, _RUNNING))


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
