"""``taskloom quotas`` and ``taskloom usage``: what is sent, and what is drawn."""

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from taskloom.cli.quotas import _merged
from taskloom.cli.usage import drawn
from taskloom.client import quota_calls as calls
from taskloom.errors import TaskloomError

AT = datetime(2026, 11, 21, tzinfo=UTC)


def entry(tokens: int, cost: float, **fields: Any) -> calls.UsageEntry:
    return calls.UsageEntry(total_tokens=tokens, cost_usd=cost, attempts=1, **fields)


def text_of(found: calls.Usage, **options: Any) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(drawn(found, **options))
    return captured.get()


def usage(by: str, entries: list[calls.UsageEntry], count: int | None = None) -> calls.Usage:
    total = entry(sum(e.total_tokens for e in entries), sum(e.cost_usd for e in entries))
    return calls.Usage(
        tenant_id="red", by=by, since=AT, until=AT, usage=entries, total=total, total_count=count or len(entries)
    )


def test_given_options_change_their_limits_and_leave_the_others() -> None:
    before = {"tokens": 5, "session": {"tokens": 1}, "rate": {}, "tier": "pro"}
    given = {"tokens": "none", "cost_usd": "2.5", "session_parallel": "3", "per_minute": "60", "tenant": "red"}
    assert _merged(before, given) == {
        "tokens": None,
        "cost_usd": 2.5,
        "session": {"tokens": 1, "parallel": 3},
        "rate": {"minute": 60},
        "tier": "pro",
    }
    assert _merged({}, {"tier": "max", "url": "http://x"}) == {"tier": "max"}
    assert before["session"] == {"tokens": 1}, "what was read stays as it was"


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(TaskloomError, match="--tokens-per-day 'many' is neither a number nor none"):
        _merged({}, {"tokens_per_day": "many"})


def test_days_are_drawn_with_the_dearest_as_the_longest_bar() -> None:
    days = [entry(10, 1.0, period="2026-11-20", tasks=4, completed=3), entry(20, 0.5, period="2026-11-21", tasks=1)]
    lines = text_of(usage("day", days)).splitlines()
    assert lines[1].split()[:6] == ["2026-11-20", "10", "1.0000", "1", "4", "3"]
    assert lines[1].count("█") == 2 * lines[2].count("█") == 30
    assert "in all" in lines[-1]


def test_periods_without_anything_are_left_out_unless_asked_for() -> None:
    days = [entry(0, 0.0, period="2026-11-20", tasks=0), entry(5, 0.0, period="2026-11-21", tasks=0)]
    assert "2026-11-20" not in text_of(usage("day", days))
    assert "2026-11-20" in text_of(usage("day", days), every=True)
    assert "nothing was used" in text_of(usage("day", days[:1]))


def test_a_part_of_the_sessions_says_that_it_is_one() -> None:
    assert "shown" in text_of(usage("session", [entry(5, 0.5, session_id="s")], count=9))
