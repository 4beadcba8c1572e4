"""The pool that queries on views run on. Made once per process and handed to every query function."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.errors import QueryCanceled
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from taskloom.errors import TaskloomError

Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]

QUERY_LIMIT_MS: Final = 5_000
"""A longer read is stopped with ``TooSlow``, so that one wide search cannot hold the gateway's connections."""


class TooSlow(TaskloomError):
    """The search took too long; narrow it, for example by created_after."""


def read_pool(
    dsn: str, *, min_size: int = 1, max_size: int = 4, timeout_s: float = 5.0, query_limit_ms: int = QUERY_LIMIT_MS
) -> Pool:
    """A closed pool; ``await pool.open()`` before use, ``await pool.close()`` at the end.

    At most ``max_size`` connections; a caller that gets none within ``timeout_s`` gets ``psycopg_pool.PoolTimeout``.
    """

    async def configure(connection: AsyncConnection[Any]) -> None:
        set_json_loads(msgspec.json.decode, connection)
        await connection.execute(sql.SQL("SET statement_timeout = {}").format(query_limit_ms))
        await connection.execute("SET timezone = 'UTC'")

    return AsyncConnectionPool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        timeout=timeout_s,
        max_waiting=1_000,
        open=False,
        configure=configure,
        kwargs={"autocommit": True, "application_name": "taskloom.views"},
    )


async def rows(
    pool: Pool, statement: str, values: dict[str, Any] | Sequence[Any] | None = None
) -> list[tuple[Any, ...]]:
    """All rows of one statement.

    Raises:
        TooSlow: it ran into the time limit.
        psycopg.OperationalError: PostgreSQL is away.
    """
    try:
        async with pool.connection() as connection, connection.cursor(binary=True) as cursor:
            # Not prepared: the plan must know the values, for a filter that is not asked for to fold away.
            await cursor.execute(statement.encode(), values, prepare=False)
            return await cursor.fetchall()
    except QueryCanceled as error:
        raise TooSlow from error


async def row(pool: Pool, statement: str, values: dict[str, Any] | None = None) -> tuple[Any, ...] | None:
    found = await rows(pool, statement, values)
    return found[0] if found else None
