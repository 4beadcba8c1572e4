"""The projection's one connection, used from one thread beside the loop, so that a slow commit delays no heartbeat."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg import Connection, Cursor
from psycopg.types.json import set_json_loads

from taskloom.views.outputs import write as outputs
from taskloom.views.sessions import write as sessions
from taskloom.views.steps import write as steps
from taskloom.views.task_executions import write as task_executions

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5

# A commit that a crash of PostgreSQL undoes takes its offsets with it: Kafka still has the records, and they are
# applied again. So the projection need not wait for the disk.
_OPTIONS: Final = (
    "-c synchronous_commit=off -c statement_timeout=60s -c lock_timeout=15s -c idle_in_transaction_session_timeout=60s "
    "-c timezone=UTC -c jit=off "
    # Every statement here walks an index from a few keys. A plan made while a table was empty would read it from end to
    # end, and is kept while it grows; the temporary tables never get statistics at all.
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
)


class Database:
    """Runs functions in transactions, one after the other. Reconnects by itself after a connection was lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projection-database")
        self._connection: Connection[tuple[Any, ...]] | None = None

    async def transaction(self, work: Callable[[Cursor[Any]], T]) -> T:
        """What ``work`` returns, committed; nothing of it when it raises.

        Raises:
            psycopg.OperationalError: PostgreSQL is away. Whether a commit that was under way came through is unknown.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[Cursor[Any]], T]) -> T:
        try:
            connection = self._connected()
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                return work(cursor)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self._disconnect()
            raise

    def _connected(self) -> Connection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="taskloom.projection",
                options=_OPTIONS,
            )
            set_json_loads(msgspec.json.decode, connection)
            with connection.cursor() as cursor:
                for view in (task_executions, sessions, outputs, steps):
                    view.prepare(cursor)
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
