import pytest
from typer.testing import CliRunner

from taskloom.cli.config import Setting, settings
from taskloom.cli.main import app


def find(variable: str, used_by: str) -> Setting:
    return next(setting for setting in settings() if setting.variable == variable and used_by in setting.used_by)


def test_every_setting_says_what_it_means() -> None:
    assert [setting.variable for setting in settings() if len(setting.description) < 10] == []


def test_a_setting_of_all_services_stands_once() -> None:
    assert [setting.used_by for setting in settings() if setting.variable == "TASKLOOM_DRAIN_TIMEOUT_S"] == ["all"]


def test_what_is_set_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_HTTP_PORT", "9999")
    assert find("TASKLOOM_HTTP_PORT", "up").value == "9999"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:hidden@db/taskloom", "postgresql://me:********@db/taskloom"),
        ("host=db password=hidden user=me", "host=db password=******** user=me"),
        ("postgresql://db/taskloom", "postgresql://db/taskloom"),
    ],
)
def test_a_password_in_a_dsn_is_masked(monkeypatch: pytest.MonkeyPatch, dsn: str, shown: str) -> None:
    monkeypatch.setenv("TASKLOOM_DATABASE_DSN", dsn)
    assert find("TASKLOOM_DATABASE_DSN", "up").value == shown


@pytest.mark.parametrize("columns", ["80", "160"])
def test_names_are_whole_however_wide_the_terminal_is(columns: str) -> None:
    shown = CliRunner().invoke(app, ["config"], env={"COLUMNS": columns})
    assert [each.variable for each in settings() if each.variable not in shown.output] == []
