"""Rows into tables by binary COPY, the cheapest way in: psycopg formats them in C and PostgreSQL parses no SQL.

Two things keep it cheap. A timestamptz is its own wire form, microseconds since 2000 as an integer, and JSON its text:
both travel as plain integers and bytes. And a row that is there already goes through a temporary table of the session,
since COPY itself cannot update.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from psycopg import Cursor

Key = TypeVar("Key")

PG_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)

encode: Final = msgspec.json.Encoder().encode


class Target(Struct, frozen=True):
    """A table to copy into: its columns and, by their order, the types psycopg formats them with."""

    table: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def statement(self) -> str:
        return f"COPY {self.table} ({', '.join(self.columns)}) FROM STDIN (FORMAT BINARY)"


def copy_rows(cursor: Cursor[Any], target: Target, rows: Iterable[Sequence[Any]]) -> None:
    """Appends rows to the target's table.

    Raises:
        psycopg.errors.UniqueViolation: a row's key is there already; nothing was written.
    """
    with cursor.copy(target.statement.encode()) as copy:
        copy.set_types(target.types)
        for row in rows:
            copy.write_row(row)


def micros(at: datetime) -> int:
    """A time as PostgreSQL sends it: microseconds since 2000-01-01 UTC."""
    since = at - PG_EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def micros_or_none(at: datetime | None) -> int | None:
    return None if at is None else micros(at)


def as_json(value: Any) -> bytes | None:
    """JSON for a json column; None, ``{}``, ``[]`` and ``()`` are NULL."""
    return None if value is None or value == {} or value == () else encode(value)


def as_jsonb(value: Any) -> bytes | None:
    """JSON for a jsonb column: its wire form is a version byte, then the text."""
    return b"\x01" + encode(value) if value else None
