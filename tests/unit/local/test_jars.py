import hashlib
import sys
from pathlib import Path

import pytest

from taskloom.local import jars
from taskloom.local.errors import JarsUnavailable


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Two jars with the sums that are expected of them."""
    files = {"a-1.jar": b"first", "b-2.jar": b"second"}
    sums = tmp_path / "pinned.sha256"
    sums.write_text("".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()))
    monkeypatch.setattr(jars, "SUMS", sums)
    return files


def fetched(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    def resolve(work: Path) -> None:
        envs = work / "cache" / "envs" / "modules"
        envs.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (envs / name).write_bytes(data)

    monkeypatch.setattr(jars, "_resolve", resolve)


def test_the_pinned_jars_are_kept_and_not_fetched_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: dict[str, bytes]
) -> None:
    fetched(monkeypatch, pinned)
    directory = jars.ensure_jars(tmp_path / "cache")
    assert {jar.name: jar.read_bytes() for jar in directory.iterdir()} == pinned

    fetched(monkeypatch, {})
    assert jars.ensure_jars(tmp_path / "cache") == directory


@pytest.mark.parametrize(
    ("change", "named"),
    [({"a-1.jar": b"changed"}, "a-1.jar"), ({"c-3.jar": b"more"}, "c-3.jar")],
    ids=["changed", "added"],
)
def test_another_jar_than_the_pinned_is_refused_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pinned: dict[str, bytes],
    change: dict[str, bytes],
    named: str,
) -> None:
    fetched(monkeypatch, pinned | change)
    with pytest.raises(JarsUnavailable, match=named):
        jars.ensure_jars(tmp_path / "cache")
    assert not jars.jars_dir(tmp_path / "cache").exists()


def test_a_missing_jar_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: dict[str, bytes]) -> None:
    fetched(monkeypatch, {"a-1.jar": pinned["a-1.jar"]})
    with pytest.raises(JarsUnavailable, match=r"b-2\.jar"):
        jars.ensure_jars(tmp_path / "cache")


def test_a_resolver_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: dict[str, bytes]
) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(JarsUnavailable, match=r"(?s)no route to host.*TASKLOOM_KAFKA_BOOTSTRAP"):
        jars.ensure_jars(tmp_path / "cache")


def test_the_cache_directory_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_CACHE_DIR", str(tmp_path))
    assert jars.cache_dir() == tmp_path
    monkeypatch.delenv("TASKLOOM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert jars.cache_dir() == tmp_path / "xdg" / "taskloom"
