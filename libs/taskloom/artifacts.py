"""Files that a session's tasks leave: one directory a session below a root, read without leaving it.

Every part of a path is opened relative to the directory before it and never through a link, so neither ``..`` nor a
link, nor one that is put there meanwhile, leads out.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from taskloom.errors import TaskloomError

MAX_ENTRIES: Final = 1_000
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class BadPath(TaskloomError):
    """The path leads out of the session's directory, or is none."""


class NoSuchFile(TaskloomError):
    """There is no such file or directory; links are not followed."""


class FileTooLarge(TaskloomError):
    """The file is larger than what is sent in one answer."""


class FileEntry(Struct, frozen=True):
    """``path`` is relative to the session's directory."""

    name: str
    path: str
    is_dir: bool
    size_bytes: int


def session_directory(root: str, tenant_id: str, session_id: str) -> Path:
    """Where the files of a session are. Ids may begin with a full stop, which a directory's name here never does."""
    return Path(root) / _named(tenant_id) / _named(session_id)


def _named(name: str) -> str:
    return f"%2E{name[1:]}" if name.startswith(".") else name


def list_files(root: Path, path: str = "") -> list[FileEntry]:
    """What is in the directory, by name, at most 1,000; nothing when the session has no directory. Links and what is
    neither file nor directory are left out.

    Raises:
        BadPath, NoSuchFile: of a directory that was named.
    """
    parts = parts_of(path)
    if not root.is_dir():
        if parts:
            raise NoSuchFile
        return []
    found: list[FileEntry] = []
    with _opened(root, parts, _DIRECTORY) as directory, os.scandir(directory) as entries:
        for entry in entries:
            about = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode):
                is_dir = stat.S_ISDIR(about.st_mode)
                whole = "/".join((*parts, entry.name))
                found.append(FileEntry(entry.name, whole, is_dir, 0 if is_dir else about.st_size))
    return sorted(found, key=lambda each: each.name)[:MAX_ENTRIES]


def read_file(root: Path, path: str, *, max_bytes: int) -> bytes:
    """The file's content.

    Raises:
        BadPath, NoSuchFile: there is no such file.
        FileTooLarge: it has more than ``max_bytes``.
    """
    parts = parts_of(path)
    if not parts:
        raise BadPath
    with _opened(root, parts, _FILE) as opened:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode):
            raise NoSuchFile
        if about.st_size > max_bytes:
            raise FileTooLarge(f"the file has {about.st_size} bytes, {max_bytes} are sent at most")
        with os.fdopen(os.dup(opened), "rb") as file:
            return file.read(max_bytes)


def parts_of(path: str) -> tuple[str, ...]:
    """The names in a path.

    Raises:
        BadPath: it is absolute, goes up, or cannot be a path.
    """
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/") or ".." in parts or any("\x00" in part or "\\" in part for part in parts):
        raise BadPath(f"{path!r} is no path below the session's directory")
    return parts


@contextmanager
def _opened(root: Path, parts: tuple[str, ...], flags: int) -> Iterator[int]:
    try:
        at = os.open(root, _DIRECTORY)
    except OSError as error:
        raise NoSuchFile from error
    try:
        for place, part in enumerate(parts):
            try:
                inner = os.open(part, flags if place == len(parts) - 1 else _DIRECTORY, dir_fd=at)
            except OSError as error:
                raise NoSuchFile from error
            os.close(at)
            at = inner
        yield at
    finally:
        os.close(at)
