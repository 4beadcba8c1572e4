"""Reads of the audit, newest first. Everything is bound to a tenant."""

from datetime import datetime
from typing import Final, LiteralString

import msgspec
from msgspec import Struct, structs

from taskloom.views.reading import Pool, rows
from taskloom.wire.messages import AuditEntry

LIST: Final[LiteralString] = """
SELECT entry FROM audit
WHERE tenant_id = %(tenant)s
  AND (%(before)s::text IS NULL OR id < %(before)s::text COLLATE "C")
  AND (%(since)s::timestamptz IS NULL OR (at >= %(since)s::timestamptz AND id >= %(since_id)s::text COLLATE "C"))
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s::timestamptz)
  AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
  AND (%(key_id)s::text IS NULL OR key_id = %(key_id)s)
  AND (%(task_id)s::text IS NULL OR (task_id = %(task_id)s AND task_id <> ''))
  AND (%(method)s::text IS NULL OR method = %(method)s)
  AND (%(route)s::text IS NULL OR route = %(route)s)
  AND (%(status)s::int IS NULL OR status = %(status)s)
  AND (%(refused)s::bool IS NULL OR (status >= 400) = %(refused)s)
ORDER BY id DESC LIMIT %(limit)s
"""

_decode = msgspec.json.Decoder(AuditEntry).decode


class AuditFilter(Struct, frozen=True):
    """What is None does not narrow. ``before``: ids below this one."""

    before: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    user_id: str | None = None
    key_id: str | None = None
    task_id: str | None = None
    method: str | None = None
    route: str | None = None
    status: int | None = None
    refused: bool | None = None


async def list_entries(pool: Pool, tenant_id: str, chosen: AuditFilter, limit: int) -> list[AuditEntry]:
    """Raises TooSlow: the filter looks at too much; narrow it by ``since``."""
    since_id = "" if chosen.since is None else lowest_id(chosen.since)
    values = {"tenant": tenant_id, "limit": limit, "since_id": since_id, **structs.asdict(chosen)}
    return [_decode(entry) for (entry,) in await rows(pool, LIST, values)]


def lowest_id(at: datetime) -> str:
    """What the ids of entries begin with that were made at this moment: they are UUIDs of version 7."""
    milliseconds = f"{max(0, int(at.timestamp() * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:12]}"
