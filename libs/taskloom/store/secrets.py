"""The table of sealed secrets."""

import asyncio
from datetime import datetime
from typing import Any, Final, LiteralString

from msgspec import Struct
from psycopg import OperationalError

from taskloom.store.connect import Pool, reader_pool
from taskloom.store.errors import StoreUnavailable

STATEMENT_TIMEOUT_S: Final = 5.0
PUT: Final[LiteralString] = """
INSERT INTO secrets AS s (tenant_id, name, sealed) VALUES (%(tenant)s, %(name)s, %(sealed)s)
ON CONFLICT (tenant_id, name) DO UPDATE SET sealed = excluded.sealed, updated_at = now()
RETURNING name, created_at, updated_at
"""
REMOVE: Final[LiteralString] = "DELETE FROM secrets WHERE tenant_id = %(tenant)s AND name = %(name)s RETURNING name"
COUNT: Final[LiteralString] = "SELECT count(*) FROM secrets WHERE tenant_id = %(tenant)s"
PAGE: Final[LiteralString] = """
SELECT name, created_at, updated_at FROM secrets WHERE tenant_id = %(tenant)s AND name > %(after)s
ORDER BY name LIMIT %(limit)s
"""
FIND: Final[LiteralString] = """
SELECT name, sealed FROM secrets WHERE tenant_id = %(tenant)s AND name = ANY(%(names)s)
"""


class SecretRow(Struct, frozen=True):
    """All that is ever told of a secret."""

    name: str
    created_at: datetime
    updated_at: datetime


class SecretTable:
    """Connects when it is first used: most installations have no secrets.

    Every method raises ``StoreUnavailable`` when no connection came free within 5 s or the database went away.
    """

    def __init__(self, dsn: str, *, max_connections: int = 2) -> None:
        self._pool: Pool = reader_pool(
            dsn, application="taskloom-secrets", max_size=max_connections, statement_timeout_s=STATEMENT_TIMEOUT_S
        )
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        await self._pool.close()

    async def put(self, tenant_id: str, name: str, sealed: bytes) -> SecretRow:
        return SecretRow(*(await self._rows(PUT, tenant=tenant_id, name=name, sealed=sealed))[0])

    async def remove(self, tenant_id: str, name: str) -> bool:
        """Whether there was one."""
        return bool(await self._rows(REMOVE, tenant=tenant_id, name=name))

    async def page(self, tenant_id: str, after: str, limit: int) -> tuple[list[SecretRow], int]:
        """By name, and how many there are in all."""
        found = await self._rows(PAGE, tenant=tenant_id, after=after, limit=limit)
        total = await self._rows(COUNT, tenant=tenant_id)
        return [SecretRow(*row) for row in found], int(total[0][0])

    async def find(self, tenant_id: str, names: list[str]) -> dict[str, bytes]:
        """Sealed, by name; without those that are not there."""
        return dict(await self._rows(FIND, tenant=tenant_id, names=names))

    async def _rows(self, statement: LiteralString, **values: Any) -> list[tuple[Any, ...]]:
        try:
            async with self._opening:
                await self._pool.open()
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement, values)
                return await cursor.fetchall()
        except OperationalError as error:
            raise StoreUnavailable(f"the secrets table cannot be used now: {error}") from error
