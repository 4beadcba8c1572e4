"""Artifacts out of an engine's archive: what is cut, stalls, lies or points elsewhere. The engine here is a server of
a few lines; a real one is in tests/integration/executor/test_docker.py."""

import asyncio
import io
import tarfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiodocker import Docker
from aiohttp import web

from services.executor.containers import archive, daemon
from services.executor.workspace import Workspace
from taskloom.kinds import TaskError
from taskloom.testing.eventually import eventually


class Engine:
    """``archives`` by path within the container; a path that ends with a cut or a stall says so."""

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.ending = ""
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.query["path"]
        self.asked.append(path)
        if path not in self.archives:
            return web.json_response({"message": f"Could not find the file {path}"}, status=404)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(self.archives[path])
        if self.ending == "stall":
            await asyncio.sleep(3600)
        if self.ending == "cut":
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write_eof()
        return response


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def docker(engine: Engine) -> AsyncIterator[Docker]:
    app = web.Application()
    app.router.add_get("/version", version)
    app.router.add_get("/v1.41/containers/box/archive", engine.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = daemon.connect(f"tcp://127.0.0.1:{runner.addresses[0][1]}")
    yield client
    await daemon.close(client)
    await runner.cleanup()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    (tmp_path / "space").mkdir()
    return Workspace(tmp_path / "space", None, None, 10**6)


async def version(_: web.Request) -> web.Response:
    return web.json_response({"ApiVersion": "1.41"})


def packed(*members: tuple[str, bytes | str]) -> bytes:
    """A tar: content of a file, or ``->target`` of a symbolic, ``=>target`` of a hard link."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                member.linkname = content[2:]
                made.addfile(member)
            else:
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
    return into.getvalue()


async def test_only_regular_files_that_fit_come_out_and_none_outside(
    engine: Engine, docker: Docker, space: Workspace, tmp_path: Path
) -> None:
    engine.archives["/workspace"] = packed(
        ("workspace/a.txt", b"a"),
        ("workspace/b.log", b"no"),
        ("workspace/in/c.txt", b"c"),
        ("workspace/link.txt", "->/etc/passwd"),
        ("workspace/second.txt", "=>workspace/b.log"),
        ("workspace/../../out.txt", b"out"),
        ("/workspace/in/d.txt", b"d"),
    )
    engine.archives["/workspace/second.txt"] = packed(("second.txt", b"no"))
    await archive.take(docker, "box", ["*.txt", "**/c.txt", "**/out.txt"], space, 10)
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"space/a.txt": b"a", "space/in/c.txt": b"c", "space/second.txt": b"no"}
    assert engine.asked == ["/workspace", "/workspace/second.txt"]


async def test_what_is_not_there_is_no_artifact_and_what_is_too_large_is_refused_before_it_is_read(
    engine: Engine, docker: Docker, space: Workspace
) -> None:
    await archive.take(docker, "box", ["none/*"], space, 10)
    assert engine.asked == ["/workspace/none"]
    engine.archives["/workspace/large"] = packed(("large", b"x" * 11))
    with pytest.raises(TaskError, match="TASKLOOM_MAX_FILE_MB") as refused:
        await archive.take(docker, "box", ["large"], space, 10)
    assert (refused.value.type, refused.value.retryable) == ("artifact_too_large", False)
    assert list(space.root.iterdir()) == []


async def test_an_archive_that_is_cut_is_an_error_wherever_the_cut_is(
    engine: Engine, docker: Docker, space: Workspace
) -> None:
    engine.ending = "cut"
    whole = packed(("workspace/a", b"x" * 1000))
    for size in (100, 512, 1000, 1536):  # in its header, after it, in the content, after that
        engine.archives["/workspace"] = whole[:size]
        with pytest.raises((aiohttp.ClientError, TaskError)):
            await archive.take(docker, "box", ["*"], space, 10**6)


async def test_a_cancel_ends_the_reading_of_an_engine_that_stalls(
    engine: Engine, docker: Docker, space: Workspace
) -> None:
    engine.ending = "stall"
    engine.archives["/workspace"] = packed(("workspace/a", b"x" * 1000), ("workspace/b", b"y" * 100_000))[:5_000]
    threads = threading.active_count()
    reading = asyncio.create_task(archive.take(docker, "box", ["*"], space, 10**6))
    await eventually(lambda: (space.root / "b").exists(), 20)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await reading
    assert threading.active_count() <= threads + 1, "the pool's thread may wait for work, none may read on"
