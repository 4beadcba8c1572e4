"""Tables that fit: where the terminal is too narrow, the columns that matter least are left out, and said to be."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from taskloom.cli.show import console

_GAP: Final = 2
_MORE_COLUMNS: Final = "left out at this width: {}; --json has all"

Cell = str | Text


class Column(NamedTuple):
    """``rank``: what is left out first has the highest; 0 always stays. ``most``: cells are cut there, 0 for never."""

    name: str
    rank: int = 0
    right: bool = False
    most: int = 0


def print_listing(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, empty: str, cursor: str = "") -> None:
    """Rows below the columns' names, or ``empty`` when there are none; ``cursor``: how the next page is asked for."""
    out = console()
    if not rows:
        out.print(empty, markup=False)
        return
    texts = [[_text(cell, column.most) for cell, column in zip(row, columns, strict=True)] for row in rows]
    shown = fitting(columns, texts, out.width)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place in shown:
        column = columns[place]
        table.add_column(column.name, justify="right" if column.right else "left", overflow="fold", no_wrap=False)
    for row in texts:
        table.add_row(*(row[place] for place in shown))
    out.print(table)
    says = {place for row in texts for place, cell in enumerate(row) if cell.plain}
    if left_out := [columns[place].name for place in sorted(says - set(shown))]:
        out.print(_MORE_COLUMNS.format(", ".join(left_out)), style="dim", markup=False)
    if cursor:
        out.print(f"more: {cursor}", style="dim", markup=False, soft_wrap=True)


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    """Places of the columns that fit beside each other, in order: those that say nothing and those of the highest rank
    go first; what has rank 0 stays, and is folded if it must."""
    by_column: list[Any] = list(zip_longest(*rows, fillvalue=Text()))
    widths = [
        max(cell_len(column.name), *(cell_len(line) for cell in cells for line in cell.plain.split("\n")))
        for column, cells in zip(columns, by_column, strict=True)
    ]
    told = [
        place for place, column in enumerate(columns) if not column.rank or any(cell.plain for cell in by_column[place])
    ]
    shown, left = list(told), width + _GAP - sum(widths[place] + _GAP for place in told)
    for place in sorted(told, key=lambda place: -columns[place].rank):
        if left < 0 and columns[place].rank:
            shown.remove(place)
            left += widths[place] + _GAP
    # A wide column may have made others go that fit now that it has gone itself.
    for place in sorted(set(told) - set(shown), key=lambda place: columns[place].rank):
        if widths[place] + _GAP <= left:
            shown.append(place)
            left -= widths[place] + _GAP
    return sorted(shown)


def _text(cell: Cell, most: int) -> Text:
    text = Text(cell) if isinstance(cell, str) else cell
    if most and text.cell_len > most:
        text = text.copy()
        text.truncate(most, overflow="ellipsis")
    return text
