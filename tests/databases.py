"""Databases with all migrations applied: made once, emptied after each test, given to the next.

Copying one costs a test a fifth of a second, mostly of the kernel; emptying the few tables that it wrote a fiftieth.
"""

import uuid
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from taskloom.local.postgres import EmbeddedPostgres

Connection = psycopg.Connection[tuple[Any, ...]]

_ALONE: Final = """
    SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_TABLES: Final = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^pg_|^information_schema$'"
_CATALOGS: Final = ("attribute", "index", "constraint", "proc", "trigger", "rewrite", "type")
_SHAPE: Final = sql.SQL(" UNION ALL ").join(
    sql.SQL("SELECT {}, count(*), max(xmin::text::bigint) FROM {}").format(name, sql.Identifier(f"pg_{name}"))
    for name in _CATALOGS
) + sql.SQL(" UNION ALL SELECT datname, 0, 0 FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase")
"""Who changed a table, an index or a function last, by the catalog where it stands: a copy has its template's."""

_FROM_THE_START: Final = """
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences
    WHERE last_value IS NOT NULL
"""
MUCH_BYTES: Final = 1 << 20


class Databases:
    """``template``: name of the migrated database that each is a copy of."""

    def __init__(self, server: EmbeddedPostgres, template: str) -> None:
        self._server = server
        self._template = template
        self._clean: list[str] = []
        with psycopg.connect(server.dsn(template), autocommit=True) as connection:
            self._shape = _shape_of(connection)
            self._filled = {table: _rows_of(connection, table) for table in _filled(connection)}

    def take(self) -> str:
        """Name of a database as the migrations left it; nobody is connected to it."""
        if self._clean:
            return self._clean.pop()
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._run("CREATE DATABASE {} TEMPLATE {}", name, self._template)
        return name

    def give_back(self, name: str) -> None:
        """Empties it for the next test. One whose tables or first rows were changed goes."""
        # A connection of its own: the test may have killed the server meanwhile.
        with psycopg.connect(self._server.dsn(name), autocommit=True) as connection:
            connection.execute(_ALONE)
            clean = _shape_of(connection) == self._shape and self._emptied(connection)
        if clean:
            self._clean.append(name)
        else:
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _emptied(self, connection: Connection) -> bool:
        filled = _filled(connection)
        if any(table not in filled or _rows_of(connection, table) != rows for table, rows in self._filled.items()):
            return False
        with connection.transaction():
            # Constraints are not looked at: all rows go.
            connection.execute("SET LOCAL session_replication_role = replica; SET LOCAL synchronous_commit = off")
            for table in filled:
                if table not in self._filled:
                    connection.execute(_emptying(connection, table))
            connection.execute(_FROM_THE_START)
        return True

    def _run(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self._server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _shape_of(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(_SHAPE).fetchall()


def _filled(connection: Connection) -> list[tuple[str, str]]:
    """Tables that have rows."""
    tables: list[tuple[str, str]] = [(schema, name) for schema, name in connection.execute(_TABLES).fetchall()]
    one = sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})")
    asked = [one.format(number, sql.Identifier(*table)) for number, table in enumerate(tables)]
    found = connection.execute(sql.SQL(" UNION ALL ").join(asked)).fetchall()
    return [tables[number] for (number,) in found]


def _emptying(connection: Connection, table: tuple[str, str]) -> sql.Composed:
    """To truncate makes a new file of the table and of each index, which costs more than to delete a few rows."""
    of_table = "SELECT pg_relation_size(format('%%I.%%I', %s::text, %s::text)::regclass)"
    [size] = connection.execute(of_table, table).fetchone() or [0]
    statement: LiteralString = "DELETE FROM {}" if size < MUCH_BYTES else "TRUNCATE {}"
    return sql.SQL(statement).format(sql.Identifier(*table))


def _rows_of(connection: Connection, table: tuple[str, str]) -> list[tuple[Any, ...]]:
    query = sql.SQL("SELECT each::text FROM {} AS each ORDER BY 1").format(sql.Identifier(*table))
    return connection.execute(query).fetchall()
