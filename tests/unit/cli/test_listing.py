"""Tables that fit the terminal."""

import pytest
from rich.console import Console
from rich.text import Text

from taskloom.cli import listing
from taskloom.cli.listing import Column, fitting, print_listing

COLUMNS = (Column("id"), Column("name", 1), Column("state"), Column("error", 3), Column("when", 2))


def shown(width: int, *rows: tuple[str, ...]) -> list[str]:
    texts = [[Text(cell) for cell in row] for row in rows]
    return [COLUMNS[place].name for place in fitting(COLUMNS, texts, width)]


def test_what_matters_least_is_left_out_first_and_what_always_stays_is_not() -> None:
    row = ("i" * 10, "n" * 10, "s" * 10, "e" * 10, "w" * 10)
    assert shown(58, row) == ["id", "name", "state", "error", "when"]
    assert shown(57, row) == ["id", "name", "state", "when"]
    assert shown(45, row) == ["id", "name", "state"]
    assert shown(33, row) == ["id", "state"]
    assert shown(5, row) == ["id", "state"]
    wide = ("i" * 10, "n" * 30, "s" * 10, "e" * 5, "w" * 5)
    assert shown(40, wide) == ["id", "state", "error", "when"], "narrow ones, where the wide one does not fit"


def test_a_column_that_says_nothing_takes_no_place_and_wide_letters_count_twice() -> None:
    assert shown(58, ("i", "", "s", "", "")) == ["id", "state"]
    assert "name" in shown(15, ("i", "字字", "s", "", ""))
    assert "name" not in shown(15, ("i", "字字字", "s", "", ""))


def test_what_was_left_out_is_said_and_markup_is_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listing, "console", lambda: Console(width=30, highlight=False))
    row = ("[red]a[/red]", "n" * 12, "ok", "e" * 30, "")
    print_listing((*COLUMNS[:3], Column("error", 3, most=10), COLUMNS[4]), [row], empty="none", cursor="--cursor abc")
    out = capsys.readouterr().out
    assert "[red]a[/red]" in out
    assert "left out at this width: name, error;" in out.replace("\n", "").replace("  ", " ")
    assert "more: --cursor abc" in out
    print_listing(COLUMNS, [], empty="[none]")
    assert capsys.readouterr().out == "[none]\n"
