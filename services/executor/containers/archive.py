"""Files of a container's attempt, by the engine's archive calls: in before it starts, out when it has ended.

Nothing of the host is mounted for them: an engine elsewhere, or an executor that is in a container itself, has no
directory in common with the other (docs/decisions/0027).
"""

import asyncio
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import aiohttp
from aiodocker import Docker, DockerError

from services.executor.containers.daemon import streamed
from services.executor.workspace import MAX_ARTIFACTS, Workspace, too_large, too_many
from taskloom.artifacts import BadPath, parts_of
from taskloom.globbing import MAX_LOOKED_AT, fits
from taskloom.kinds.api import TaskError
from taskloom.kinds.containers import WORKSPACE

READ_BYTES: Final = 256 * 1024
_PATIENT: Final = aiohttp.ClientTimeout()
"""The attempt's own limit holds."""


async def put(docker: Docker, container_id: str, root: Path) -> None:
    """Makes ``/workspace`` in a container that has not started, with what is below ``root`` in it, anybody's to write.

    Raises:
        DockerError, aiohttp.ClientError: the engine did not take it.
    """
    with tempfile.TemporaryFile() as packed:
        await asyncio.to_thread(_pack, root, packed)
        sent = docker._query(
            f"containers/{container_id}/archive",
            method="PUT",
            params={"path": "/"},
            data=packed,
            headers={"Content-Type": "application/x-tar"},
            timeout=_PATIENT,
        )
        async with sent:
            pass


async def take(docker: Docker, container_id: str, patterns: Sequence[str], space: Workspace, max_bytes: int) -> None:
    """Copies the files below ``/workspace`` that fit a pattern into the space. Links are left out.

    Raises:
        DockerError, aiohttp.ClientError: the engine went away.
        TaskError: they are too many or too large (``artifact_too_large``), or there is too much to look at
            (``bad_artifacts``); not retryable.
    """
    sieve = _Sieve([parts_of(pattern) for pattern in patterns], space, max_bytes)
    waiting = list(starts(sieve.wanted))
    while waiting:
        start = waiting.pop()
        path = "/".join((WORKSPACE, *start))
        try:
            async with streamed(docker, f"containers/{container_id}/archive", path=path) as content:
                await _sieved(sieve, content, start)
        except DockerError as error:
            if error.status != 404:
                raise
        waiting += sieve.second_names
        sieve.second_names = []


def starts(wanted: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Where files that fit can be: the plain beginnings of the patterns, none below another. The engine sends all that
    is below, so the less the better."""
    plain = {
        tuple(each[: next((n for n, part in enumerate(each) if set(part) & set("*?[")), len(each))]) for each in wanted
    }
    for start in plain:
        if not any(start[:size] in plain for size in range(len(start))):
            yield start


class _Sieve:
    """``second_names``: files that the archive has as links to another name of theirs; asked for alone they are
    whole."""

    def __init__(self, wanted: Sequence[tuple[str, ...]], space: Workspace, max_bytes: int) -> None:
        self.wanted = wanted
        self.second_names: list[tuple[str, ...]] = []
        self._space = space
        self._max_bytes = max_bytes
        self._looked = self._kept = 0

    def pour(self, source: Any, start: tuple[str, ...]) -> None:
        with tarfile.open(fileobj=source, mode="r|", bufsize=READ_BYTES) as archive:
            while (member := archive.next()) is not None:
                vars(archive)["members"].clear()  # else all of them are remembered
                self._looked += 1
                if self._looked > MAX_LOOKED_AT:
                    message = f"input.artifacts: more than {MAX_LOOKED_AT} files are there; name a part of them"
                    raise TaskError("bad_artifacts", message, retryable=False)
                # The names begin with the last part of what was asked for.
                inner = tuple(part for part in member.name.split("/") if part not in ("", "."))[1:]
                path = (*start, *inner)
                if ".." not in path and any(fits(path, each) for each in self.wanted):
                    self._take(archive, member, path)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: tuple[str, ...]) -> None:
        if member.islnk():
            self.second_names.append(path)
            return
        if not member.isreg():
            return
        name = "/".join(path)
        if member.size > self._max_bytes:
            raise too_large(name, member.size, self._max_bytes)
        self._kept += 1
        if self._kept > MAX_ARTIFACTS:
            raise too_many(self._kept)
        content = archive.extractfile(member)
        assert content is not None
        try:
            fd = self._space.create(name)
        except (BadPath, OSError) as error:
            message = f"input.artifacts: {name} cannot be kept: {error}"
            raise TaskError("bad_artifacts", message, retryable=False) from error
        with os.fdopen(fd, "wb") as target:
            shutil.copyfileobj(content, target, READ_BYTES)


class _Source:
    """An answer's body as a thread reads it."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()

    def read(self, size: int) -> bytes:
        return asyncio.run_coroutine_threadsafe(self._content.read(size), self._loop).result()


async def _sieved(sieve: _Sieve, content: aiohttp.StreamReader, start: tuple[str, ...]) -> None:
    pouring = asyncio.ensure_future(asyncio.to_thread(sieve.pour, _Source(content), start))
    try:
        await asyncio.shield(pouring)
    except asyncio.CancelledError:
        content.set_exception(aiohttp.ClientConnectionError("nobody waits for it any more"))
        await asyncio.wait({pouring})  # its thread ends by that; nothing is written any more when this returns
        pouring.exception()
        raise
    except tarfile.TarError as error:
        raise TaskError("docker_error", f"the engine's archive of the artifacts is broken: {error}") from error


def _pack(root: Path, into: IO[bytes]) -> None:
    with tarfile.open(fileobj=into, mode="w") as archive:
        archive.add(root, arcname=WORKSPACE.removeprefix("/"), filter=_for_anybody)
    into.seek(0)


def _for_anybody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whoever the image runs as can read and write it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o777 if member.isdir() else 0o666
    return member
