"""What executors offer, as a tenant may name it: what the installation's run, and its own agents beside them."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct, structs

from taskloom.kinds.schemas import Schemas
from taskloom.wire.messages import ExecutorHeartbeat


class Offer(Struct, frozen=True):
    """``tenants``: the same for tenants that have agents."""

    kinds: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    schemas: Schemas = Schemas()
    tenants: Mapping[str, "Offer"] = {}

    def of(self, tenant_id: str) -> "Offer":
        """What this tenant may name; another's agents are not among it."""
        return self.tenants.get(tenant_id, self)

    def renewed(self, tenant_id: str, agents: Iterable[ExecutorHeartbeat], now: datetime) -> "Offer":
        """The same with what these, all agents of this tenant, offer by now; the rest is not worked out again."""
        return structs.replace(self, tenants={**self.tenants, tenant_id: _offer(list(agents), now, self)})


def offer_of(heard: Iterable[ExecutorHeartbeat], now: datetime) -> Offer:
    """What all of these offer."""
    by_tenant: dict[str, list[ExecutorHeartbeat]] = {}
    for beat in heard:
        by_tenant.setdefault(beat.tenant_id, []).append(beat)
    common = _offer(by_tenant.pop("", []), now, Offer())
    return Offer(
        *(common.kinds, common.queues, common.schemas),
        tenants={tenant_id: _offer(beats, now, common) for tenant_id, beats in by_tenant.items()},
    )


def _offer(heard: list[ExecutorHeartbeat], now: datetime, beside: Offer) -> Offer:
    return Offer(
        beside.kinds.union(*(beat.kinds for beat in heard)),
        beside.queues.union(*(beat.queues for beat in heard)),
        Schemas(heard, now, beside.schemas),
    )
