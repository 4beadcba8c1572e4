"""First answers to requests with an Idempotency-Key, in PostgreSQL, where all gateways find them."""

from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from taskloom.views.reading import Pool

# A claim without an answer is taken over once it is old: whoever had it died, or is slow; doing it twice is harmless.
CLAIM: Final = """
INSERT INTO first_answers AS a (scope, body_hash, claim, claimed_at)
VALUES (%(scope)s, %(body)s, %(claim)s, clock_timestamp())
ON CONFLICT (scope) DO UPDATE
SET body_hash = excluded.body_hash, claim = excluded.claim, claimed_at = excluded.claimed_at,
    status = NULL, headers = NULL, body = NULL
WHERE a.claimed_at < clock_timestamp() - make_interval(secs => %(keep)s)
    OR (a.status IS NULL AND a.claimed_at < clock_timestamp() - make_interval(secs => %(lease)s)
        AND a.body_hash = excluded.body_hash)
RETURNING claim
"""

LOOK: Final = "SELECT body_hash, status, headers, body FROM first_answers WHERE scope = %(scope)s"

KEEP: Final = """
UPDATE first_answers SET status = %(status)s, headers = %(headers)s, body = %(answer)s
WHERE scope = %(scope)s AND claim = %(claim)s AND status IS NULL
"""

RELEASE: Final = "DELETE FROM first_answers WHERE scope = %(scope)s AND claim = %(claim)s AND status IS NULL"

# In steps, so that no one waits for a long delete.
FORGET: Final = """
DELETE FROM first_answers WHERE scope IN (
    SELECT scope FROM first_answers WHERE claimed_at < clock_timestamp() - make_interval(secs => %(keep)s)
    ORDER BY claimed_at LIMIT %(most)s
)
"""

FORGET_AT_ONCE: Final = 1000
LEASE_S: Final = 5.0


class Stored(Struct, frozen=True):
    """An answer as it was sent, headers with lower-case names."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Claimed(Struct, frozen=True):
    """Nobody was here before: the request is to be answered, and its answer kept under this claim."""

    claim: UUID


class Busy(Struct, frozen=True):
    """The first request is in work."""


class OtherBody(Struct, frozen=True):
    """The key was used with another body."""


Found = Claimed | Stored | Busy | OtherBody


class AnswerTable(Protocol):
    """Where first answers are kept. ``scope`` and ``body_hash`` have 32 bytes."""

    async def claim(self, scope: bytes, body_hash: bytes, claim: UUID) -> Found: ...

    async def keep(self, scope: bytes, claim: UUID, answer: Stored) -> None: ...

    async def release(self, scope: bytes, claim: UUID) -> None: ...

    async def forget_old(self) -> None: ...


_headers: Final = msgspec.json.Decoder(list[tuple[str, str]])


class PostgresAnswers:
    """``keep_s``: how long an answer is kept after its request came."""

    def __init__(self, pool: Pool, *, keep_s: float, lease_s: float = LEASE_S) -> None:
        self._pool = pool
        self._keep_s = keep_s
        self._lease_s = lease_s

    async def claim(self, scope: bytes, body_hash: bytes, claim: UUID) -> Found:
        """What there is under the scope; nothing, and it is ours, when that is ``Claimed``.

        Raises:
            psycopg.Error: PostgreSQL is away or slow.
        """
        times = {"keep": self._keep_s, "lease": self._lease_s}
        if await self._run(CLAIM, {"scope": scope, "body": body_hash, "claim": claim, **times}):
            return Claimed(claim)
        found = await self._run(LOOK, {"scope": scope})
        if not found:
            return Busy()  # released between the two looks: the next claim gets it
        [(body, status, headers, answer)] = found
        if body != body_hash:
            return OtherBody()
        return Busy() if status is None else Stored(status, _headers.decode(headers), answer)

    async def keep(self, scope: bytes, claim: UUID, answer: Stored) -> None:
        """Keeps the answer, unless the claim was taken over meanwhile: then that one's is kept."""
        values = {"status": answer.status, "headers": msgspec.json.encode(answer.headers), "answer": answer.body}
        await self._run(KEEP, {"scope": scope, "claim": claim, **values})

    async def release(self, scope: bytes, claim: UUID) -> None:
        """Gives up a claim whose request was not carried out: the key is free again."""
        await self._run(RELEASE, {"scope": scope, "claim": claim})

    async def forget_old(self) -> None:
        while await self._rows(FORGET, {"keep": self._keep_s, "most": FORGET_AT_ONCE}) == FORGET_AT_ONCE:
            pass

    async def _run(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def _rows(self, statement: str, values: dict[str, Any]) -> int:
        async with self._pool.connection() as connection:
            return (await connection.execute(statement.encode(), values)).rowcount
