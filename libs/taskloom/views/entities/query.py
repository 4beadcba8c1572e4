"""Reads of entities by kind and name. Everything is bound to a tenant; a removed one is not there."""

from collections.abc import Sequence
from typing import Final, LiteralString

import msgspec

from taskloom.domain.entities.entity import Entity
from taskloom.views.reading import Pool, row, rows

GET: Final[LiteralString] = """
SELECT entity FROM entities
WHERE tenant_id = %(tenant)s AND kind = %(kind)s AND name = %(name)s AND NOT removed
"""

LIST: Final[LiteralString] = """
SELECT entity FROM entities
WHERE tenant_id = %(tenant)s AND kind = %(kind)s AND name > %(after)s::text COLLATE "C" AND NOT removed
ORDER BY name LIMIT %(limit)s
"""

COUNT: Final[LiteralString] = """
SELECT count(*) FROM entities WHERE tenant_id = %(tenant)s AND kind = %(kind)s AND NOT removed
"""

FIND: Final[LiteralString] = """
SELECT entity FROM entities WHERE kind = %(kind)s AND lookup = %(lookup)s AND NOT removed
ORDER BY entity_id LIMIT 1
"""

FIND_ALL: Final[LiteralString] = """
SELECT entity FROM entities WHERE kind = %(kind)s AND lookup = ANY(%(lookups)s) AND NOT removed ORDER BY entity_id
"""

VERSION: Final[LiteralString] = "SELECT version FROM entities WHERE entity_id = %(id)s"

_decode = msgspec.json.Decoder(Entity).decode


async def get(pool: Pool, kind: str, tenant_id: str, name: str) -> Entity | None:
    found = await row(pool, GET, {"tenant": tenant_id, "kind": kind, "name": name})
    return None if found is None else _decode(found[0])


async def list_entities(pool: Pool, kind: str, tenant_id: str, *, after: str, limit: int) -> list[Entity]:
    """Those whose name comes after ``after``, by name."""
    wanted = {"tenant": tenant_id, "kind": kind, "after": after, "limit": limit}
    return [_decode(stored) for (stored,) in await rows(pool, LIST, wanted)]


async def count(pool: Pool, kind: str, tenant_id: str) -> int:
    found = await row(pool, COUNT, {"tenant": tenant_id, "kind": kind})
    return 0 if found is None else int(found[0])


async def version(pool: Pool, entity_id: str) -> int:
    """The version that the table shows, of a removed one too; 0 for none."""
    found = await row(pool, VERSION, {"id": entity_id})
    return 0 if found is None else int(found[0])


async def find(pool: Pool, kind: str, lookup: str) -> Entity | None:
    """The one that is found by this text, whatever tenant it is of: for who does not know the tenant yet."""
    found = await row(pool, FIND, {"kind": kind, "lookup": lookup})
    return None if found is None else _decode(found[0])


async def find_all(pool: Pool, kind: str, lookups: Sequence[str]) -> list[Entity]:
    """Those that are found by these texts, whatever tenants they are of."""
    found = await rows(pool, FIND_ALL, {"kind": kind, "lookups": list(lookups)})
    return [_decode(stored) for (stored,) in found]
