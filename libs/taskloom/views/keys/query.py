"""When API keys were last used: written by gateways at most once a minute and key, read into lists."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, LiteralString

from taskloom.views.reading import Pool, rows

NOTE: Final[LiteralString] = """
INSERT INTO key_uses AS u (tenant_id, key_id, last_used_at)
SELECT * FROM unnest(%(tenants)s::text[], %(keys)s::text[], %(moments)s::timestamptz[])
ORDER BY 1, 2
ON CONFLICT (tenant_id, key_id) DO UPDATE SET last_used_at = excluded.last_used_at
WHERE u.last_used_at < excluded.last_used_at
"""

OF_TENANT: Final[LiteralString] = """
SELECT key_id, last_used_at FROM key_uses WHERE tenant_id = %(tenant)s AND key_id = ANY(%(keys)s)
"""


async def note(pool: Pool, uses: Mapping[tuple[str, str], datetime]) -> None:
    """``uses``: when, by tenant and key id. An older moment changes nothing."""
    tenants, keys = [tenant for tenant, _ in uses], [key for _, key in uses]
    values = {"tenants": tenants, "keys": keys, "moments": list(uses.values())}
    async with pool.connection() as connection:
        await connection.execute(NOTE, values)


async def last_used(pool: Pool, tenant_id: str, key_ids: list[str]) -> dict[str, datetime]:
    """By key id; without those that were never used."""
    return dict(await rows(pool, OF_TENANT, {"tenant": tenant_id, "keys": key_ids}))
