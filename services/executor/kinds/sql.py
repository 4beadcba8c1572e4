"""``sql``: one query that reads, against a database that the operator names.

What keeps it from writing, each by itself: the statement is the inner query of a cursor's SELECT, so nothing but a
query parses; it is sent by the extended protocol, which takes one statement; the transaction is read-only and has its
snapshot already, so it cannot be made anything else; a role that is or can become a superuser is refused, since
functions of superusers write files; and the connection ends with the query.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, sql
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from taskloom import telemetry
from taskloom.kinds import Context, Handler, Outcome, TaskError
from taskloom.kinds.inputs import SqlInput, read
from taskloom.store.connect import session_parameters
from taskloom.store.errors import StoreError

MAX_BYTES: Final = 4 * 1024 * 1024
"""Of all rows as JSON; what is above is left out, and said to be."""

MAX_ROW_BYTES: Final = 512 * 1024
"""Of one row; a larger one is an error, so that no row has to fit into the executor's memory."""

RESULT_CHARS: Final = 16 * 1024
MAX_COLUMNS: Final = 500
CONNECTIONS: Final = 8
BATCH: Final = 20
READ_ONLY: Final = "25006"
STOPPED: Final = "57014"
SUPERUSER: Final = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolsuper "
    "AND pg_catalog.pg_has_role(session_user, oid, 'MEMBER'))"
)
log = telemetry.get_logger(__name__)


class Sql(Handler):
    """The response is ``{columns, rows, row_count, truncated}`` with rows as lists, values as PostgreSQL makes JSON of
    them; the result is the rows as JSON text (16 KiB)."""

    kind = "sql"

    def __init__(self, databases: Mapping[str, SecretStr]) -> None:
        self._databases = databases
        self._places = asyncio.Semaphore(CONNECTIONS)

    async def run(self, ctx: Context) -> Outcome:
        wished = read(SqlInput, ctx.input)
        name, dsn = self._database(wished.database)
        try:
            async with self._places, asyncio.timeout(wished.timeout_s), _reading(dsn, wished.timeout_s) as connection:
                answer = await _answer(connection, wished)
        except TimeoutError as error:
            raise _late(wished) from error
        except (psycopg.Error, StoreError) as error:
            raise _told(error, name, wished) from error
        rows = msgspec.json.encode(answer["rows"]).decode()
        return Outcome(result=rows[:RESULT_CHARS], response=answer)

    def _database(self, name: str) -> tuple[str, str]:
        known = ", ".join(sorted(self._databases))
        if not name and len(self._databases) == 1:
            [name] = self._databases
        if name not in self._databases:
            told = f"input.database: {name!r} is not a database of this executor; it has: {known}"
            raise TaskError("unknown_database", told, retryable=False, details={"field": "input.database"})
        return name, self._databases[name].get_secret_value()


@asynccontextmanager
async def _reading(dsn: str, timeout_s: float) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection in a transaction that can only read; it is not used again.

    Raises:
        TaskError: its role could do more than read, whatever the transaction (``sql_unsafe_role``).
    """
    parameters = session_parameters(dsn, application="taskloom-sql", statement_timeout_s=timeout_s)
    parameters["options"] += " -c default_transaction_read_only=on -c enable_seqscan=on"
    connection = await AsyncConnection.connect(**parameters, autocommit=True, cursor_factory=AsyncRawCursor)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = await (await connection.execute(SUPERUSER)).fetchone()
        if found is None or found[0]:
            told = (
                "the database's role is, or can become, a superuser, which no transaction holds back: name a plain one"
            )
            raise TaskError("sql_unsafe_role", told, retryable=False)
        yield connection
    except asyncio.CancelledError:
        await connection.cancel_safe(timeout=2.0)
        raise
    finally:
        await connection.close()


async def _answer(connection: AsyncConnection[Any], wished: SqlInput) -> dict[str, Any]:
    query = wished.query.strip().removesuffix(";")
    values = [Jsonb(each) if isinstance(each, dict) else each for each in wished.parameters]
    inner = sql.SQL("({}\n)").format(sql.SQL(query))
    columns = await _columns(connection, inner, values)
    names = [sql.Identifier(f"c{place}") for place in range(len(columns))]
    declare = sql.SQL(
        "DECLARE rows NO SCROLL CURSOR FOR SELECT CASE WHEN octet_length(line) <= {most} THEN line END FROM "
        "(SELECT row_to_json(q)::text AS line FROM {inner} AS q({names}) LIMIT {limit}) AS lines"
    ).format(
        most=sql.Literal(MAX_ROW_BYTES),
        inner=inner,
        names=sql.SQL(", ").join(names),
        limit=sql.Literal(wished.max_rows + 1),
    )
    await connection.execute(declare, values, prepare=True)
    rows, truncated = await _fetched(connection, wished.max_rows)
    return {"columns": columns, "rows": rows, "row_count": len(rows), "truncated": truncated}


async def _columns(connection: AsyncConnection[Any], inner: sql.Composed, values: Sequence[Any]) -> list[str]:
    shape = sql.SQL("SELECT * FROM {} AS q LIMIT 0").format(inner)
    # Prepared, so by the extended protocol: without parameters psycopg would take several statements.
    cursor = await connection.execute(shape, values, prepare=True)
    found = [each.name for each in cursor.description or ()]
    if not 1 <= len(found) <= MAX_COLUMNS:
        raise TaskError("sql_failed", f"the query has {len(found)} columns, 1 to {MAX_COLUMNS} can be", retryable=False)
    return found


async def _fetched(connection: AsyncConnection[Any], most: int) -> tuple[list[list[Any]], bool]:
    """Rows, and whether there are more."""
    rows: list[list[Any]] = []
    left = MAX_BYTES
    while True:
        batch = await (await connection.execute(f"FETCH {BATCH} FROM rows")).fetchall()
        for (line,) in batch:
            if line is None:
                told = f"a row has more than {MAX_ROW_BYTES} bytes as JSON; select less of it"
                raise TaskError("sql_too_large", told, retryable=False)
            left -= len(line.encode())
            if left < 0 or len(rows) >= most:
                return rows, True
            rows.append(list(msgspec.json.decode(line).values()))
        if len(batch) < BATCH:
            return rows, False


def _late(wished: SqlInput) -> TaskError:
    return TaskError("sql_timeout", f"the query took more than {wished.timeout_s:g} s")


def _told(error: psycopg.Error | StoreError, name: str, wished: SqlInput) -> TaskError:
    if isinstance(error, StoreError):
        return TaskError("sql_unavailable", f"the DSN of the database {name!r} cannot be read", retryable=False)
    state, message = error.sqlstate, error.diag.message_primary
    if state == STOPPED:
        return _late(wished)
    if state is None or message is None or state.startswith(("08", "28", "3D", "53", "57P")):
        # What libpq says of a connection has addresses and users in it: they are the operator's.
        log.warning("a database for queries cannot be reached", database=name, reason=str(error))
        return TaskError("sql_unavailable", f"the database {name!r} cannot be reached now", fault=True)
    kind = "sql_read_only" if state == READ_ONLY else "sql_failed"
    return TaskError(kind, message, retryable=state.startswith("40"), details={"sqlstate": state})
