"""A small real Git repository, made of the files in examples/ci_cd/project."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[1] / "ci_cd" / "project"
AUTHOR: Final = {
    **{f"GIT_{who}_NAME": "Example" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "example@example.org" for who in ("AUTHOR", "COMMITTER")},
    # Nothing of the user's own settings: no signing, no hooks, no templates.
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git_is_there() -> bool:
    return shutil.which("git") is not None


class Repository:
    """Has one branch, ``main``, with one commit at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(PROJECT, path, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        self.git("init", "--quiet", "--initial-branch=main")
        self.first = self.commit("feat: count words")

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.path, env=os.environ | AUTHOR, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commits all that was changed; returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def replace(self, file: str, old: str, new: str) -> None:
        """Changes a text that must be there, in a file of the checkout."""
        path = self.path / file
        text = path.read_text()
        if old not in text:
            raise ValueError(f"{file} does not contain {old!r}")
        path.write_text(text.replace(old, new))
