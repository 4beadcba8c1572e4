"""Secrets that all gateways of a system share: made by the first that needs one, in PostgreSQL for good."""

import secrets

from taskloom.views.reading import Pool, row

_ADD = "INSERT INTO gateway_secrets (name, secret) VALUES (%(name)s, %(secret)s) ON CONFLICT (name) DO NOTHING"
_FIND = "SELECT secret FROM gateway_secrets WHERE name = %(name)s"


async def shared_secret(pool: Pool, name: str, length: int) -> bytes:
    """``length`` random bytes, the same for every gateway that asks under this name, now or later.

    The pool must not be that of the gateway's own tables: its commits do not wait for the disk.

    Raises:
        psycopg.OperationalError, TooSlow: PostgreSQL is away or slow.
    """
    found = await row(pool, _FIND, {"name": name})
    if found is None:
        await _add(pool, name, secrets.token_bytes(length))
        found = await row(pool, _FIND, {"name": name})
    assert found is not None
    return bytes(found[0])


async def _add(pool: Pool, name: str, secret: bytes) -> None:
    async with pool.connection() as connection:
        await connection.execute(_ADD, {"name": name, "secret": secret})
