"""Queries that read a real database, and attempts to do more than that."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from services.executor.kinds.sql import MAX_BYTES, Sql
from taskloom.kinds import Context, Outcome, TaskError
from taskloom.kinds.inputs import InvalidInput
from taskloom.testing.eventually import eventually

pytestmark = pytest.mark.integration
LONG_S = 60.0


class Reader:
    def __init__(self, owner: str, reader: str) -> None:
        self.owner = owner
        databases = {
            "shop": SecretStr(reader),
            "gone": SecretStr("postgresql://127.0.0.1:1/gone"),
            "root": SecretStr(owner),
        }
        self.kind = Sql(databases)

    async def ask(self, query: str, *parameters: Any, **fields: Any) -> Outcome:
        given = {"query": query, "parameters": list(parameters), "database": "shop", "timeout_s": LONG_S, **fields}
        return await self.kind.run(cast(Context, SimpleNamespace(input=given)))

    async def rows(self, query: str, *parameters: Any, **fields: Any) -> list[list[Any]]:
        rows: list[list[Any]] = (await self.ask(query, *parameters, **fields)).response["rows"]
        return rows

    async def refused(self, query: str, *parameters: Any, **fields: Any) -> TaskError:
        with pytest.raises(TaskError) as caught:
            await self.ask(query, *parameters, **fields)
        return caught.value

    def state(self) -> Any:
        with psycopg.connect(self.owner, autocommit=True) as connection:
            tables = "SELECT array_agg(relname::text ORDER BY relname) FROM pg_class WHERE relname LIKE 'shop%'"
            return connection.execute(
                f"SELECT (SELECT array_agg(price ORDER BY price) FROM shop), ({tables})"
            ).fetchone()


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    """A role that owns its table: only the transaction keeps it from writing."""
    role = f"reader_{uuid.uuid4().hex[:8]}"
    named = sql.Identifier(role)
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(named))
        connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(named))
        connection.execute("CREATE TABLE shop (name text, price numeric, at timestamptz, more jsonb)")
        connection.execute(
            "INSERT INTO shop VALUES ('tea', 1.5, '2026-11-21 12:00Z', '{\"a\": [1]}'), ('mug', 20, NULL, NULL)"
        )
        connection.execute("CREATE SEQUENCE shop_ids")
        connection.execute(
            "CREATE FUNCTION shop_write() RETURNS int LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO shop VALUES ('evil', 0); RETURN 1; END $$"
        )
        connection.execute(
            "CREATE FUNCTION shop_unlock() RETURNS int LANGUAGE plpgsql AS "
            "$$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO shop VALUES ('evil', 0); RETURN 1; END $$"
        )
        for kind, name in (("TABLE", "shop"), ("SEQUENCE", "shop_ids")):
            connection.execute(sql.SQL(f"ALTER {kind} {name} OWNER TO {{}}").format(named))
    yield Reader(database_dsn, make_conninfo(database_dsn, user=role))
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(named))
        connection.execute(sql.SQL("DROP ROLE {}").format(named))


async def test_rows_come_as_json_with_their_columns_and_within_bounds(reader: Reader) -> None:
    done = await reader.ask("SELECT * FROM shop WHERE price < $1 -- cheap ones;", 10)
    assert done.response == {
        "columns": ["name", "price", "at", "more"],
        "rows": [["tea", 1.5, "2026-11-21T12:00:00+00:00", {"a": [1]}]],
        "row_count": 1,
        "truncated": False,
    }
    assert await reader.rows("SELECT 1, 2, 'x', $1::jsonb;", {"b": 2}) == [[1, 2, "x", {"b": 2}]]
    assert await reader.rows("WITH w AS (SELECT 3 AS n) TABLE w") == [[3]]
    assert await reader.rows("VALUES (1, NULL), (2, 'b') ORDER BY 1 DESC") == [[2, "b"], [1, None]]
    assert await reader.rows("SELECT name FROM shop WHERE name = ANY($1)", ["tea", "no"]) == [["tea"]]
    few = (await reader.ask("SELECT generate_series(1, 100)", max_rows=3)).response
    assert (few["rows"], few["truncated"]) == ([[1], [2], [3]], True)
    wide = (await reader.ask("SELECT repeat('x', 400000) FROM generate_series(1, 100)")).response
    assert wide["truncated"]
    assert 0 < wide["row_count"] * 400_000 < MAX_BYTES
    assert (await reader.refused("SELECT repeat('x', 1000000)")).type == "sql_too_large"
    assert (await reader.refused("SELECT nothing FROM shop")).details == {"sqlstate": "42703"}
    assert (await reader.refused("SELECT 1", database="other")).details == {"field": "input.database"}
    assert (await reader.refused("SELECT 1", database="gone")).type == "sql_unavailable"
    unsafe = await reader.refused("SELECT 1", database="root")
    assert unsafe.type == "sql_unsafe_role"
    with pytest.raises(InvalidInput, match=r"input\.max_rows"):
        await reader.ask("SELECT 1", max_rows=0)


ATTACKS = [
    "INSERT INTO shop VALUES ('evil', 0)",
    "WITH w AS (INSERT INTO shop VALUES ('evil', 0) RETURNING *) SELECT * FROM w",
    "SELECT 1) AS q; COMMIT; INSERT INTO shop VALUES ('evil', 0); SELECT (1",
    "SELECT 1; INSERT INTO shop VALUES ('evil', 0)",
    "COMMIT; INSERT INTO shop VALUES ('evil', 0)",
    "SELECT 1) AS q LIMIT 0; COMMIT; CREATE TABLE shop_evil (); --",
    "COMMIT",
    "SET default_transaction_read_only = off",
    "SET TRANSACTION READ WRITE",
    "SELECT set_config('transaction_read_only', 'off', true), shop_write()",
    "SELECT set_config('default_transaction_read_only', 'off', false), shop_write()",
    "SELECT shop_write()",
    "SELECT shop_unlock()",
    "SELECT nextval('shop_ids')",
    "SELECT * INTO shop_evil FROM shop",
    "SELECT * FROM shop FOR UPDATE",
    "DO $$ BEGIN COMMIT; INSERT INTO shop VALUES ('evil', 0); END $$",
    "COPY shop TO PROGRAM 'cat > /tmp/evil'",
    "COPY shop TO STDOUT",
    "CREATE TABLE shop_evil ()",
    "SELECT query_to_xml('SET TRANSACTION READ WRITE', true, true, ''), shop_write()",
    "SELECT query_to_xml('INSERT INTO shop VALUES (''evil'', 0)', true, true, '')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_export(lo_create(0), '/tmp/evil')",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "PREPARE evil AS INSERT INTO shop VALUES ('evil', 0)",
    "LISTEN shop",
    "SELECT 1 \x00",
]


async def test_nothing_that_is_asked_writes_and_what_one_query_sets_the_next_does_not_see(reader: Reader) -> None:
    before = reader.state()
    for attack in ATTACKS:
        error = await reader.refused(attack)
        assert error.type in ("sql_failed", "sql_read_only"), (attack, error)
        assert not error.retryable, attack
        assert reader.state() == before, attack
    assert await reader.rows("SELECT set_config('statement_timeout', '0', false)") == [["0"]]
    shown = "SELECT current_setting('default_transaction_read_only'), current_setting('statement_timeout')"
    assert await reader.rows(shown) == [["on", "1min"]]


async def test_a_query_that_takes_too_long_or_is_cancelled_ends_in_the_database_too(reader: Reader) -> None:
    late = await reader.refused("SELECT pg_sleep(3600)", timeout_s=0.5)
    assert (late.type, late.retryable) == ("sql_timeout", True)
    asking = asyncio.create_task(reader.ask("SELECT 'of the test', pg_sleep(3600)", timeout_s=3600))

    def running() -> int:
        with psycopg.connect(reader.owner, autocommit=True) as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'taskloom-sql' AND state = 'active' "
                "AND datname = current_database()"
            ).fetchone()
            return 0 if found is None else int(found[0])

    await eventually(lambda: running() == 1, timeout_s=LONG_S)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await eventually(lambda: running() == 0, timeout_s=LONG_S)
