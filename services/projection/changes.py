"""What a batch changes in the views: folded in memory, then written in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field
from psycopg import Cursor

from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.sessions import Session
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.submission import WEBHOOK_KIND
from taskloom.views import positions
from taskloom.views.approvals import write as approvals
from taskloom.views.audit import write as audit
from taskloom.views.entities import write as entities
from taskloom.views.executors import write as executors
from taskloom.views.goals import write as goals
from taskloom.views.metrics import write as metrics
from taskloom.views.metrics.fold import Tally
from taskloom.views.outputs import write as outputs
from taskloom.views.positions import Move
from taskloom.views.retired import write as retired
from taskloom.views.retired.write import Stone
from taskloom.views.sessions import write as sessions
from taskloom.views.sessions.fold import SessionKey, Share, key_of, share, takes_back
from taskloom.views.steps import write as steps
from taskloom.views.steps.write import OfRun
from taskloom.views.task_executions import write as task_executions
from taskloom.views.task_executions.row import Row
from taskloom.views.task_executions.write import CountKey
from taskloom.wire.messages import AuditEntry, ExecutorHeartbeat, OutputChunk


class Absent(Struct):
    """A retired task: ``stone`` as it stands in the table; ``row`` what its events, up to ``counted``, lead to: None
    until that is known."""

    stone: Stone
    row: Row | None
    counted: int


class Changes(Struct):
    """``after``: the rows to write; ``before``: the same as they stand in the table, where a new one is absent.
    ``tally``: what the events between them add to the metrics; ``of_approvals``: those events that concern approvals;
    ``of_runs``: those that concern steps and variables of workflows; ``of_goals``: those of goals that these show.
    ``absent``: tasks without rows that stay so; ``returned``: those that have some again, and what was counted of them.
    """

    after: dict[str, Row] = field(default_factory=dict)
    before: dict[str, Row] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    entities: dict[str, Entity] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    of_approvals: list[Recorded] = field(default_factory=list)
    of_runs: list[OfRun] = field(default_factory=list)
    of_goals: list[Recorded] = field(default_factory=list)
    absent: dict[str, Absent] = field(default_factory=dict)
    returned: dict[str, int] = field(default_factory=dict)


def counts_of(changes: Changes) -> dict[CountKey, int]:
    """Tasks more or fewer by tenant, partition and status."""
    counts: dict[CountKey, int] = {}
    for task_id, row in changes.after.items():
        before, partition = changes.before.get(task_id), changes.partitions[task_id]
        shown, shown_before = _status_shown(row), _status_shown(before)
        if shown_before != shown:
            for status, change in ((shown, 1), (shown_before, -1)):
                if status is not None:
                    key = CountKey(row.tenant_id, partition, status)
                    counts[key] = counts.get(key, 0) + change
    return counts


def _status_shown(row: Row | None) -> str | None:
    return None if row is None or row.deleted_at is not None or row.kind == WEBHOOK_KIND else row.status


def shares_of(changes: Changes) -> dict[SessionKey, Share]:
    """What the changed tasks add to their sessions."""
    shares: dict[SessionKey, Share] = {}
    for task_id, row in changes.after.items():
        before = changes.before.get(task_id)
        if row.kind == WEBHOOK_KIND or not row.session_id or (before is not None and before.deleted_at is not None):
            continue
        key, added = key_of(row), share(row, before)
        known = shares.get(key)
        if known is None:
            shares[key] = added
        else:
            known.add(added)
    return shares


def taken_back(changes: Changes) -> list[SessionKey]:
    """Sessions of tasks that were retried or deleted: their newest and oldest times may have to go back."""
    keys = {
        key_of(row)
        for task_id, row in changes.after.items()
        if row.kind != WEBHOOK_KIND and row.session_id and takes_back(row, changes.before.get(task_id))
    }
    return sorted(keys)


def _mark_sessions(cursor: Cursor[Any], changes: Changes) -> None:
    marks = marks_of(changes)
    sessions.mark(cursor, marks)
    sessions.recount(cursor, {*marks, *(key_of(row) for row in changes.after.values() if row.session_id)})
    sessions.drop_empty(cursor, marks)


def marks_of(changes: Changes) -> dict[SessionKey, tuple[Session, datetime]]:
    """What clients said of sessions, and when."""
    said: dict[SessionKey, tuple[Session, datetime]] = {}
    for entity in changes.entities.values():
        if isinstance(entity.value, Session):
            name = parts_of(entity.entity_id)
            said[SessionKey(name.tenant_id, name.name)] = (entity.value, entity.changed_at)
    return said


def write(
    cursor: Cursor[Any],
    moves: Sequence[Move],
    changes: Changes,
    chunks: Sequence[OutputChunk],
    heartbeats: Mapping[str, ExecutorHeartbeat | None],
    entries: Sequence[AuditEntry] = (),
) -> int:
    """Writes it all in the cursor's transaction, offsets first; returns how many chunks were there already.

    Raises:
        Fenced, MissingRow, Moved, psycopg.errors.UniqueViolation: another owner of a partition was here, or a task was
            retired or brought back meanwhile.
    """
    positions.move(cursor, moves)
    new = [row for task_id, row in changes.after.items() if task_id not in changes.before]
    known = [row for task_id, row in changes.after.items() if task_id in changes.before]
    if new:
        task_executions.insert(cursor, new)
    if known:
        task_executions.update(cursor, known)
        edited = [row for row in known if task_executions.is_edited(row, changes.before[row.task_id])]
        task_executions.edit(cursor, edited)
    retired.bring_back(cursor, changes.returned.items())
    retired.count(
        cursor,
        [
            (task_id, absent.stone.counted, absent.counted)
            for task_id, absent in changes.absent.items()
            if absent.counted > absent.stone.counted
        ],
    )
    if changes.after:
        task_executions.count(cursor, counts_of(changes))
        sessions.add(cursor, shares_of(changes))
        sessions.sum_anew(cursor, taken_back(changes))
    _mark_sessions(cursor, changes)
    approvals.apply(cursor, changes.of_approvals)
    steps.apply(cursor, changes.of_runs)
    goals.apply(cursor, changes.of_goals)
    retired.drop_traces(cursor, (recorded.task_id for recorded in changes.of_goals))
    if changes.entities:
        entities.put(cursor, changes.entities.values())
    if heartbeats:
        executors.put(cursor, heartbeats)
    if entries:
        audit.add(cursor, entries)
    repeated = outputs.add(cursor, retired.without_retired(cursor, chunks))
    metrics.add(cursor, changes.tally)
    return repeated
