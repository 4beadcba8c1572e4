"""How we connect to PostgreSQL: every wait has a limit."""

import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from taskloom.store.errors import StoreError, StoreUnavailable

CONNECT_TIMEOUT_S: Final = 5
LOCK_TIMEOUT_S: Final = 10
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
# Connections live long and prepare their statements. A plan made while a table was empty reads it from end to end, and
# is kept while it grows: measured 5 ms a put at 120,000 open tasks, against 0.2 ms. All our statements have an index.
_PLANS: Final = "-c enable_seqscan=off"

Row = tuple[Any, ...]
Pool = AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]


def session_parameters(dsn: str, *, application: str, statement_timeout_s: float) -> dict[str, Any]:
    """Connection parameters for ``dsn`` with our limits; what the DSN says itself is kept.

    A server that is gone without a word (a pulled cable) is noticed after about 15 s, by TCP.

    Raises:
        StoreError: the DSN cannot be read.
    """
    given = _parsed(dsn)
    limits = f"-c lock_timeout={LOCK_TIMEOUT_S * 1000} -c statement_timeout={int(statement_timeout_s * 1000)}"
    ours = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        "keepalives_idle": 5,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
    return {**ours, **given, "options": f"{_PLANS} {limits} {given.get('options') or ''}".strip()}


def wait_for_database(dsn: str, *, timeout_s: float, pause: Callable[[float], object] = time.sleep) -> None:
    """Returns once ``dsn`` answers a query. A true value from ``pause`` (an event's ``wait``) ends the waiting.

    Raises:
        StoreUnavailable: it did not within ``timeout_s``, or was stopped; the message has PostgreSQL's last words.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            with psycopg.connect(
                **session_parameters(dsn, application="taskloom", statement_timeout_s=CONNECT_TIMEOUT_S)
            ) as connection:
                connection.execute("SELECT 1")
                return
        except psycopg.OperationalError as error:
            if time.monotonic() + pause_s > deadline:
                raise StoreUnavailable(f"{where(dsn)} did not answer within {timeout_s:g} s: {error}") from error
        if pause(pause_s):
            raise StoreUnavailable(f"stopped while waiting for {where(dsn)}")
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def where(dsn: str) -> str:
    """The database's name and address for a message, without user and password."""
    given = _parsed(dsn)
    return f"PostgreSQL database {given.get('dbname', '')!r} at {given.get('host', 'the default host')}"


def _parsed(dsn: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # What libpq says about it repeats a part of the DSN, which may be the password.
        raise StoreError("the database's DSN cannot be read; write postgresql://user@host:port/name") from None


def reader_pool(dsn: str, *, application: str, max_size: int, statement_timeout_s: float) -> Pool:
    """A bounded pool, not yet open. A caller waits at most 5 s for a connection, and each is tried before it is given.

    ``reconnect_timeout`` is short on purpose: the pool doubles its pauses while the server is away, and would come back
    a minute late after an outage of a minute. Given up, it starts anew with the next caller.
    """
    return AsyncConnectionPool(
        kwargs={
            **session_parameters(dsn, application=application, statement_timeout_s=statement_timeout_s),
            "autocommit": True,
        },
        min_size=1,
        max_size=max_size,
        timeout=CONNECT_TIMEOUT_S,
        max_waiting=max_size * 64,
        reconnect_timeout=CONNECT_TIMEOUT_S,
        check=AsyncConnectionPool.check_connection,
        name=application,
        open=False,
    )
