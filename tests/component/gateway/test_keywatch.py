"""Streams go on as long as the key or token that opened them is good, and no longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from psycopg import OperationalError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from services.gateway.keywatch import KeyWatch
from services.gateway.server import HttpServer
from taskloom.testing.eventually import eventually
from tests.component.gateway.access import SECRET, app_with_keys, client_of, issued
from tests.component.gateway.memory import MemorySystem


class Reader:
    """An open stream of all tasks; ``cut`` says how it ended."""

    def __init__(self, server: HttpServer, credential: str) -> None:
        self._address = f"127.0.0.1:{server.port}/api/v1/stream"
        self._headers = {"Authorization": f"Bearer {credential}"}
        self.opened = asyncio.Event()
        self.cut: object = None

    async def frames(self) -> None:
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=20) as client,
            client.stream("GET", f"http://{self._address}/sse?all=true") as answer,
        ):
            assert answer.status_code == 200
            try:
                async for _ in answer.aiter_lines():
                    self.opened.set()
                self.cut = "finished"
            except httpx.RemoteProtocolError as cut:
                self.cut = cut

    async def messages(self) -> None:
        async with connect(f"ws://{self._address}/ws?all=true", additional_headers=self._headers, proxy=None) as socket:
            try:
                async for _ in socket:
                    self.opened.set()
            except ConnectionClosed as cut:
                self.cut = cut


class Watched:
    """A gateway behind its real HTTP server. Its watch looks when it is told to."""

    def __init__(self, system: MemorySystem) -> None:
        self.app = app_with_keys(system, key_cache_s=0)
        self.gateway = self.app.state["gateway"]
        self.server = HttpServer(self.app, "127.0.0.1", 0, drain_s=1.0)
        self.watch = KeyWatch(self.gateway.gatekeeper, self.gateway.streams.open, fresh_s=0)

    @asynccontextmanager
    async def reading(self, credential: str) -> AsyncIterator[list[Reader]]:
        """One over SSE, one over a WebSocket."""
        readers = [Reader(self.server, credential) for _ in range(2)]
        tasks = [asyncio.create_task(readers[0].frames()), asyncio.create_task(readers[1].messages())]
        try:
            async with asyncio.timeout(10):
                await asyncio.gather(*(reader.opened.wait() for reader in readers))
            yield readers
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def watched(system: MemorySystem) -> AsyncIterator[Watched]:
    watched = Watched(system)
    await watched.server.start()
    yield watched
    await watched.gateway.streams.close()
    await watched.server.stop()


async def were_cut(readers: list[Reader]) -> None:
    await eventually(lambda: all(reader.cut is not None for reader in readers))
    frames, messages = readers
    assert isinstance(frames.cut, httpx.RemoteProtocolError), "cut, not finished"
    assert isinstance(messages.cut, ConnectionClosed)
    assert messages.cut.rcvd is not None
    assert messages.cut.rcvd.code == 1008


async def test_streams_of_a_revoked_key_are_cut_with_those_of_its_tokens_and_no_others(
    watched: Watched, system: MemorySystem
) -> None:
    _, admin = await issued(system, "red")
    key_id, key = await issued(system, "red", "user")
    async with AsyncExitStack() as stack:
        by_key = await stack.enter_async_context(watched.reading(key))
        client = await stack.enter_async_context(client_of(watched.app, key))
        token = (await client.post("/api/v1/auth/token")).json()["access_token"]
        by_token = await stack.enter_async_context(watched.reading(token))
        of_admin = await stack.enter_async_context(watched.reading(admin))
        await watched.watch.look()
        other = await stack.enter_async_context(client_of(app_with_keys(system), admin))
        assert (await other.delete(f"/api/v1/auth/api-keys/{key_id}")).status_code == 200
        await watched.watch.look()
        await were_cut(by_key)
        await were_cut(by_token)
        assert [reader.cut for reader in of_admin] == [None, None]
        assert len(watched.gateway.streams.open.credentials()) == 1


async def test_streams_of_a_key_are_cut_when_it_is_replaced_or_expires(watched: Watched, system: MemorySystem) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    _, old = await issued(system, "red")
    _, brief = await issued(system, "red", expires_at=soon)
    async with watched.reading(old) as of_old, watched.reading(brief) as of_brief:
        async with client_of(watched.app, old) as client:
            assert (await client.post("/api/v1/auth/refresh-key")).status_code == 200
        await watched.watch.look()
        await were_cut(of_old)
        await eventually(lambda: datetime.now(UTC) > soon)
        await watched.watch.look()
        await were_cut(of_brief)


async def test_streams_of_a_token_are_cut_when_it_expires(watched: Watched) -> None:
    ends = datetime.now(UTC) - timedelta(seconds=2.5)  # five seconds are granted to clocks that differ
    claims = {"iss": "shannon-platform", "sub": "ann", "tenant_id": "red", "exp": ends + timedelta(seconds=1)}
    async with watched.reading(jwt.encode(claims, SECRET, "HS256")) as readers:
        await watched.watch.look()

        async def expired() -> bool:
            await watched.watch.look()
            return all(reader.cut is not None for reader in readers)

        await eventually(expired)
        await were_cut(readers)


async def test_streams_go_on_while_keys_cannot_be_looked_up(
    watched: Watched, system: MemorySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_key_hash: str) -> None:
        raise OperationalError("the database is away")

    _, key = await issued(system, "red")
    async with watched.reading(key) as readers:
        monkeypatch.setattr(system, "key", away)
        await watched.watch.look()
        assert [reader.cut for reader in readers] == [None, None]
        assert len(watched.gateway.streams.open.credentials()) == 1
