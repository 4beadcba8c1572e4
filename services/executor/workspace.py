"""The files of an attempt: put into its directory before it starts, collected from it when it has ended."""

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from taskloom.artifacts import BadPath, parts_of
from taskloom.filestore import FileStore, FilesUnavailable, NoSuchStoredFile, key_of_artifact, key_of_file
from taskloom.globbing import TooManyFiles, matching
from taskloom.kinds.api import Context, TaskError
from taskloom.kinds.files import InputFile

MAX_ARTIFACTS: Final = 1_000
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Workspace:
    """``owner``: user and group that the directory and the files in it are given to."""

    def __init__(self, root: Path, store: FileStore | None, owner: tuple[int, int] | None, max_bytes: int) -> None:
        self.root = root
        self._store = store
        self._owner = owner
        self._max_bytes = max_bytes

    async def put(self, tenant_id: str, files: Sequence[InputFile]) -> None:
        """
        Raises:
            TaskError: a path leads out of the directory or a file is not there (``bad_file``, ``file_missing``, not
                retryable), or the store is away (``files_unavailable``).
        """
        for place, file in enumerate(files):
            field = f"input.files[{place}]"
            try:
                fd = self.create(file.path)
            except (BadPath, OSError) as error:
                raise TaskError("bad_file", f"{field}.path: {file.path}: {error}", retryable=False) from error
            with os.fdopen(fd, "wb") as target:
                async for piece in self._content(tenant_id, file, field):
                    await asyncio.to_thread(target.write, piece)

    async def collect(self, ctx: Context, patterns: Sequence[str]) -> list[dict[str, Any]]:
        """Keeps the files that fit; path and size of each.

        Raises:
            TaskError: too many or too large (``artifact_too_large``, not retryable), or the store is away.
        """
        store = self.ready()
        try:
            found = await asyncio.to_thread(matching, self.root, patterns)
        except (BadPath, TooManyFiles) as error:
            raise TaskError("bad_artifacts", f"input.artifacts: {error}", retryable=False) from error
        if len(found) > MAX_ARTIFACTS:
            raise too_many(len(found))
        kept = []
        for path, size in found:
            if size > self._max_bytes:
                raise too_large(path, size, self._max_bytes)
            fd = self._open(path)
            if fd is None:
                continue
            with os.fdopen(fd, "rb") as content:
                await _kept(store.put(key_of_artifact(ctx.tenant_id, ctx.task_id, ctx.attempt, path), content))
            kept.append({"path": path, "size_bytes": size})
        return kept

    def create(self, path: str) -> int:
        """A new file, open for writing, never through a link. Directories on its way are made.

        Raises:
            BadPath: it leads out of the directory.
            OSError: it cannot be made.
        """
        *above, name = parts_of(path) or ("",)
        if not name:
            raise BadPath("it names no file")
        at = os.open(self.root, _DIRECTORY)
        try:
            for part in above:
                inner = self._below(at, part)
                os.close(at)
                at = inner
            fd = os.open(name, _NEW, 0o644, dir_fd=at)
            self._give(fd)
            return fd
        finally:
            os.close(at)

    async def _content(self, tenant_id: str, file: InputFile, field: str) -> AsyncIterator[bytes]:
        if file.file is None:
            yield file.text.encode() if file.text is not None else file.data or b""
            return
        try:
            size, pieces = await self.ready().read(key_of_file(tenant_id, file.file))
            if size > self._max_bytes:
                raise TaskError(
                    "file_missing", f"{field}.file: it has {size} bytes, which is too many", retryable=False
                )
            async for piece in pieces:
                yield piece
        except NoSuchStoredFile as error:
            message = f"{field}.file: there is no file {file.file}; put it with PUT /api/v1/files/NAME"
            raise TaskError("file_missing", message, retryable=False) from error
        except FilesUnavailable as error:
            raise TaskError("files_unavailable", str(error), fault=True) from error

    def ready(self) -> FileStore:
        """
        Raises:
            TaskError: there is no store (``files_unavailable``, not retryable).
        """
        if self._store is None:
            message = "this executor keeps no files: TASKLOOM_FILES_URL is not set"
            raise TaskError("files_unavailable", message, retryable=False)
        return self._store

    def _below(self, at: int, part: str) -> int:
        try:
            os.mkdir(part, 0o755, dir_fd=at)
        except FileExistsError:
            return os.open(part, _DIRECTORY, dir_fd=at)
        made = os.open(part, _DIRECTORY, dir_fd=at)
        self._give(made)
        return made

    def _give(self, fd: int) -> None:
        if self._owner is not None:
            os.fchown(fd, *self._owner)

    def _open(self, path: str) -> int | None:
        """The file, or None when it is none any more."""
        *above, name = path.split("/")
        at = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in above:
                inner = os.open(part, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = inner
            fd = os.open(name, _OLD, dir_fd=at)
        except OSError:
            return None
        finally:
            os.close(at)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None


def too_many(count: int) -> TaskError:
    message = f"input.artifacts: {count} files fit, {MAX_ARTIFACTS} are kept at most; make an archive of them"
    return TaskError("artifact_too_large", message, retryable=False)


def too_large(path: str, size: int, max_bytes: int) -> TaskError:
    message = f"the artifact {path} has {size} bytes, {max_bytes} are kept (TASKLOOM_MAX_FILE_MB)"
    return TaskError("artifact_too_large", message, retryable=False)


@asynccontextmanager
async def directory(cwd: str | None, owner: tuple[int, int] | None) -> AsyncIterator[Path]:
    """``cwd`` itself, or one for the attempt alone, which is removed after it."""
    if cwd is not None:
        yield Path(cwd)
        return
    made = Path(tempfile.mkdtemp(prefix="taskloom-"))
    try:
        if owner is not None:
            os.chown(made, *owner)
        yield made
    finally:
        await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)


async def _kept(putting: Any) -> None:
    try:
        await putting
    except FilesUnavailable as error:
        raise TaskError("files_unavailable", str(error), fault=True) from error
