"""Large values, stored once by their hash, and followed from the references that stand for them (``wire/claims.py``).

There is no list and no search: a value is only reached through the task that refers to it, which is where its tenant is
checked.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Any, Final

import msgspec
from psycopg import OperationalError

from taskloom.store import sql
from taskloom.store.connect import Pool, reader_pool
from taskloom.store.errors import ClaimCorrupt, ClaimMissing, StoreUnavailable
from taskloom.store.mapper import recorded_mapper
from taskloom.wire.claims import claimed_digest

CACHE_BYTES: Final = 32 * 1024 * 1024
STATEMENT_TIMEOUT_S: Final = 30.0


class ClaimStore:
    """Values by digest, with the last ``cache_bytes`` of them in memory: a value never changes under its digest.

    Every method raises ``StoreUnavailable`` when no connection came free within 5 s or the database went away.
    """

    def __init__(self, dsn: str, *, cache_bytes: int = CACHE_BYTES, max_connections: int = 2) -> None:
        self._mapper = recorded_mapper()
        self._cache = BytesCache(cache_bytes)
        self._pool: Pool = reader_pool(
            dsn, application="taskloom-claims", max_size=max_connections, statement_timeout_s=STATEMENT_TIMEOUT_S
        )

    async def open(self, *, timeout_s: float = 30.0) -> None:
        """Connects.

        Raises:
            StoreUnavailable: the database did not answer within ``timeout_s``.
        """
        try:
            await self._pool.open(wait=True, timeout=timeout_s)
        except OperationalError as error:
            await self.close()
            raise StoreUnavailable(f"the claims table did not answer within {timeout_s:g} s: {error}") from error

    async def close(self) -> None:
        await self._pool.close()

    async def __aenter__(self) -> "ClaimStore":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def put(self, value: bytes) -> str:
        """Stores the bytes of a value's JSON and returns their SHA-256 in hex. Stored again, nothing changes."""
        digest = sha256(value).digest()
        if digest.hex() not in self._cache:
            await self._execute(sql.INSERT_CLAIM, (digest, self._mapper.pack(value)))
            self._cache.add(digest.hex(), value)
        return digest.hex()

    async def get(self, digest: str) -> bytes:
        """The stored bytes.

        Raises:
            ClaimMissing: none are stored under this digest, or it is no SHA-256 in hex.
            ClaimCorrupt: the stored bytes have another hash.
        """
        cached = self._cache.get(digest)
        if cached is not None:
            return cached
        try:
            rows = await self._execute(sql.SELECT_CLAIM, (bytes.fromhex(digest),))
        except ValueError as error:
            raise ClaimMissing(digest) from error
        if not rows:
            raise ClaimMissing(digest)
        value = self._mapper.unpack(rows[0][0])
        if sha256(value).hexdigest() != digest:
            raise ClaimCorrupt(digest)
        self._cache.add(digest, value)
        return value

    async def resolve(self, value: Any) -> Any:
        """The value itself, or, when it is a claim, the value that it stands for. Raises as ``get`` does."""
        digest = claimed_digest(value)
        return value if digest is None else msgspec.json.decode(await self.get(digest))

    async def _execute(self, query: str, parameters: tuple[bytes, ...]) -> list[tuple[Any, ...]]:
        try:
            async with self._pool.connection() as connection:
                cursor = connection.cursor(binary=True)
                await cursor.execute(query, parameters, prepare=True)
                return await cursor.fetchall() if cursor.description else []
        except OperationalError as error:
            raise StoreUnavailable(f"the claims table cannot be used now: {error}") from error


class BytesCache:
    """Least recently used values go first; one that is larger than the whole cache is not kept."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self.size_bytes = 0

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> bytes | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def add(self, key: str, value: bytes) -> None:
        if key in self._values or len(value) > self._limit_bytes:
            return
        self._values[key] = value
        self.size_bytes += len(value)
        while self.size_bytes > self._limit_bytes:
            _, dropped = self._values.popitem(last=False)
            self.size_bytes -= len(dropped)
