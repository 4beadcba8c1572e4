"""Entries of the audit topic into their table, and old ones out of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, LiteralString

import msgspec
from psycopg import Cursor

from taskloom.wire.messages import AuditEntry

INSERT: Final[LiteralString] = """
INSERT INTO audit (tenant_id, id, at, user_id, key_id, method, route, task_id, status, entry)
SELECT * FROM unnest(
    %(tenant_id)s::text[], %(id)s::text[], %(at)s::timestamptz[], %(user_id)s::text[], %(key_id)s::text[],
    %(method)s::text[], %(route)s::text[], %(task_id)s::text[], %(status)s::int[], %(entry)s::bytea[]
)
ON CONFLICT DO NOTHING
"""

# A bound of rows a turn, so that no turn holds up the projection; what is left goes with the next one.
FORGET: Final[LiteralString] = """
DELETE FROM audit WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM audit
    WHERE at < now() - %(kept)s::interval
       OR (at < now() - %(nobodys_kept)s::interval AND tenant_id = '')
    ORDER BY at LIMIT 5000
)
"""

NOBODYS_DAYS: Final = 7
"""Calls without good credentials are kept no longer: whoever reaches the port can make them."""

_COLUMNS: Final = ("tenant_id", "id", "at", "user_id", "key_id", "method", "route", "task_id", "status")


def add(cursor: Cursor[Any], entries: Sequence[AuditEntry]) -> None:
    """An entry that is there already stays as it is."""
    values: dict[str, list[Any]] = {name: [getattr(entry, name) for entry in entries] for name in _COLUMNS}
    cursor.execute(INSERT, {**values, "entry": [msgspec.json.encode(entry) for entry in entries]})


def forget(cursor: Cursor[Any], days: float) -> None:
    kept = {"kept": timedelta(days=days), "nobodys_kept": timedelta(days=min(days, NOBODYS_DAYS))}
    cursor.execute(FORGET, kept)
