"""The scheduler in numbers, for metrics: what waits behind which gate, and how far limits are used."""

from collections import Counter
from datetime import datetime
from typing import Final

from msgspec import Struct

from taskloom.domain.scheduling.leases import Limit
from taskloom.domain.scheduling.lines import Line
from taskloom.domain.scheduling.scheduler import Scheduler

GATES: Final = (
    *("nobody", "slot", "resources", "breaker", "quarantine"),
    *("parallel", "rate", "concurrency", "budget", "affinity", "turn"),
)
"""``nobody``: no executor has what the task needs. ``turn``: nothing but those before it, or the next round."""


class Survey(Struct, frozen=True):
    """``waiting``: tasks by gate, one gate each. ``parallel``: live attempts of queues with a limit. ``tokens``: starts
    that rate limits allow now, by (``queue`` or ``kind``, its name)."""

    waiting: dict[str, int]
    keys_held: int
    parallel: dict[str, int]
    tokens: dict[tuple[str, str], float]
    breakers_open: int
    quarantined: int
    homes: int


def survey(scheduler: Scheduler, now: datetime) -> Survey:
    """Costs a look at each line and each lane that waits beside its line, not at each task."""
    at, pool, policy = now.timestamp(), scheduler.pool, scheduler.policy
    waiting: Counter[str] = Counter(dict.fromkeys(GATES, 0))
    for line in scheduler.ready.lines():
        beside = scheduler.ready.beside(line)
        waiting.update(beside)
        waiting[_gate(line, scheduler, at)] += line.size - sum(beside.values())
    buckets = [("queue", name, bucket) for name, bucket in scheduler.queue_buckets.items()]
    buckets += [("kind", name, bucket) for name, bucket in scheduler.kind_buckets.items()]
    return Survey(
        waiting=dict(waiting),
        keys_held=scheduler.leases.limits_held("key"),
        parallel={name: scheduler.leases.count(Limit("queue", "", name)) for name in policy.queue_parallel},
        tokens={(what, name): bucket.tokens_at(at, pool.part) for what, name, bucket in buckets},
        breakers_open=len(pool.health.barred),
        quarantined=sum(each.held for each in pool.health.quarantines.values()),
        homes=len(scheduler.homes),
    )


def _gate(line: Line, scheduler: Scheduler, at: float) -> str:
    """What holds the first of a line, and with it the others."""
    requirement, pool = line.requirement, scheduler.pool
    matching = pool.matching(requirement)
    if not matching:
        return "nobody"
    if scheduler.queue_is_full(requirement.queue):
        return "parallel"
    trusted = [each for each in matching if not pool.health.bars(each.offer.executor_id, requirement.kind)]
    if not trusted:
        known = [pool.health.quarantine(each.offer.executor_id) for each in matching]
        return "quarantine" if all(known) else "breaker"
    if not any(each.has_room for each in trusted):
        return "slot"
    if not any(each.has_room and pool.open_for(each, requirement) for each in trusted):
        return "resources"
    return "rate" if scheduler.rate_opens_at(requirement, at) > at else "turn"
