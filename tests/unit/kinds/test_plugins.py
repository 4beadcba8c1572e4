"""Handlers and functions that other packages bring."""

from pathlib import Path

import pytest

from taskloom.kinds import PluginError, UnknownFunction, function, load_plugins, registered

CODE = """
from taskloom.kinds import Handler, Outcome

class Greet(Handler):
    kind = "{kind}"
    async def run(self, ctx):
        return Outcome(result="hello")

class NoHandler:
    kind = "{kind}"
"""


def install(directory: Path, name: str, target: str, *, kind: str = "greet") -> None:
    """A package as pip lays it out: a module, and its metadata with an entry point."""
    (directory / f"{name}.py").write_text(CODE.format(kind=kind))
    metadata = directory / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[taskloom.kinds]\ngreet = {name}:{target}\n")


def test_a_handler_of_an_installed_package_is_found_by_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "plugin_good", "Greet")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(load_plugins()["greet"]).__name__ == "Greet"


@pytest.mark.parametrize(("name", "target"), [("plugin_missing", "Absent"), ("plugin_other", "NoHandler")])
def test_an_entry_point_that_names_no_handler_is_an_error_that_says_which(
    name: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, name, target)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=rf"{name}:{target}"):
        load_plugins()


def test_two_packages_with_one_kind_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "plugin_one", "Greet", kind="same")
    install(tmp_path, "plugin_two", "Greet", kind="same")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"two packages bring the kind .same."):
        load_plugins()


def test_a_function_is_known_under_its_module_and_name_only() -> None:
    @function(name="tests.sample:double")
    def double(n: int) -> int:
        return 2 * n

    assert registered("tests.sample:double").call(4) == 8
    assert double(4) == 8
    with pytest.raises(UnknownFunction, match=r"tests\.sample:double"):
        registered("os:system")
