"""Takes the rows of some tasks out of the read tables, or counts them. One transaction a call, which waits for no row
that the projection writes: what that holds just now is left for the next time."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from psycopg import Cursor

from taskloom.domain.task.submission import WEBHOOK_KIND
from taskloom.domain.values import OUTPUT_SEQ_SPAN
from taskloom.retention import sql
from taskloom.retention.report import Found
from taskloom.views.sessions.fold import SessionKey
from taskloom.views.task_executions import write as task_executions
from taskloom.views.task_executions.write import CountKey

PIECES: Final = 5_000
"""Of output in one transaction."""

OWN_PARTITION: Final = -1
"""The counts by status have rows for each partition, which its projection writes. These are nobody else's."""


class Gone(Struct, frozen=True):
    """A row that was taken out, as ``sql.TAKE`` returns it."""

    task_id: str
    tenant_id: str
    session_id: str | None
    kind: str
    status: str
    version: int
    attempt: int
    deleted: bool
    created_at: datetime
    updated_at: datetime
    completed_at: datetime
    tokens: int
    cost_usd: float

    @property
    def counts(self) -> bool:
        """Whether it was part of sums."""
        return not self.deleted and self.kind != WEBHOOK_KIND


def look(
    cursor: Cursor[Any],
    tenant_id: str,
    task_ids: Sequence[str],
    found: Found,
    output_before: datetime | None,
    traces_before: datetime | None,
) -> None:
    """Adds what ``take`` would take out. Output and traces of tasks that ended before these times go by themselves, and
    were counted."""
    found.add(tenant_id, "tasks", len(task_ids))
    for kind, tables in sql.DETAILS.items():
        ids = _ended_since(cursor, task_ids, traces_before) if kind == "traces" else list(task_ids)
        for table in tables:
            found.add(tenant_id, kind, _number(cursor, sql.count_of_tasks(table), {"tasks": ids}))
    look_at_output(cursor, tenant_id, _ended_since(cursor, task_ids, output_before), found)


def _ended_since(cursor: Cursor[Any], task_ids: Sequence[str], since: datetime | None) -> list[str]:
    if since is None:
        return list(task_ids)
    cursor.execute(sql.ENDED_SINCE.encode(), {"tasks": list(task_ids), "since": since})
    return [task_id for (task_id,) in cursor.fetchall()]


def look_at_output(cursor: Cursor[Any], tenant_id: str, task_ids: Sequence[str], found: Found) -> None:
    cursor.execute(sql.COUNT_OUTPUT.encode(), {"tasks": list(task_ids)})
    [(pieces, size)] = cursor.fetchall()
    found.add(tenant_id, "outputs", pieces, size)


def take_output(cursor: Cursor[Any], tenant_id: str, task_ids: Sequence[str], found: Found) -> bool:
    """Takes out some of the output of ended tasks; False when there was none left."""
    values = {"tasks": list(task_ids), "span": OUTPUT_SEQ_SPAN, "limit": PIECES}
    cursor.execute(sql.TAKE_OUTPUT.encode(), values)
    [(pieces, size)] = cursor.fetchall()
    found.add(tenant_id, "outputs", pieces, size)
    return bool(pieces)


def take(cursor: Cursor[Any], tenant_id: str, task_ids: Sequence[str], runs: Sequence[str], found: Found) -> int:
    """Takes out the rows of those of the tasks that have ended, and all that hangs on them. Those of ``runs`` that have
    tasks of steps left are not touched. Returns how many tasks went."""
    cursor.execute(sql.TAKE.encode(), {"tasks": list(task_ids), "runs": list(runs)})
    gone = [Gone(*columns) for columns in cursor.fetchall()]
    if not gone:
        return 0
    ids = [each.task_id for each in gone]
    stones = {"tasks": ids, "tenants": [each.tenant_id for each in gone], "versions": [each.version for each in gone]}
    cursor.execute(sql.SET_STONES.encode(), stones)
    found.add(tenant_id, "tasks", len(gone))
    task_executions.count(cursor, _counts(gone))
    _lessen_sessions(cursor, gone)
    for kind, tables in sql.DETAILS.items():
        for table in tables:
            cursor.execute(sql.of_tasks(table).encode(), {"tasks": ids})
            found.add(tenant_id, kind, cursor.rowcount)
    up_to = [each.attempt * OUTPUT_SEQ_SPAN for each in gone]
    cursor.execute(sql.TAKE_LATE_OUTPUT.encode(), {"tasks": ids, "up_to": up_to})
    return len(gone)


def _counts(gone: Iterable[Gone]) -> dict[CountKey, int]:
    counts: dict[CountKey, int] = {}
    for each in gone:
        if each.counts:
            key = CountKey(each.tenant_id, OWN_PARTITION, each.status)
            counts[key] = counts.get(key, 0) - 1
    return counts


def _lessen_sessions(cursor: Cursor[Any], gone: Iterable[Gone]) -> None:
    """Sessions are sums over the tasks that are there; one without any is no more."""
    of_session: dict[SessionKey, list[Gone]] = {}
    for each in gone:
        if each.counts and each.session_id:
            of_session.setdefault(SessionKey(each.tenant_id, each.session_id), []).append(each)
    if not of_session:
        return
    names = {"tenants": [key.tenant_id for key in of_session], "sessions": [key.session_id for key in of_session]}
    cursor.execute(sql.LOCK_SESSIONS.encode(), names)
    for tenant_id, session_id, removed_at in cursor.fetchall():
        tasks = of_session[SessionKey(tenant_id, session_id)]
        counted = [each for each in tasks if removed_at is None or each.created_at > removed_at]
        if counted:
            values = {"tenant": tenant_id, "session": session_id, "removed": removed_at, **_share(counted)}
            cursor.execute(sql.LESSEN.encode(), values)
            cursor.execute(sql.DROP_EMPTY.encode(), values)


def _share(tasks: Sequence[Gone]) -> dict[str, Any]:
    """What tasks are to their session, in the words of ``views/sessions/fold.py``."""
    statuses = [each.status for each in tasks]
    completed, cancelled = statuses.count("COMPLETED"), statuses.count("CANCELLED")
    return {
        "task_count": len(tasks),
        "successful_tasks": completed,
        "cancelled_tasks": cancelled,
        "failed_tasks": len(tasks) - completed - cancelled,
        "tokens_used": sum(each.tokens for each in tasks),
        "cost_usd": sum(each.cost_usd for each in tasks),
        "updated_at": max(each.updated_at for each in tasks),
        "last_completed_at": max(each.completed_at for each in tasks),
    }


def _number(cursor: Cursor[Any], statement: str, values: dict[str, Any]) -> int:
    cursor.execute(statement.encode(), values)
    [(number,)] = cursor.fetchall()
    return int(number)
