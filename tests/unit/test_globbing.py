"""Files by pattern, without following links."""

from pathlib import Path

import pytest

from taskloom.artifacts import BadPath
from taskloom.globbing import MAX_LOOKED_AT, TooManyFiles, fits, matching


@pytest.mark.parametrize(
    ("pattern", "path", "fitting"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", "in/a.txt", False),
        ("**/*.txt", "a.txt", True),
        ("**/*.txt", "in/deep/a.txt", True),
        ("in/**", "in/deep/a.txt", True),
        ("in/**", "a.txt", False),
        ("in/**/a.txt", "in/a.txt", True),
        ("in/*/a.txt", "in/a.txt", False),
        ("?.[ab]", "x.b", True),
        ("**", "any/thing", True),
        ("**/**/**/**/**/x", "a/" * 60 + "y", False),
    ],
)
def test_stars_stay_within_a_name_and_two_of_them_cross_directories(pattern: str, path: str, fitting: bool) -> None:
    assert fits(path.split("/"), pattern.split("/")) is fitting


def test_regular_files_are_found_with_their_size_and_links_are_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "in/a.txt").write_text("four")
    (root / ".hidden.txt").write_text("")
    (tmp_path / "outside.txt").write_text("no")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    assert matching(root, ["**/*.txt", "in/*"]) == [(".hidden.txt", 0), ("in/a.txt", 4)]
    assert matching(root, ["nothing"]) == []


@pytest.mark.parametrize("pattern", ["../*", "/etc/*", "a/../../b", ""])
def test_a_pattern_that_leads_out_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(BadPath):
        matching(tmp_path, [pattern])


def test_no_more_than_so_many_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_LOOKED_AT == 100_000
    monkeypatch.setattr("taskloom.globbing.MAX_LOOKED_AT", 3)
    for name in "abcd":
        (tmp_path / name).write_text("")
    with pytest.raises(TooManyFiles):
        matching(tmp_path, ["*"])
