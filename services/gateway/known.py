"""Which kinds and queues a tenant may name, and inputs of kinds: the built-in ones and what executors and the tenant's
own agents announce, looked up every few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from msgspec import structs

from taskloom.domain.task.submission import BUILT_IN_KINDS, BUILT_IN_QUEUES
from taskloom.kinds.inputs import INPUTS
from taskloom.kinds.offers import Offer
from taskloom.telemetry import get_logger

_log = get_logger(__name__)


def recordable(offer: Offer) -> Offer:
    """The same and every built-in kind, for what is only to be recorded, whether an executor runs it or none."""
    return structs.replace(offer, kinds=offer.kinds | INPUTS.keys())


class KnownThings:
    """The last answer of ``look``; renewed beside the requests, and again before something is refused as unknown."""

    def __init__(self, look: Callable[[], Awaitable[Offer]], *, every_s: float = 3.0) -> None:
        self._look = look
        self._every_s = every_s
        self._looked_at = float("-inf")
        self._turn = asyncio.Lock()
        self._now = _with_built_in(Offer())

    def now(self, tenant_id: str) -> Offer:
        """What this tenant may name."""
        return self._now.of(tenant_id)

    async def run(self, stopping: asyncio.Event) -> None:
        """Renews until ``stopping``."""
        while not stopping.is_set():
            await self._renew()
            try:
                async with asyncio.timeout(self._every_s):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def renewed(self, tenant_id: str) -> Offer:
        """An answer from after this call: an executor may have registered just now. Calls that come meanwhile share the
        next look, so however many are refused, one look at a time is under way."""
        asked_at = time.monotonic()
        async with self._turn:
            if self._looked_at < asked_at:
                await self._renew()
        return self.now(tenant_id)

    async def _renew(self) -> None:
        self._looked_at = time.monotonic()
        try:
            found = await self._look()
        except Exception as fault:  # noqa: BLE001 - submissions must not depend on the read side
            _log.warning("known kinds not renewed", error=str(fault))
        else:
            self._now = _with_built_in(found)


def _with_built_in(offer: Offer) -> Offer:
    tenants = {tenant_id: _with_built_in(own) for tenant_id, own in offer.tenants.items()}
    return Offer(offer.kinds | BUILT_IN_KINDS, offer.queues | BUILT_IN_QUEUES, offer.schemas, tenants)
