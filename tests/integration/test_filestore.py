"""The store of files over a directory and over an S3-compatible server: the same suite."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from taskloom.filestore import (
    FileStore,
    FilesUnavailable,
    NoSuchStoredFile,
    key_of_artifact,
    key_of_file,
)

pytestmark = pytest.mark.integration
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """Options of a server of its own, with the bucket ``taskloom``."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "endpoint": f"http://{host}:{port}",
        "region": "us-east-1",
        "access_key_id": "some",
        "secret_access_key": "key",
    }
    httpx.put(f"{options['endpoint']}/taskloom", trust_env=False).raise_for_status()
    yield options
    server.stop()


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    if request.param == "directory":
        return FileStore(f"file://{tmp_path}/new")
    return FileStore(f"s3://taskloom/{tmp_path.name}", request.getfixturevalue("s3"))


async def content(store: FileStore, key: str) -> bytes:
    size, pieces = await store.read(key)
    whole = b"".join([piece async for piece in pieces])
    assert len(whole) == size
    return whole


@pytest.mark.parametrize("path", ["a.txt", "in/deep/ü b%#?.txt", ".hidden", "...", "in/=41", "a\nb\\c", "~/x:y"])
async def test_any_name_comes_back_as_it_was(store: FileStore, path: str) -> None:
    await store.put(key_of_artifact("acme", "t:1", 2, path), b"content")
    [found] = await store.of_task("acme", "t:1")
    assert (found.path, found.attempt, found.size_bytes) == (path, 2, 7)
    assert await content(store, key_of_artifact("acme", "t:1", 2, path)) == b"content"


async def test_twenty_megabytes_from_a_file_come_back_in_pieces(store: FileStore) -> None:
    data = os.urandom(MIB) * 20
    await store.put(key_of_artifact("acme", "t", 1, "large"), io.BytesIO(data))
    size, pieces = await store.read(key_of_artifact("acme", "t", 1, "large"))
    assert size == len(data)
    sizes, whole = [], bytearray()
    async for piece in pieces:
        sizes.append(len(piece))
        whole += piece
    assert whole == data
    assert max(sizes) < 8 * MIB


async def test_tasks_attempts_and_tenants_lie_apart(store: FileStore) -> None:
    for tenant, task, attempt in (("a", "t", 1), ("a", "t", 2), ("a", "t2", 1), ("b", "t", 1), ("a.b", "t", 1)):
        await store.put(key_of_artifact(tenant, task, attempt, "x"), f"{tenant}{task}{attempt}".encode())
    assert [(each.attempt, each.path) for each in await store.of_task("a", "t")] == [(1, "x"), (2, "x")]
    assert await content(store, key_of_artifact("b", "t", 1, "x")) == b"bt1"
    assert await store.of_task("c", "t") == []


async def test_uploaded_files_are_listed_replaced_and_removed(store: FileStore) -> None:
    for name, data in (("b", b"1"), ("a", b"22"), ("b", b"333")):
        await store.put(key_of_file("acme", name), data)
    assert [(each.path, each.size_bytes) for each in await store.of_tenant("acme")] == [("a", 2), ("b", 3)]
    await store.remove(key_of_file("acme", "a"))
    assert [each.path for each in await store.of_tenant("acme")] == ["b"]
    with pytest.raises(NoSuchStoredFile):
        await store.read(key_of_file("acme", "a"))
    assert await store.of_tenant("nobody") == []


async def test_a_store_that_is_away_or_wrongly_named_says_so() -> None:
    given = {"access_key_id": "some", "secret_access_key": "key", "region": "x", "retry_config": {"max_retries": 0}}
    away = FileStore("s3://none", {**given, "endpoint": "http://127.0.0.1:1"})
    with pytest.raises(FilesUnavailable, match="cannot be used now"):
        await away.put("k", b"x")
    with pytest.raises(FilesUnavailable):
        await away.of_task("a", "t")
    with pytest.raises(FilesUnavailable, match="nonsense"):
        FileStore("s3://none", {**given, "nonsense": "1"})
