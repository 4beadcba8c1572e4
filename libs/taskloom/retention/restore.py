"""Brings rows of retired tasks back: folded anew from the stored events, as the projection would. Output does not come
back. What was brought back is as old as that for the next sweep."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString, Protocol

import msgspec
import psycopg
from msgspec import Struct, field
from psycopg import Connection, Cursor
from psycopg.types.json import set_json_loads

from taskloom.domain.envelope import Recorded
from taskloom.domain.ids import placing_key
from taskloom.domain.task.submission import WEBHOOK_KIND
from taskloom.retention.rows import OWN_PARTITION
from taskloom.views.approvals import write as approvals
from taskloom.views.approvals.fold import concerns as concerns_approvals
from taskloom.views.goals import fold as goal_folds
from taskloom.views.goals import write as goals
from taskloom.views.retired import write as retired
from taskloom.views.sessions import write as sessions
from taskloom.views.sessions.fold import key_of as session_of
from taskloom.views.sessions.fold import share
from taskloom.views.steps import write as steps
from taskloom.views.steps.fold import concerns as concerns_steps
from taskloom.views.steps.shape import Shape
from taskloom.views.steps.write import OfRun
from taskloom.views.task_executions import write as task_executions
from taskloom.views.task_executions.fold import fold
from taskloom.views.task_executions.row import Row
from taskloom.views.task_executions.write import CountKey

BATCH: Final = 200
CONNECT_TIMEOUT_S: Final = 5

# The task, and those of a run's steps (`<run>~<path>`; the character after ~ is 0x7f).
WANT: Final[LiteralString] = """
UPDATE retired_tasks SET wanted = true
WHERE restored_at IS NULL AND (
    task_id = %(task)s OR (task_id > (%(task)s || '~') COLLATE "C" AND task_id < (%(task)s || chr(127)) COLLATE "C")
)
"""

WANTED: Final[LiteralString] = """
SELECT task_id, counted FROM retired_tasks
WHERE wanted AND task_id > %(after)s::text COLLATE "C" ORDER BY task_id LIMIT %(limit)s
"""

# Nobody else brings it back meanwhile, and nobody counts on.
BACK: Final[LiteralString] = """
UPDATE retired_tasks SET wanted = false, restored_at = now()
WHERE task_id = %(task)s AND counted = %(counted)s AND restored_at IS NULL
"""


class History(Protocol):
    """Where events are read: ``taskloom.store.history.HistoryReader``."""

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]: ...


class Restored(Struct):
    """How many tasks have rows again, and the ids of those whose events were not all read by the projection."""

    tasks: int = 0
    later: list[str] = field(default_factory=list)


def want(dsn: str, task_ids: Sequence[str]) -> int:
    """Says that these tasks, and those of their steps, are to be brought back; the task of a step with all of its run.
    Returns how many."""
    with _connected(dsn) as connection, connection.transaction():
        return sum(
            connection.execute(WANT, {"task": run_id}).rowcount for run_id in sorted({*map(placing_key, task_ids)})
        )


async def restore_wanted(dsn: str, history: History) -> Restored:
    """Brings back what is wanted. It is safe to run several times at once.

    Raises:
        psycopg.OperationalError, StoreUnavailable: PostgreSQL went away; what was brought back stays.
    """
    done, after = Restored(), ""
    with _connected(dsn) as connection:
        while found := connection.execute(WANTED, {"after": after, "limit": BATCH}).fetchall():
            for task_id, counted in found:
                events = await history.events(task_id, up_to=counted)
                if counted and len(events) == counted and _restore(connection, task_id, events):
                    done.tasks += 1
                else:
                    done.later.append(task_id)
            after = found[-1][0]
    return done


def _restore(connection: Connection[Any], task_id: str, events: Sequence[Recorded]) -> bool:
    with connection.transaction(), connection.cursor(binary=True) as cursor:
        if not cursor.execute(BACK, {"task": task_id, "counted": len(events)}).rowcount:
            return False
        _write(cursor, events)
    return True


def _write(cursor: Cursor[Any], events: Sequence[Recorded]) -> None:
    row: Row | None = None
    of_approvals: list[Recorded] = []
    for recorded in events:
        if concerns_approvals(row, recorded.event):
            of_approvals.append(recorded)
        row = fold(row, recorded)
    assert row is not None
    task_executions.insert(cursor, [row])
    if row.deleted_at is None and row.kind != WEBHOOK_KIND:
        task_executions.count(cursor, {CountKey(row.tenant_id, OWN_PARTITION, row.status): 1})
        if row.session_id:
            sessions.add(cursor, {session_of(row): share(row)})
            sessions.recount(cursor, [session_of(row)])
    approvals.apply(cursor, of_approvals)
    shape = Shape(row.input)
    steps.apply(cursor, [OfRun(recorded, shape) for recorded in events if concerns_steps(recorded.event)])
    if row.kind == goal_folds.KIND:
        goals.apply(cursor, [recorded for recorded in events if goal_folds.concerns(recorded.event)])
        retired.drop_traces(cursor, [row.task_id])


def _connected(dsn: str) -> Connection[tuple[Any, ...]]:
    connection = psycopg.connect(
        dsn,
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name="taskloom.retention",
        options="-c statement_timeout=120s -c lock_timeout=15s -c timezone=UTC -c jit=off -c enable_seqscan=off",
    )
    set_json_loads(msgspec.json.decode, connection)
    with connection.cursor() as cursor:
        for view in (task_executions, sessions, steps):
            view.prepare(cursor)
    return connection
