"""Statistics of queues, counted from the tenant's task rows: open ones by their own index, recent ones by time."""

from datetime import datetime
from typing import Any, Final, LiteralString

from msgspec import Struct, field

from taskloom.views.reading import Pool, rows

RECENT_S: Final = 300
"""Waits and throughput look this far back."""

MAX_RECENT: Final = 20_000
"""Waits are taken from at most this many of the newest tasks, so that the query stays short in a busy system."""

DEPTHS: Final[LiteralString] = """
SELECT
    queue, state, priority, count(*), min(greatest(queued_at, created_at)) FILTER (WHERE state = 'ready'),
    count(*) FILTER (WHERE deadline < now())
FROM task_executions
WHERE tenant_id = %(tenant)s AND completed_at IS NULL AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
GROUP BY queue, state, priority
"""

RECENT: Final[LiteralString] = """
SELECT
    queue,
    count(*) FILTER (WHERE started_at IS NOT NULL),
    count(*) FILTER (WHERE completed_at IS NOT NULL AND completed_at > now() - make_interval(secs => %(recent_s)s)),
    count(*) FILTER (WHERE failed_at > now() - make_interval(secs => %(recent_s)s) AND status IN ('FAILED', 'TIMEOUT')),
    percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (
        ORDER BY extract(epoch FROM started_at - greatest(created_at, run_at))
    ) FILTER (WHERE started_at IS NOT NULL),
    min(created_at)
FROM (
    SELECT queue, status, created_at, run_at, started_at, completed_at, failed_at FROM task_executions
    WHERE tenant_id = %(tenant)s AND created_at > now() - make_interval(secs => %(recent_s)s)
        AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
    ORDER BY created_at DESC LIMIT %(max_recent)s
) AS recent
GROUP BY queue
"""


PRIORITY_WORDS: Final = {1: "LOW", 2: "NORMAL", 3: "HIGH", 4: "URGENT", 5: "CRITICAL"}
RUNNING_STATES: Final = ("running", "pausing", "cancelling")


class WaitPercentiles(Struct, frozen=True):
    """From submission (or ``run_at``) to the first start, in seconds."""

    p50_s: float
    p90_s: float
    p99_s: float


class QueueStats(Struct):
    """``depth`` counts tasks that wait for an executor, by priority too; ``by_state`` all open ones. ``running`` ones
    have an attempt under way, ``pending`` are the other open ones, ``overdue`` are open past their deadline. ``waits``,
    ``started``, ``completed`` (ended, in whatever way) and ``failed`` are of tasks submitted in the last five
    minutes."""

    name: str
    depth: int = 0
    open: int = 0
    by_state: dict[str, int] = field(default_factory=dict)
    by_priority: dict[int, int] = field(default_factory=dict)
    priority_distribution: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PRIORITY_WORDS.values(), 0))
    pending: int = 0
    running: int = 0
    overdue: int = 0
    oldest_waiting_since: datetime | None = None
    started: int = 0
    completed: int = 0
    failed: int = 0
    completed_per_s: float = 0.0
    waits: WaitPercentiles | None = None


async def list_queues(pool: Pool, tenant_id: str) -> list[QueueStats]:
    """Queues in which the tenant has open or recent tasks, by name."""
    return sorted((await _stats(pool, tenant_id, None)).values(), key=lambda stats: stats.name)


async def get(pool: Pool, tenant_id: str, queue: str) -> QueueStats | None:
    """One queue, or None when the tenant has no open or recent task in it."""
    return (await _stats(pool, tenant_id, queue)).get(queue)


async def _stats(pool: Pool, tenant_id: str, queue: str | None) -> dict[str, QueueStats]:
    values = {"tenant": tenant_id, "queue": queue, "recent_s": RECENT_S, "max_recent": MAX_RECENT}
    found: dict[str, QueueStats] = {}
    for name, *open_tasks in await rows(pool, DEPTHS, values):
        add_depth(found.setdefault(name, QueueStats(name)), *open_tasks)
    for name, *recent in await rows(pool, RECENT, values):
        _add_recent(found.setdefault(name, QueueStats(name)), *recent)
    return found


def add_depth(stats: QueueStats, state: str, priority: int, tasks: int, oldest: datetime | None, overdue: int) -> None:
    """Adds a number of open tasks that share state and priority; ``oldest`` is of those that wait."""
    stats.open += tasks
    stats.overdue += overdue
    if state in RUNNING_STATES:
        stats.running += tasks
    else:
        stats.pending += tasks
    stats.by_state[state] = stats.by_state.get(state, 0) + tasks
    if state == "ready":
        stats.depth += tasks
        stats.by_priority[priority] = stats.by_priority.get(priority, 0) + tasks
        stats.priority_distribution[PRIORITY_WORDS[priority]] += tasks
        if oldest is not None:
            stats.oldest_waiting_since = min(stats.oldest_waiting_since or oldest, oldest)


def _add_recent(stats: QueueStats, started: int, completed: int, failed: int, waits: Any, since: datetime) -> None:
    stats.started, stats.completed, stats.failed = started, completed, failed
    span_s = max(1.0, (datetime.now(since.tzinfo) - since).total_seconds())
    stats.completed_per_s = round(completed / min(span_s, RECENT_S), 3)
    if waits is not None:
        stats.waits = WaitPercentiles(*(round(float(wait), 6) for wait in waits))
