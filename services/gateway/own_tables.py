"""The pool for the tables that gateways write themselves: counts of requests, and first answers."""

from typing import Any, Final

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from taskloom.views.reading import Pool

LIMIT_MS: Final = 2_000
"""A longer statement is stopped: a request waits for it."""


def own_pool(dsn: str, *, max_size: int) -> Pool:
    """A closed pool, apart from that of the reads, so that slow lists hold up no submission.

    Commits do not wait for the disk: a crash of PostgreSQL may take back what was counted and kept in its last half
    second, and nothing else.
    """

    async def configure(connection: AsyncConnection[Any]) -> None:
        await connection.execute(f"SET statement_timeout = {LIMIT_MS}")
        await connection.execute("SET synchronous_commit = off")
        # Every statement walks an index from a few keys, also while the tables are empty and plans are made.
        await connection.execute("SET enable_seqscan = off")

    return AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=max_size,
        timeout=LIMIT_MS / 1000,
        max_waiting=1_000,
        open=False,
        configure=configure,
        kwargs={"autocommit": True, "application_name": "taskloom.gateway"},
    )
