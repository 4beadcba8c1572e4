import subprocess
import sys
from importlib.util import find_spec

from typer.testing import CliRunner

from taskloom.cli.main import VERBS, app, module_of


def test_every_listed_verb_shows_its_help() -> None:
    listed = [verb for verb in VERBS if find_spec(module_of(verb)) is not None]
    assert {"up", "config", "gateway", "orchestrator", "executor", "projection"} <= set(listed)
    for verb in listed:
        shown = CliRunner().invoke(app, [verb, "--help"])
        assert shown.exit_code == 0, (verb, shown.output)


def test_an_unknown_verb_is_named() -> None:
    shown = CliRunner().invoke(app, ["fly"])
    assert shown.exit_code == 2
    assert "fly" in shown.output


def test_the_list_of_verbs_imports_none_of_them() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from taskloom.cli.main import app\n"
        "assert 'orchestrator' in CliRunner().invoke(app, ['--help']).output\n"
        "print(*[name for name in ('litestar', 'aiokafka', 'psycopg', 'taskloom.cli.up') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
