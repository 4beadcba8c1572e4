"""Large values on their way in and out: claims followed before an attempt, made of large results after it."""

import asyncio
from typing import Any, Final, Protocol

import msgspec

from taskloom import telemetry
from taskloom.kinds.api import Outcome, TaskError
from taskloom.store.claims import ClaimStore
from taskloom.store.errors import ClaimCorrupt, ClaimMissing, StoreUnavailable
from taskloom.wire.claims import CLAIM_OVER_BYTES, CLAIM_TEXT, MAX_VALUE_BYTES, claim, claimed_digest
from taskloom.wire.claims import is_claim as looks_like_claim

RETRY_S: Final = 1.0

_encoder = msgspec.json.Encoder()
log = telemetry.get_logger(__name__)


class Values(Protocol):
    """The part of ``taskloom.store.claims.ClaimStore`` that is used here."""

    async def put(self, value: bytes) -> str: ...
    async def resolve(self, value: Any) -> Any: ...


class LazyClaims:
    """A ``ClaimStore`` that connects when the first large value comes by: most executors never see one."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._store: ClaimStore | None = None
        self._opening = asyncio.Lock()

    async def put(self, value: bytes) -> str:
        return await (await self._opened()).put(value)

    async def resolve(self, value: Any) -> Any:
        return await (await self._opened()).resolve(value)

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()

    async def _opened(self) -> ClaimStore:
        async with self._opening:
            if self._store is None:
                store = ClaimStore(self._dsn)
                await store.open(timeout_s=10.0)
                self._store = store
        return self._store


def is_claim(value: dict[str, Any]) -> bool:
    return bool(value) and claimed_digest(value) is not None


async def follow(values: Values, value: dict[str, Any], field: str) -> dict[str, Any]:
    """The object that a claim stands for, or the value itself.

    Raises:
        TaskError: it is missing or damaged (not retryable), or the store is away (retryable).
    """
    if not is_claim(value):
        return value
    try:
        found = await values.resolve(value)
    except (ClaimMissing, ClaimCorrupt) as error:
        raise TaskError("claim_lost", f"{field}: {error}", retryable=False) from error
    except StoreUnavailable as error:
        raise TaskError("claim_unavailable", f"{field}: {error}", fault=True) from error
    if not isinstance(found, dict):
        raise TaskError("claim_lost", f"{field}: the stored value is not an object", retryable=False)
    return found


async def shrink(values: Values, outcome: Outcome) -> Outcome:
    """The outcome with every value over 64 KiB replaced by a claim. A large ``result`` becomes the claim's JSON text.
    A value that only looks like a claim is stored too: its claim, followed later, gives that value back.

    Waits for the store for as long as it is away: the result exists, and is not thrown away.

    Raises:
        TaskError: a value is over 16 MiB (``result_too_large``, not retryable).
    """
    result, response = outcome.result, outcome.response
    encoded = _encoder.encode(result)
    if len(encoded) > CLAIM_OVER_BYTES // 2 or result.startswith(CLAIM_TEXT):
        result = _encoder.encode(await _store(values, encoded, "result")).decode()
    encoded = _encoder.encode(response)
    if len(encoded) > CLAIM_OVER_BYTES // 2 or looks_like_claim(response):
        response = await _store(values, encoded, "response")
    return Outcome(result, response, outcome.exit_code, outcome.usage)


async def _store(values: Values, encoded: bytes, field: str) -> dict[str, Any]:
    if len(encoded) > MAX_VALUE_BYTES:
        message = (
            f"the {field} has {len(encoded)} bytes as JSON, {MAX_VALUE_BYTES} are allowed; write it as output instead"
        )
        raise TaskError("result_too_large", message, retryable=False)
    while True:
        try:
            return claim(await values.put(encoded), len(encoded))
        except StoreUnavailable as error:
            log.warning("a large result waits for the store", bytes=len(encoded), reason=str(error))
            await asyncio.sleep(RETRY_S)
