"""Which kinds and queues there are, and inputs of kinds: the built-in ones and what executors announce, looked up every
few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct, structs

from taskloom.domain.task.submission import BUILT_IN_KINDS, BUILT_IN_QUEUES
from taskloom.kinds.inputs import INPUTS
from taskloom.kinds.schemas import Schemas
from taskloom.telemetry import get_logger

_log = get_logger(__name__)


class Known(Struct, frozen=True):
    kinds: frozenset[str] = BUILT_IN_KINDS
    queues: frozenset[str] = BUILT_IN_QUEUES
    schemas: Schemas = Schemas()

    def with_built_in(self) -> "Known":
        """The same and every built-in kind, for what is only to be recorded, whether an executor runs it or none."""
        return structs.replace(self, kinds=self.kinds | INPUTS.keys())


class KnownThings:
    """The last answer of ``look``; renewed beside the requests, and again before something is refused as unknown."""

    def __init__(self, look: Callable[[], Awaitable[Known]], *, every_s: float = 3.0) -> None:
        self._look = look
        self._every_s = every_s
        self._looked_at = float("-inf")
        self._turn = asyncio.Lock()
        self.now = Known()

    async def run(self, stopping: asyncio.Event) -> None:
        """Renews until ``stopping``."""
        while not stopping.is_set():
            await self._renew()
            try:
                async with asyncio.timeout(self._every_s):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def renewed(self) -> Known:
        """An answer from after this call: an executor may have registered just now. Calls that come meanwhile share the
        next look, so however many are refused, one look at a time is under way."""
        asked_at = time.monotonic()
        async with self._turn:
            if self._looked_at < asked_at:
                await self._renew()
        return self.now

    async def _renew(self) -> None:
        self._looked_at = time.monotonic()
        try:
            found = await self._look()
        except Exception as fault:  # noqa: BLE001 - submissions must not depend on the read side
            _log.warning("known kinds not renewed", error=str(fault))
        else:
            self.now = Known(found.kinds | BUILT_IN_KINDS, found.queues | BUILT_IN_QUEUES, found.schemas)
