"""Large results of agents: stored as claims, and written down as their tenant's, so that a report may refer to them."""

from collections.abc import Collection
from typing import Final, LiteralString, Protocol

from psycopg import OperationalError

from services.gateway.problems import Unavailable
from services.gateway.readside import Values
from taskloom.store.errors import StoreUnavailable
from taskloom.views.reading import Pool, rows

PUT: Final[LiteralString] = "INSERT INTO agent_values VALUES (%(tenant)s, %(digest)s) ON CONFLICT DO NOTHING"
OWNED: Final[LiteralString] = """
SELECT digest FROM agent_values WHERE tenant_id = %(tenant)s AND digest = ANY(%(digests)s)
"""


class AgentValues(Protocol):
    async def put(self, tenant_id: str, value: bytes) -> str:
        """Stores the bytes of a value's JSON; its SHA-256 in hex."""
        ...

    async def owned(self, tenant_id: str, digests: Collection[str]) -> set[str]:
        """Those that agents of the tenant have stored."""
        ...


class PostgresAgentValues:
    def __init__(self, claims: Values, pool: Pool) -> None:
        self._claims = claims
        self._pool = pool

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
