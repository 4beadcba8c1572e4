"""Times in words, and histories as bars."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from taskloom.cli.show import seconds_text
from taskloom.cli.waterfall import BAR_CHARS, bars, waterfall
from taskloom.client import Event

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(seq: int, kind: str, at_s: float, message: str = "") -> Event:
    return Event("t1", kind, START + timedelta(seconds=at_s), seq, message)


LIFE = [
    event(1, "WORKFLOW_STARTED", 0.0, "Starting up"),
    event(2, "AGENT_STARTED", 1.0, "Attempt 1 started"),
    event(3, "PROGRESS", 2.0, "half"),
    event(4, "WORKFLOW_COMPLETED", 4.0, "first line\nsecond line [bold]"),
    event(5, "STREAM_END", 4.0, "Done"),
]


def drawn(events: list[Event], *, every: bool = False) -> list[str]:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(waterfall(events, every=every))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_each_bar_ends_where_the_next_begins() -> None:
    texts = [bar.plain for bar in bars([LIFE[0], LIFE[1], LIFE[3]])]

    assert texts == ["━" * 7, " " * 7 + "━" * 24, " " * 31 + "●"]
    assert max(map(len, texts)) == BAR_CHARS


def test_events_at_one_moment_and_single_ones_can_be_drawn() -> None:
    assert [bar.plain for bar in bars([event(1, "TASK_QUEUED", 0), event(2, "AGENT_STARTED", 0)])] == ["╸", "╸"]
    assert [bar.plain for bar in bars(LIFE[:1])] == ["╸"]
    assert bars([]) == []


def test_line_has_number_time_and_first_line_of_the_text() -> None:
    lines = drawn(LIFE)

    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "4"]
    assert "+4.000" in lines[-1]
    assert lines[-1].endswith("first line")


def test_signs_of_life_are_drawn_when_asked_for() -> None:
    assert any("half" in line for line in drawn(LIFE, every=True))
    assert not any("half" in line for line in drawn(LIFE))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "0.012 s"),
        (4.25, "4.2 s"),
        (185, "3 min 05 s"),
        (7_800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_are_as_short_as_they_can_be(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_bars_are_short_where_texts_need_the_place() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(waterfall(LIFE, width=80))
    assert max(map(len, (bar.plain for bar in bars(LIFE, 16)))) == 16
    assert "Attempt 1 started" in captured.get()
