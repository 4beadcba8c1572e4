"""What all tests share: one real broker, one real database server and one running system, each started on first use."""

import asyncio
import sys
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import sql

from taskloom.local.child import ManagedProcess
from taskloom.local.jars import ensure_jars
from taskloom.local.kafka import EmbeddedKafka
from taskloom.local.postgres import EmbeddedPostgres
from taskloom.testing.processes import RunningSystem
from tests.clients.node import Node
from tests.databases import Databases

T = TypeVar("T")


def in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work`` in a loop that no test sees; not ``asyncio.run``, which takes away the tests' current loop."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def running(process: ManagedProcess) -> Iterator[None]:
    try:
        in_own_loop(process.start())
        yield
    finally:
        in_own_loop(process.stop(20.0))


MAY_HOLD = {"e2e": {"e2e"}, "integration": {"integration"}, "clients": {"e2e", ""}, "docs": {"e2e", ""}}
"""How a folder's tests may be marked; those of all other folders not at all."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests of whole systems that do not share one. A test that no part of a run would look for is an error."""
    tests = Path(__file__).parent
    for item in items:
        folder, *below = item.path.relative_to(tests).parts
        part = next((mark for mark in ("e2e", "integration") if item.get_closest_marker(mark)), "")
        may_hold = MAY_HOLD.get(folder, {""}) | ({"e2e"} if (folder, below[0]) == ("integration", "gateway") else set())
        if part == "e2e" and "running_system" not in getattr(item, "fixturenames", ()):
            item.add_marker("own")
        long = any(item.get_closest_marker(mark) for mark in ("chaos", "bench", "soak"))
        if part not in may_hold and not long:
            raise pytest.UsageError(f"{item.nodeid} is marked {part or 'as pure'}: tests/run.py looks elsewhere for it")


LIMITED_RATE = 20
LIMITS = {
    "TASKLOOM_WEBHOOK_ALLOW_PRIVATE": "true",
    "TASKLOOM_QUEUE_RATES": f'{{"limits-rate": {{"per_s": {LIMITED_RATE}}}}}',
    "TASKLOOM_QUEUE_PARALLEL": '{"limits-one": 1}',
    "TASKLOOM_QUOTAS": '{"budgeted": {"tokens_per_day": 1, "parallel": 2, "session": {"parallel": 1}}}',
}
"""Settings that only tests/e2e/test_limits.py meets, on queues and with a tenant of its own."""

AGENTS = {"TASKLOOM_AGENTS": "agent1,agent2", "TASKLOOM_RECONNECT_MOST_S": "1"}
"""Two agents beside the services, for whoever names them: soon back where a test kills the gateway."""

TOOLS = {"TASKLOOM_MCP_COMMANDS": f"{sys.executable} *tool_server.py, {sys.executable} -m mcp_server_time"}
"""Tool servers that tests/e2e/test_tools.py registers."""


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def embedded_kafka(session_home: Path) -> Iterator[EmbeddedKafka]:
    """The run's broker. A test that kills it starts it again: same port, same data."""
    ensure_jars()
    kafka = EmbeddedKafka(session_home)
    yield from (kafka for _ in running(kafka))


@pytest.fixture(scope="session")
def embedded_postgres(session_home: Path) -> Iterator[EmbeddedPostgres]:
    """The run's database server. A test that kills it starts it again: same DSN, same data."""
    postgres = EmbeddedPostgres(session_home)
    yield from (postgres for _ in running(postgres))


@pytest.fixture(scope="session")
def kafka_bootstrap(embedded_kafka: EmbeddedKafka) -> str:
    """``host:port`` of the broker."""
    return embedded_kafka.bootstrap


@pytest.fixture(scope="session")
def postgres_dsn(embedded_postgres: EmbeddedPostgres) -> str:
    """DSN of the server's first database, which is empty."""
    return embedded_postgres.dsn()


@pytest.fixture(scope="session")
def migrated_template(embedded_postgres: EmbeddedPostgres) -> str:
    """Name of a database with all migrations applied, to copy from."""
    from taskloom.store.migrate import migrate

    name = "migrated_template"
    with psycopg.connect(embedded_postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(embedded_postgres.dsn(name))
    return name


@pytest.fixture(scope="session")
def databases(embedded_postgres: EmbeddedPostgres, migrated_template: str) -> Databases:
    return Databases(embedded_postgres, migrated_template)


@pytest.fixture
def database_dsn(embedded_postgres: EmbeddedPostgres, databases: Databases) -> Iterator[str]:
    """DSN of a database as the migrations left it; after the test nobody is connected to it any more."""
    name = databases.take()
    yield embedded_postgres.dsn(name)
    databases.give_back(name)


@pytest.fixture
def topic_prefix() -> str:
    """First part of topic and group names that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def running_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """A whole ``taskloom up`` with its own broker and database; shared by all tests of the run."""
    ensure_jars()
    system = RunningSystem(tmp_path_factory.mktemp("system"), LIMITS | AGENTS | TOOLS)
    yield from (system for _ in running(system))


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Node.js with the packages of tests/clients/npm; fetches them on first use."""
    return Node(tmp_path_factory.mktemp("node"))
