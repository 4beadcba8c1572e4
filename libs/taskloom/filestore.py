"""Files of tasks and tenants in a directory or an S3-compatible store, by one interface (obstore).

Keys are ``tasks/<tenant>/<task>/<attempt>/<path>`` and ``files/<tenant>/<name>``. Every part is written with letters,
digits and ``._-``, all else as ``=XX``, so nothing in a name is a path to another tenant.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from typing import IO, Any, Final

import msgspec
import obstore
from msgspec import Struct
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url
from pydantic import Field, SecretStr, field_validator

from taskloom.errors import TaskloomError
from taskloom.settings import ServiceSettings

MAX_LISTED: Final = 10_000
CHUNK_BYTES: Final = 256 * 1024
_RETRIES: Final = {"max_retries": 3}
_RAW: Final = re.compile(r"[^A-Za-z0-9._-]")
_ESCAPED: Final = re.compile(r"=([0-9A-F]{2})")


class FilesUnavailable(TaskloomError):
    """The store of files does not answer, or refuses us."""


class NoSuchStoredFile(TaskloomError):
    """There is no file under this name."""


class StoredFile(Struct, frozen=True):
    """``path`` is as the task named it; ``attempt`` 0 for a tenant's own file."""

    path: str
    attempt: int
    size_bytes: int
    modified_at: datetime


class FileStore:
    """Every method raises ``FilesUnavailable`` when the store does not answer."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        """
        Raises:
            FilesUnavailable: the address or an option is none that the store knows.
        """
        local = url.startswith("file:")
        usual = {"mkdir": True} if local else {"retry_config": _RETRIES, "client_options": {"allow_http": True}}
        given = {**usual, **(options or {})}
        try:
            connect: Any = from_url  # its overloads are by the address, which is known when it runs
            self._store: ObjectStore = connect(url, **given)
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise FilesUnavailable(f"{url} is no store of files: {_first_line(error)}") from error

    async def put(self, key: str, content: IO[bytes] | bytes | AsyncIterable[bytes]) -> None:
        """In the place of what was there. A large one goes in parts, and is there when all of it is."""
        try:
            await obstore.put_async(self._store, key, content)
        except (BaseError, OSError) as error:
            raise _away(error) from error

    async def remove(self, key: str) -> None:
        """Raises NoSuchStoredFile, where the store tells."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError as error:
            raise NoSuchStoredFile from error
        except (BaseError, OSError) as error:
            raise _away(error) from error

    async def read(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """Size and content, in pieces.

        Raises:
            NoSuchStoredFile: there is none.
        """
        try:
            found = await obstore.get_async(self._store, key)
        except FileNotFoundError as error:
            raise NoSuchStoredFile from error
        except (BaseError, OSError) as error:
            raise _away(error) from error
        return int(found.meta["size"]), _pieces(found)

    async def of_task(self, tenant_id: str, task_id: str) -> list[StoredFile]:
        """What its attempts left, by attempt and path; at most 10,000."""
        root = f"tasks/{_part(tenant_id)}/{_part(task_id)}"
        found = []
        for key, size, modified in await self._list(root):
            attempt, _, path = key.partition("/")
            if attempt.isdigit():
                found.append(StoredFile(_plain(path), int(attempt), size, modified))
        return sorted(found, key=lambda each: (each.attempt, each.path))

    async def of_tenant(self, tenant_id: str) -> list[StoredFile]:
        """Its uploaded files, by name; at most 10,000."""
        found = await self._list(f"files/{_part(tenant_id)}")
        files = [StoredFile(_plain(key), 0, size, modified) for key, size, modified in found]
        return sorted(files, key=lambda each: each.path)

    async def _list(self, root: str) -> list[tuple[str, int, datetime]]:
        found: list[tuple[str, int, datetime]] = []
        try:
            async for batch in obstore.list(self._store, prefix=root):
                found += [(each["path"], int(each["size"]), each["last_modified"]) for each in batch]
                if len(found) >= MAX_LISTED:
                    break
        except FileNotFoundError:
            return []
        except (BaseError, OSError) as error:
            raise _away(error) from error
        return [(key[len(root) + 1 :], size, modified) for key, size, modified in found[:MAX_LISTED]]


class FilesSettings(ServiceSettings):
    """Settings of services that keep or serve files."""

    files_url: str = Field(
        "",
        pattern=r"^(file:///.+|s3://.+)?$",
        description="Where files of tasks are kept, the same for gateways and executors: file:///directory (shared by "
        "them) or s3://bucket/prefix; empty: nowhere",
    )
    files_options: SecretStr = Field(
        SecretStr(""),
        description='What an S3-compatible store needs, as JSON: {"endpoint": "https://…", "region": "…", '
        '"access_key_id": "…", "secret_access_key": "…"}; what is left out comes from AWS_… variables',
    )
    max_file_mb: int = Field(1024, ge=1, description="Largest file that is kept, MiB")

    @field_validator("files_options")
    @classmethod
    def _options_are_an_object(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        try:
            if text and not isinstance(msgspec.json.decode(text), dict):
                raise ValueError("must be a JSON object")
        except msgspec.MsgspecError:
            raise ValueError("must be a JSON object") from None
        return value

    @property
    def files(self) -> FileStore | None:
        """
        Raises:
            FilesUnavailable: the address or an option is wrong.
        """
        text = self.files_options.get_secret_value()
        return FileStore(self.files_url, msgspec.json.decode(text) if text else {}) if self.files_url else None


def key_of_artifact(tenant_id: str, task_id: str, attempt: int, path: str) -> str:
    parts = "/".join(_part(part) for part in path.split("/"))
    return f"tasks/{_part(tenant_id)}/{_part(task_id)}/{attempt}/{parts}"


def key_of_file(tenant_id: str, name: str) -> str:
    return f"files/{_part(tenant_id)}/{_part(name)}"


def _part(text: str) -> str:
    escaped = _RAW.sub(
        lambda found: "".join(f"={byte:02X}" for byte in found[0].encode(errors="surrogateescape")), text
    )
    return f"=2E{escaped[1:]}" if escaped.startswith(".") else escaped


def _plain(key: str) -> str:
    raw = b"".join(
        bytes.fromhex(part) if place % 2 else part.encode() for place, part in enumerate(_ESCAPED.split(key))
    )
    return raw.decode(errors="replace")


async def _pieces(found: Any) -> AsyncIterator[bytes]:
    try:
        async for piece in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)
    except (BaseError, OSError) as error:
        raise _away(error) from error


def _away(error: Exception) -> FilesUnavailable:
    return FilesUnavailable(f"the store of files cannot be used now: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
