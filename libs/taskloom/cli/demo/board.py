"""The live table of the demo's tasks; plain lines where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, field
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from taskloom.cli.show import state_text
from taskloom.client import Followed

PROGRESS_CHARS: Final = 8
REFRESH_PER_S: Final = 8


class Row(Struct):
    """A task on the board. ``expect`` is the state in which it should end, empty for one that is held. Rows of one
    ``place`` stand together."""

    title: str
    kind: str
    task_id: str = ""
    expect: str = "completed"
    followed: Followed = field(default_factory=Followed)
    note: str = ""
    place: int = 0

    @property
    def seconds(self) -> float:
        """From its first event to its last, or to now while it is open."""
        if self.followed.began_at is None:
            return 0.0
        until = self.followed.changed_at if self.followed.ended else datetime.now(UTC)
        return max(0.0, (until - self.followed.began_at).total_seconds()) if until else 0.0

    @property
    def last_line(self) -> str:
        return (self.note or self.followed.last_line or self.followed.message).strip().replace("\n", " ")


class Board:
    """All rows, by place and then in the order of their submission."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._plain = False
        self.rows: list[Row] = []

    @contextmanager
    def live(self) -> Iterator[None]:
        """Shows the board until the block ends, and leaves its last state on the screen."""
        self._plain = not self._console.is_terminal
        if self._plain:
            yield
        else:
            with Live(console=self._console, get_renderable=self.render, refresh_per_second=REFRESH_PER_S):
                yield
        self._plain = False

    def add(self, row: Row) -> None:
        self.rows = sorted([*self.rows, row], key=lambda row: row.place)

    def changed(self, row: Row) -> None:
        """To be told when a row's state changed: a plain line, where nothing is live."""
        if not self._plain or row.followed.state == "assigned":
            return
        attempt = f"attempt {row.followed.attempt}" if row.followed.attempt > 1 else ""
        said = row.last_line if row.followed.ended or row.note else ""
        line = f"{time.monotonic() - self._began:6.1f} s  {row.title:<26} {row.followed.state:<10} {attempt or said}"
        self._console.print(line.rstrip(), markup=False, no_wrap=True, overflow="ellipsis")

    def render(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        table.add_column("task", no_wrap=True, min_width=26)
        table.add_column("kind", no_wrap=True, style="dim", width=6)
        table.add_column("state", no_wrap=True, width=10)
        table.add_column("try", justify="right", width=3)
        table.add_column("progress", no_wrap=True, width=PROGRESS_CHARS)
        table.add_column("time", justify="right", no_wrap=True, width=6)
        table.add_column("last line", no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
        for row in self.rows:
            followed = row.followed
            table.add_row(
                row.title,
                row.kind,
                state_text(followed.state or "sent"),
                str(followed.attempt or ""),
                _progress(followed),
                f"{row.seconds:.1f} s",
                Text(row.last_line),
            )
        return table


def _progress(followed: Followed) -> Text:
    if followed.progress is None:
        return Text("")
    full = round(followed.progress * PROGRESS_CHARS)
    return Text.assemble(("━" * full, "green"), ("━" * (PROGRESS_CHARS - full), "bright_black"))
