"""What executors announced within the last hour: the kinds and queues that a submission by Kafka may name.

Longer than the scheduler remembers an executor, so that nothing is refused while the only one for a queue restarts; as
long as the gateway does, so that both doors take the same.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from taskloom.kinds.offers import Offer, offer_of
from taskloom.wire.messages import ExecutorHeartbeat

KEPT: Final = timedelta(hours=1)
LOOK_EVERY: Final = timedelta(minutes=1)

utc_now: Callable[[], datetime] = partial(datetime.now, UTC)


class Announced:
    """Follows heartbeats; what a tenant may name is ready-made, since each submission looks."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._heard: dict[str, ExecutorHeartbeat] = {}
        self._look_at = datetime.min.replace(tzinfo=UTC)
        self._offer = Offer()

    def of(self, tenant_id: str) -> Offer:
        """What the installation's executors and the tenant's agents offer."""
        return self._offer.of(tenant_id)

    def hear(self, message: ExecutorHeartbeat) -> None:
        """Notes what an executor offers, also one that says good-bye; forgets those not heard for an hour."""
        now, known = self._clock(), self._heard.get(message.executor_id)
        self._heard[message.executor_id] = message
        changed = known is None or _offer(known) != _offer(message)
        if now >= self._look_at or (changed and not message.tenant_id):
            self._look_at = now + LOOK_EVERY
            self._renew(now - KEPT)
        elif changed:  # a tenant whose agents change all the time is work for its own part alone
            own = [heard for heard in self._heard.values() if heard.tenant_id == message.tenant_id]
            self._offer = self._offer.renewed(message.tenant_id, own, now)

    def _renew(self, oldest: datetime) -> None:
        self._heard = {name: heard for name, heard in self._heard.items() if heard.at > oldest}
        self._offer = offer_of(self._heard.values(), self._clock())


def _offer(message: ExecutorHeartbeat) -> tuple[Any, ...]:
    return message.kinds, message.queues, message.schemas, message.status, message.tenant_id
