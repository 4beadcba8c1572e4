"""The gateway's application over in-memory surroundings."""

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar

from services.gateway.app import create_app
from services.gateway.parts import Parts
from services.gateway.server import HttpServer
from services.gateway.settings import GatewaySettings
from tests.component.gateway.memory import MemorySystem

BASE_URL = "http://127.0.0.1"


@pytest.fixture
def system() -> MemorySystem:
    return MemorySystem()


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.5, ping_interval_s=0.2)


@pytest.fixture
def app(system: MemorySystem, settings: GatewaySettings) -> Litestar:
    return create_app(Parts(settings, system, system, system, system, system, system.tail))


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """In the test's own loop, so that requests really overlap; Litestar's test client blocks until each is answered."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url=BASE_URL) as client:
        yield client


@pytest.fixture
async def server(app: Litestar) -> AsyncIterator[HttpServer]:
    """The application behind the real HTTP server, for what streams."""
    server = HttpServer(app, "127.0.0.1", 0, drain_s=1.0)
    await server.start()
    yield server
    await app.state["gateway"].streams.close()
    await server.stop()
