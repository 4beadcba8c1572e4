"""``taskloom retention``: what is drawn, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from taskloom.cli.main import app
from taskloom.cli.retention import drawn
from taskloom.retention.report import Found
from taskloom.retention.settings import Cutoffs, RetentionSettings

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def text_of(found: Found, cutoffs: Cutoffs, *, apply: bool = False, tenant: str = "") -> str:
    console = Console(width=130, color_system=None)
    with console.capture() as captured:
        console.print(drawn(found, cutoffs, apply=apply, tenant=tenant))
    return captured.get()


def test_each_kind_of_row_has_a_line_with_its_age_and_its_tenants() -> None:
    found = Found(held_back=2)
    found.add("red", "tasks", 1200)
    found.add("blue", "tasks", 34)
    found.add("red", "outputs", 7, 2_500_000)
    found.add("", "audit", 3)
    text = text_of(found, Cutoffs(completed=NOW, failed=NOW - timedelta(days=60), audit=NOW))
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "2026-11-21 00:00 / 2026-09-22 00:00" in lines["ended tasks"]
    assert lines["ended tasks"].rstrip().endswith("1,234          red 1,200, blue 34")
    assert "2.5 MB" in lines["pieces of output"]
    assert "kept for ever" in lines["metrics by hour"]
    assert "nobody 3" in lines["audited calls"]
    assert "nothing was removed: --apply removes it" in text
    assert "2 old ones stay" in text
    assert "audited calls" not in text_of(found, Cutoffs(), tenant="red"), "sums and calls are not a tenant's to remove"
    assert "--apply" not in text_of(found, Cutoffs(), apply=True)


def test_zero_days_keep_everything_and_days_count_back_from_now() -> None:
    nothing = RetentionSettings()
    assert (nothing.cutoffs(NOW), nothing.retires) == (Cutoffs(audit=NOW - timedelta(days=90)), False)
    some = RetentionSettings(retention_failed_days=1.5, retention_usage_days=3)
    assert some.cutoffs(NOW).failed == datetime(2026, 11, 19, 12, tzinfo=UTC)
    assert (some.cutoffs(NOW).usage, some.cutoffs(NOW).completed, some.retires) == (NOW - timedelta(days=3), None, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--apply", "--dry-run"], "one of the two"),
        ([], "TASKLOOM_DATABASE_DSN"),
        (["--completed-days", "-1", "--dsn", "x"], "completed-days"),
        (["restore", "t"], "TASKLOOM_DATABASE_DSN"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKLOOM_DATABASE_DSN", raising=False)
    monkeypatch.setenv("TASKLOOM_HOME", "/nowhere")
    result = CliRunner().invoke(app, ["retention", *arguments])
    assert result.exit_code == 2
    assert words in result.output
