"""How the verbs for people write states, times and tasks."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

_COLOURS: Final = {
    "completed": "green",
    "failed": "bold red",
    "timed_out": "bold red",
    "cancelled": "red",
    "cancelling": "red",
    "running": "cyan",
    "assigned": "cyan",
    "retrying": "magenta",
    "pausing": "magenta",
    "paused": "magenta",
    "ready": "yellow",
    "scheduled": "yellow",
    "waiting": "yellow",
    "lost": "bold red",
    "draining": "yellow",
}


def console(*, stderr: bool = False) -> Console:
    """Where the verbs write; as wide as the terminal, or 100 columns at least where there is none."""
    found = Console(highlight=False, stderr=stderr)
    return found if found.is_terminal else Console(highlight=False, stderr=stderr, width=max(100, found.width))


def state_text(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, ""))


def seconds_text(seconds: float) -> str:
    """``0.012 s``, ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 1:
        return f"{seconds:.3f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def ago(at: datetime | None) -> str:
    return "" if at is None else f"{seconds_text(max(0.0, (datetime.now(UTC) - at).total_seconds()))} ago"


def moment(at: datetime | None) -> str:
    """Local time to the millisecond, empty for none."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def span_text(start: datetime | None, end: datetime | None) -> str:
    """How long from ``start`` to ``end``, or to now; empty without a start."""
    return "" if start is None else seconds_text(max(0.0, ((end or datetime.now(UTC)) - start).total_seconds()))


def print_json(content: bytes | Any) -> None:
    """JSON to stdout, indented, with nothing around it."""
    raw = content if isinstance(content, bytes) else msgspec.json.encode(content)
    print(msgspec.json.format(raw, indent=2).decode())
