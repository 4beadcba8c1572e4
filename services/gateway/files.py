"""Files of tasks, and files that a tenant puts here for its tasks."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import quote

from litestar.types import Receive, Scope, Send
from msgspec import Struct

from services.gateway.problems import NotFound, Unavailable
from services.gateway.read import Reader
from services.gateway.security import Caller
from taskloom.filestore import FileStore, FilesUnavailable, NoSuchStoredFile, key_of_artifact, key_of_file


class Artifact(Struct, frozen=True):
    """A file that an attempt left. ``path`` is relative to the attempt's directory."""

    path: str
    attempt: int
    size_bytes: int
    modified_at: datetime


class ArtifactList(Struct, frozen=True):
    """By attempt and path, at most 10,000."""

    task_id: str
    artifacts: list[Artifact]


class UploadedFile(Struct, frozen=True):
    name: str
    size_bytes: int
    modified_at: datetime


class UploadList(Struct, frozen=True):
    """By name, at most 10,000."""

    files: list[UploadedFile]
    total_count: int


class Download:
    """An answer that is sent piece by piece, to be saved: no browser shows it as a page of ours."""

    def __init__(self, name: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        self._name = name
        self._size = size
        self._pieces = pieces

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        named = f"attachment; filename*=UTF-8''{quote(self._name, safe='')}"
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(self._size).encode()),
            (b"content-disposition", named.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class FileDesk:
    """``store`` None: nothing is kept here."""

    def __init__(self, store: FileStore | None, reader: Reader) -> None:
        self._store = store
        self._reader = reader

    async def artifacts(self, caller: Caller, task_id: str) -> ArtifactList:
        """Raises NotFound: there is no such task."""
        await self._reader.row(caller, task_id)
        with _told():
            found = await self._ready().of_task(caller.tenant_id, task_id)
        return ArtifactList(task_id, [Artifact(f.path, f.attempt, f.size_bytes, f.modified_at) for f in found])

    async def artifact(self, caller: Caller, task_id: str, path: str, attempt: int | None) -> Download:
        """The file of that attempt, or of the last one that left it. Raises NotFound."""
        await self._reader.row(caller, task_id)
        with _told(), _found(f"there is no artifact {path!r}"):
            store = self._ready()
            if attempt is None:
                found = await store.of_task(caller.tenant_id, task_id)
                attempt = max((each.attempt for each in found if each.path == path), default=0)
            size, pieces = await store.read(key_of_artifact(caller.tenant_id, task_id, attempt, path))
        return Download(path.rpartition("/")[2], size, pieces)

    async def files(self, caller: Caller) -> UploadList:
        with _told():
            found = await self._ready().of_tenant(caller.tenant_id)
        return UploadList([UploadedFile(f.path, f.size_bytes, f.modified_at) for f in found], len(found))

    async def put(self, caller: Caller, name: str, content: AsyncIterable[bytes] | bytes) -> None:
        with _told():
            await self._ready().put(key_of_file(caller.tenant_id, name), content)

    async def file(self, caller: Caller, name: str) -> Download:
        with _told(), _found(f"there is no file {name!r}"):
            size, pieces = await self._ready().read(key_of_file(caller.tenant_id, name))
        return Download(name, size, pieces)

    async def remove(self, caller: Caller, name: str) -> None:
        with _told(), _found(f"there is no file {name!r}"):
            store = self._ready()
            await store.read(key_of_file(caller.tenant_id, name))  # S3 does not tell whether there was one
            await store.remove(key_of_file(caller.tenant_id, name))

    def _ready(self) -> FileStore:
        if self._store is None:
            raise Unavailable("files are not kept here: TASKLOOM_FILES_URL is not set", retry_after_s=60)
        return self._store


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FilesUnavailable as error:
        raise Unavailable(str(error), retry_after_s=5) from error


@contextmanager
def _found(text: str) -> Iterator[None]:
    try:
        yield
    except NoSuchStoredFile as error:
        raise NotFound(text) from error
