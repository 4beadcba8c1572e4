"""Brings a database's tables up to this release: the numbered files in ``migrations/``, each once."""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

import psycopg
import structlog

from taskloom.store.connect import session_parameters, wait_for_database, where
from taskloom.store.errors import MigrationError, StoreUnavailable

MIGRATE_TIMEOUT_S: Final = 60.0
_ADVISORY_LOCK: Final = 0x7461736B6C6F6F6D  # "taskloom"
_PER_SHARD: Final = ".shard.sql"

_CREATE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, at timestamptz NOT NULL DEFAULT now()
)
"""
_SELECT_APPLIED: Final = "SELECT name, sha256 FROM schema_migrations"
_INSERT_APPLIED: Final = "INSERT INTO schema_migrations (name, sha256) VALUES (%s, %s)"

log = structlog.get_logger(__name__)


class Migration(NamedTuple):
    """``name`` is the file's, with the shard's number for a file that is applied once a shard."""

    name: str
    statements: str
    sha256: str


def migrate(dsn: str, shards: int = 2, *, timeout_s: float = MIGRATE_TIMEOUT_S) -> list[str]:
    """Applies what is missing, in order, and returns the names applied; an empty list when all was there.

    Processes that start together wait for each other (an advisory lock); each file is a transaction of its own, so what
    was applied before a failure stays, and the next run goes on from there.

    Raises:
        StoreUnavailable: the database, or another process's migration, took longer than ``timeout_s``.
        MigrationError: an applied file has changed since, or PostgreSQL refused a statement.
    """
    wait_for_database(dsn, timeout_s=timeout_s)
    parameters = session_parameters(dsn, application="taskloom-migrate", statement_timeout_s=timeout_s)
    try:
        with psycopg.connect(**parameters, autocommit=True) as connection:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(timeout_s * 1000)}ms",))
            connection.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
            connection.execute(_CREATE_TABLE)
            return [_apply(connection, migration) for migration in _missing(connection, shards)]
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        raise StoreUnavailable(f"migrating {where(dsn)} took longer than {timeout_s:g} s: {error}") from error
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"{where(dsn)} went away while it was migrated; run it again: {error}") from error


def known_migrations(shards: int) -> list[Migration]:
    """This release's migrations in the order of their numbers."""
    folder = files("taskloom.store") / "migrations"
    return [
        migration
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
        for migration in _read(file, shards)
    ]


def _read(file: Traversable, shards: int) -> list[Migration]:
    text = file.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if not file.name.endswith(_PER_SHARD):
        return [Migration(file.name, text, digest)]
    return [Migration(f"{file.name}[{n}]", text.replace("{shard}", str(n)), digest) for n in range(shards)]


def _missing(connection: psycopg.Connection, shards: int) -> list[Migration]:
    applied: dict[str, str] = dict(connection.execute(_SELECT_APPLIED).fetchall())
    known = known_migrations(shards)
    for migration in known:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise MigrationError(
                f"migration {migration.name} was applied in another form: an applied file never changes; "
                "restore it and put the change into a new file with the next number"
            )
    return [migration for migration in known if migration.name not in applied]


def _apply(connection: psycopg.Connection, migration: Migration) -> str:
    try:
        with connection.transaction():
            connection.execute(migration.statements)
            connection.execute(_INSERT_APPLIED, (migration.name, migration.sha256))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise MigrationError(f"migration {migration.name} failed and was undone: {error}") from error
    log.info("migrated", migration=migration.name)
    return migration.name
