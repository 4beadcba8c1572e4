"""``module:app`` to an app, and what is said when it leads nowhere."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskloom.app import AppError, LoadError, load_app, load_apps
from taskloom.cli.main import app as command

GOOD = """
from taskloom import App, task
app = App("found")
@app.task
def one(number: int) -> int: return number
@app.workflow
def both(number: int): return one(number)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_an_app_is_found_in_the_current_directory_with_and_without_its_attribute(here: Path) -> None:
    (here / "t_good.py").write_text(GOOD)
    app = load_app("t_good:app")
    assert load_app("t_good") is app
    assert (list(app.tasks), list(app.workflows), app.queues) == (["found.one"], ["found.both"], ("default",))
    assert [each["id"] for each in app.definitions()] == ["found.both"]


def test_a_task_can_be_served_alone(here: Path) -> None:
    (here / "t_alone.py").write_text(GOOD)
    app = load_app("t_alone:one")
    assert (list(app.tasks), list(app.workflows)) == (["found.one"], [])


def test_a_module_without_an_app_gives_its_own_tasks(here: Path) -> None:
    (here / "t_plain.py").write_text("from taskloom import task\n@task\ndef one() -> int: return 1\n")
    assert list(load_app("t_plain").tasks) == ["t_plain.one"]


@pytest.mark.parametrize(
    ("name", "source", "told"),
    [
        ("t_a:", "", "write module:app"),
        ("t_nowhere:app", None, "there is no module 't_nowhere' here"),
        ("t_b:other", GOOD, r"t_b has no 'other'; it has t_b:app"),
        ("t_c:both", GOOD, "both is a Workflow, not a taskloom.App or task"),
        ("t_d:app", "import nothing_like_it", r"t_d.py:1 needs the module 'nothing_like_it'"),
        ("t_e:app", "\n1 / 0", r"t_e.py:2: ZeroDivisionError"),
        ("t_f:app", "from taskloom import App\napp = App('f')", "neither tasks nor workflows"),
        ("t_g", GOOD + "second = App('second')", "several apps; choose one: t_g:app, t_g:second"),
        ("t_h:app", GOOD + "@app.workflow\ndef w(x: int):\n    if one(x): one(x)\n", "use branch"),
        ("t_i:app", GOOD + "@app.task(retries=1)\ndef w(): ...\n", r"t_i.py:\d+: .*no option 'retries'"),
    ],
)
def test_a_name_that_leads_to_no_app_says_why(here: Path, name: str, source: str | None, told: str) -> None:
    if source is not None:
        (here / f"{name.partition(':')[0]}.py").write_text(source)
    with pytest.raises(AppError, match=told):
        load_app(name)


def test_two_apps_with_the_same_task_are_refused(here: Path) -> None:
    (here / "t_one.py").write_text(GOOD)
    (here / "t_two.py").write_text(GOOD)
    with pytest.raises(AppError, match=r"another app has the task found\.one"):
        load_apps(["t_one:app", "t_two:app"])


def test_the_command_fails_at_once_with_one_line(here: Path) -> None:
    ended = CliRunner().invoke(command, ["executor", "--app", "t_nowhere:app"])
    assert ended.exit_code == 1
    assert "error: --app t_nowhere:app: there is no module" in ended.output
    assert LoadError.__doc__
