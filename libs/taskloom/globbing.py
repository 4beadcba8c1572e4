"""Files below a directory that fit patterns, without ever following a link.

``*``, ``?`` and ``[ab]`` stand for parts of one name, ``**`` for any directories, none included.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from taskloom.artifacts import BadPath, parts_of
from taskloom.errors import TaskloomError

MAX_LOOKED_AT: Final = 100_000
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooManyFiles(TaskloomError):
    """There is more below the directory than is looked at."""


def matching(root: Path, patterns: Sequence[str]) -> list[tuple[str, int]]:
    """Path and size in bytes of each regular file that fits one of the patterns, by path.

    Raises:
        BadPath: a pattern leads out of the directory.
        TooManyFiles: more than 100,000 entries are below it.
    """
    wanted = [parts_of(pattern) for pattern in patterns]
    if not all(wanted):
        raise BadPath("a pattern names no file")
    return sorted((path, size) for path, size in _walk(root) if any(fits(path.split("/"), each) for each in wanted))


def fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the names of a path fit the names of a pattern."""
    # Row by row, as in comparing two texts: a pattern of many ** costs their product and not a power of it.
    reached = [True] + [False] * len(path)
    for part in pattern:
        if part == "**":
            first = reached.index(True) if True in reached else len(reached)
            reached = [place >= first for place in range(len(reached))]
        else:
            reached = [
                False,
                *(before and fnmatchcase(name, part) for before, name in zip(reached, path, strict=False)),
            ]
    return reached[-1]


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    looked = 0
    waiting = [""]
    while waiting:
        below = waiting.pop()
        directory = _opened(root, below)
        if directory is None:
            continue
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    looked += 1
                    if looked > MAX_LOOKED_AT:
                        raise TooManyFiles(
                            f"more than {MAX_LOOKED_AT} files are below the directory; name a part of it"
                        )
                    path = f"{below}/{entry.name}" if below else entry.name
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(about.st_mode):
                        waiting.append(path)
                    elif stat.S_ISREG(about.st_mode):
                        yield path, about.st_size
        finally:
            os.close(directory)


def _opened(root: Path, below: str) -> int | None:
    """The directory, each part of its path opened from the one before; None where it went, or became a link."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in below.split("/") if below else ():
        try:
            inner = os.open(part, _DIRECTORY, dir_fd=at)
        except OSError:
            return None
        finally:
            os.close(at)
        at = inner
    return at
