"""What a task adds to its session. A session is the sum over its tasks' rows, so a changed row adds the difference."""

from datetime import datetime

from msgspec import Struct

from taskloom.views.task_executions.row import Row


class SessionKey(Struct, frozen=True, order=True, array_like=True):
    tenant_id: str
    session_id: str


class Share(Struct):
    """Numbers are sums, ``created_at`` with ``user_id`` is the smallest, the other times the largest of all tasks."""

    user_id: str
    created_at: datetime
    updated_at: datetime
    last_completed_at: datetime | None = None
    task_count: int = 0
    successful_tasks: int = 0
    failed_tasks: int = 0
    cancelled_tasks: int = 0
    tokens_used: int = 0
    cost_usd: float = 0.0

    def add(self, other: "Share") -> None:
        if (other.created_at, other.user_id) < (self.created_at, self.user_id):
            self.created_at, self.user_id = other.created_at, other.user_id
        self.updated_at = max(self.updated_at, other.updated_at)
        if other.last_completed_at is not None:
            self.last_completed_at = max(self.last_completed_at or other.last_completed_at, other.last_completed_at)
        self.task_count += other.task_count
        self.successful_tasks += other.successful_tasks
        self.failed_tasks += other.failed_tasks
        self.cancelled_tasks += other.cancelled_tasks
        self.tokens_used += other.tokens_used
        self.cost_usd += other.cost_usd


def key_of(row: Row) -> SessionKey:
    return SessionKey(row.tenant_id, row.session_id)


def share(row: Row, before: Row | None = None) -> Share:
    """What ``row`` adds to its session beyond what ``before``, the same task's earlier row, added."""
    added = Share(row.user_id, row.created_at, row.updated_at or row.created_at, row.completed_at)
    _count(added, row, 1)
    if before is not None:
        _count(added, before, -1)
    return added


def takes_back(row: Row, before: Row | None) -> bool:
    """Whether ``row`` is less to its session than ``before`` was: it has begun anew, or was deleted."""
    if before is None:
        return row.deleted_at is not None
    return before.deleted_at is None and (
        row.deleted_at is not None or (before.completed_at is not None and row.completed_at != before.completed_at)
    )


def _count(added: Share, row: Row, sign: int) -> None:
    """Adds the numbers of a task, or takes them away; a deleted one has none."""
    if row.deleted_at is not None:
        return
    added.task_count += sign
    added.tokens_used += sign * (row.input_tokens + row.output_tokens)
    added.cost_usd += sign * row.cost_usd
    if row.completed_at is None:
        return
    if row.status == "COMPLETED":
        added.successful_tasks += sign
    elif row.status == "CANCELLED":
        added.cancelled_tasks += sign
    else:
        added.failed_tasks += sign
