"""Heartbeats of an agent as they go to Kafka: its own words, with what is not for it to say by the gateway."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.gateway.links.door import Guest
from taskloom.domain.task.submission import WEBHOOK_KIND, WEBHOOK_QUEUE
from taskloom.kinds.plain_schemas import plain
from taskloom.wire.messages import ExecutorHeartbeat


class Stamp:
    """Of one link. Who the agent is, when it is, and what it may is not taken from what it says."""

    def __init__(self, incarnation: str, gateway: str, epoch: int) -> None:
        self._incarnation = incarnation
        self._gateway = gateway
        self._epoch = epoch
        self._schemas: tuple[dict[str, Any], dict[str, dict[str, Any]]] = ({}, {})

    def on(self, beat: ExecutorHeartbeat, guest: Guest, skew: timedelta) -> ExecutorHeartbeat:
        """``skew``: how far our clock is ahead of the agent's."""
        now, since = datetime.now(UTC), beat.started_at
        return msgspec.structs.replace(
            beat,
            executor_id=guest.executor_id,
            incarnation=self._incarnation,
            status="draining" if beat.status == "ready" and guest.draining else beat.status,
            at=now,
            started_at=None if since is None else min(now, since + skew),
            schemas=self._plain(beat),
            # Deliveries of webhooks are the installation's work, not a machine's of the tenant.
            kinds=tuple(kind for kind in beat.kinds if kind != WEBHOOK_KIND),
            queues=tuple(queue for queue in beat.queues if queue != WEBHOOK_QUEUE),
            tenant_id=guest.tenant_id,
            epoch=self._epoch,
            gateway=self._gateway,
        )

    def _plain(self, beat: ExecutorHeartbeat) -> dict[str, dict[str, Any]]:
        """The same in most beats, so they are not worked out again."""
        if beat.schemas != self._schemas[0]:
            self._schemas = beat.schemas, plain(beat.schemas)
        return {kind: schema for kind, schema in self._schemas[1].items() if kind in beat.kinds}
