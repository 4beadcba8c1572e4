"""Large results of agents: stored as claims, and written down as their tenant's, so that a report may refer to them."""

from collections.abc import Collection
from typing import Final, LiteralString, Protocol

from psycopg import OperationalError

from services.gateway.problems import Unavailable
from services.gateway.readside import Values
from taskloom.store.errors import StoreUnavailable
from taskloom.views.reading import Pool, rows

PUT: Final[LiteralString] = """
INSERT INTO agent_values (tenant_id, digest) VALUES (%(tenant)s, %(digest)s)
ON CONFLICT (tenant_id, digest) DO UPDATE SET stored_at = now()
"""
OWNED: Final[LiteralString] = """
SELECT digest FROM agent_values WHERE tenant_id = %(tenant)s AND digest = ANY(%(digests)s)
"""

# In steps, so that no one waits for a long delete.
FORGET: Final[LiteralString] = """
DELETE FROM agent_values WHERE (tenant_id, digest) IN (
    SELECT tenant_id, digest FROM agent_values WHERE stored_at < now() - make_interval(secs => %(keep)s)
    ORDER BY stored_at LIMIT %(most)s
)
"""

FORGET_AT_ONCE: Final = 1000
KEPT_S: Final = 86_400.0
"""A report comes soon after the value that it refers to; of a link that was cut for longer, the attempt was lost long
before."""


class AgentValues(Protocol):
    async def put(self, tenant_id: str, value: bytes) -> str:
        """Stores the bytes of a value's JSON; its SHA-256 in hex."""
        ...

    async def owned(self, tenant_id: str, digests: Collection[str]) -> set[str]:
        """Those that agents of the tenant have stored within the last day."""
        ...

    async def forget_old(self) -> None:
        """Lets go of what was stored longer ago; the values themselves stay."""
        ...


class PostgresAgentValues:
    def __init__(self, claims: Values, pool: Pool, keep_s: float = KEPT_S) -> None:
        self._claims = claims
        self._pool = pool
        self._keep_s = keep_s

    async def put(self, tenant_id: str, value: bytes) -> str:
        """
        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        try:
            digest = await self._claims.put(value)
            async with self._pool.connection() as connection:
                await connection.execute(PUT, {"tenant": tenant_id, "digest": digest})
        except (StoreUnavailable, OperationalError) as error:
            raise Unavailable("values cannot be stored now: PostgreSQL does not answer") from error
        return digest

    async def owned(self, tenant_id: str, digests: Collection[str]) -> set[str]:
        found = await rows(self._pool, OWNED, {"tenant": tenant_id, "digests": list(digests)})
        return {digest for (digest,) in found}

    async def forget_old(self) -> None:
        """Raises OperationalError: PostgreSQL does not answer."""
        while await self._forgotten() == FORGET_AT_ONCE:
            pass

    async def _forgotten(self) -> int:
        async with self._pool.connection() as connection:
            return (await connection.execute(FORGET, {"keep": self._keep_s, "most": FORGET_AT_ONCE})).rowcount
