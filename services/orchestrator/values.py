"""Large results of steps in memory, fetched between two rounds, so that decisions on runs never wait for the store."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

import msgspec
import structlog
from msgspec import UNSET, Struct, UnsetType

from services.orchestrator.patience import patiently
from services.orchestrator.ports import Store
from taskloom.domain.task.commands import ReportCompleted
from taskloom.domain.workflow.expressions import BadExpression
from taskloom.domain.workflow.scope import MAX_OPENED_BYTES
from taskloom.domain.workflow.values import Absent, Ref, ref_of
from taskloom.domain.workflow.wanted import parent_of
from taskloom.store.claims import BytesCache
from taskloom.wire.claims import CLAIM_TEXT
from taskloom.wire.commands import Envelope

CACHE_BYTES: Final = 2 * MAX_OPENED_BYTES
"""Values kept as their JSON, least recently used ones go first. One decision uses at most half of it."""

MAX_DECODED: Final = 4
MAX_LOST: Final = 1_000
MAX_FRESH: Final = 10_000

_log = structlog.get_logger(__name__)


class _Result(Struct):
    variables: dict[str, Any] | UnsetType = UNSET


_result = msgspec.json.Decoder(_Result)


class RunValues:
    """``domain.workflow.values.Values`` over the claims of all ``stores``. What is missing is fetched by ``fetch``."""

    def __init__(self, stores: Sequence[Store] = ()) -> None:
        self._stores = stores
        self._cache = BytesCache(CACHE_BYTES)
        self._decoded: dict[str, Any] = {}
        self._fresh: dict[str, dict[str, Any]] = {}
        self._missing: dict[str, int] = {}
        self._waiting: dict[str, None] = {}
        self._lost: dict[str, None] = {}

    @property
    def missing(self) -> bool:
        return bool(self._missing)

    def get(self, ref: Ref) -> Any:
        digest = ref.digest
        if digest in self._decoded:
            return self._decoded[digest]
        raw = self._cache.get(digest)
        if raw is None:
            self._raise_if_lost(ref)
            self._missing[digest] = ref.bytes
            raise Absent(ref)
        value = self._decoded[digest] = msgspec.json.decode(raw)
        if len(self._decoded) > MAX_DECODED:
            del self._decoded[next(iter(self._decoded))]
        return value

    def variables(self, ref: Ref) -> dict[str, Any]:
        if ref.digest not in self._fresh:
            self._raise_if_lost(ref)
        return self._fresh.get(ref.digest, {})

    def add(self, digest: str, raw: bytes) -> None:
        """A value that comes in, or that the orchestrator stores itself."""
        self._cache.add(digest, raw)
        self._fresh[digest] = _variables_of(raw)
        while len(self._fresh) > MAX_FRESH:
            del self._fresh[next(iter(self._fresh))]

    def note_waiting(self, task_id: str) -> None:
        """The run, or one decided on after it, waits for what is missing."""
        self._waiting[task_id] = None

    async def fetch(self, arriving: Iterable[Envelope] = ()) -> list[str]:
        """Brings in what decisions asked for, and the results that the reports of steps refer to; gives who waited.

        Waits while the database is away. A value that is stored nowhere is remembered as lost.
        """
        wanted = dict(self._missing)
        for envelope in arriving:
            command = envelope.command
            if type(command) is ReportCompleted and parent_of(envelope.task_id) is not None:
                ref = ref_of(large_result(command.result if command.response is None else command.response))
                if ref is not None and ref.digest not in self._fresh:
                    wanted[ref.digest] = ref.bytes
        waiting = list(self._waiting)
        self._missing.clear()
        self._waiting.clear()
        part: list[str] = []
        room = MAX_OPENED_BYTES
        for digest, size in wanted.items():
            if part and size > room:
                await self._fetch(part)
                part, room = [], MAX_OPENED_BYTES
            part.append(digest)
            room -= size
        if part:
            await self._fetch(part)
        return waiting

    async def _fetch(self, digests: list[str]) -> None:
        found: dict[str, bytes] = {}
        for store in self._stores:
            rest = [digest for digest in digests if digest not in found]
            if rest:
                found |= await patiently("fetch large values", lambda: store.claims(rest))  # noqa: B023 - awaited here
        for digest in digests:
            raw = found.get(digest)
            if raw is not None and await asyncio.to_thread(_hash, raw) == digest:
                self.add(digest, raw)
                continue
            _log.error("a large result is lost", digest=digest, damaged=raw is not None)
            self._lost[digest] = None
            while len(self._lost) > MAX_LOST:
                del self._lost[next(iter(self._lost))]

    def _raise_if_lost(self, ref: Ref) -> None:
        if ref.digest in self._lost:
            raise BadExpression(f"the result {ref.claim} of {ref.bytes} bytes is stored nowhere, or damaged")


def large_result(result: Any) -> Any:
    """The claim that the text of a large result is (``executor/claims.py``); any other result itself."""
    if isinstance(result, str) and result.startswith(CLAIM_TEXT):
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(result)
    return result


def _hash(raw: bytes) -> str:
    return sha256(raw).hexdigest()


def _variables_of(raw: bytes) -> dict[str, Any]:
    try:
        variables = _result.decode(raw).variables
    except (msgspec.ValidationError, msgspec.DecodeError):
        return {}
    return {} if variables is UNSET else variables
