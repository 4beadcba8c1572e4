"""What a batch changes in the views: folded in memory, then written in one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from psycopg import Cursor

from taskloom.domain.entities.entity import Entity
from taskloom.views import positions
from taskloom.views.entities import write as entities
from taskloom.views.executors import write as executors
from taskloom.views.metrics import write as metrics
from taskloom.views.metrics.fold import Tally
from taskloom.views.outputs import write as outputs
from taskloom.views.positions import Move
from taskloom.views.sessions import write as sessions
from taskloom.views.sessions.fold import SessionKey, Share, key_of, share
from taskloom.views.task_executions import write as task_executions
from taskloom.views.task_executions.row import Row
from taskloom.views.task_executions.write import CountKey
from taskloom.wire.messages import ExecutorHeartbeat, OutputChunk


class Changes(Struct):
    """``after``: the rows to write; ``before``: the same as they stand in the table, where a new one is absent.
    ``tally``: what the events between them add to the metrics."""

    after: dict[str, Row] = field(default_factory=dict)
    before: dict[str, Row] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    entities: dict[str, Entity] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def counts_of(changes: Changes) -> dict[CountKey, int]:
    """Tasks more or fewer by tenant, partition and status."""
    counts: dict[CountKey, int] = {}
    for task_id, row in changes.after.items():
        before, partition = changes.before.get(task_id), changes.partitions[task_id]
        if before is None or before.status != row.status:
            entered = CountKey(row.tenant_id, partition, row.status)
            counts[entered] = counts.get(entered, 0) + 1
            if before is not None:
                left = CountKey(row.tenant_id, partition, before.status)
                counts[left] = counts.get(left, 0) - 1
    return counts


def shares_of(changes: Changes) -> dict[SessionKey, Share]:
    """What the changed tasks add to their sessions."""
    shares: dict[SessionKey, Share] = {}
    for task_id, row in changes.after.items():
        if not row.session_id:
            continue
        key, added = key_of(row), share(row, changes.before.get(task_id))
        known = shares.get(key)
        if known is None:
            shares[key] = added
        else:
            known.add(added)
    return shares


def write(
    cursor: Cursor[Any],
    moves: Sequence[Move],
    changes: Changes,
    chunks: Sequence[OutputChunk],
    heartbeats: Mapping[str, ExecutorHeartbeat | None],
) -> int:
    """Writes it all in the cursor's transaction, offsets first; returns how many chunks were there already.

    Raises:
        Fenced, MissingRow, psycopg.errors.UniqueViolation: another owner of a partition was here.
    """
    positions.move(cursor, moves)
    new = [row for task_id, row in changes.after.items() if task_id not in changes.before]
    known = [row for task_id, row in changes.after.items() if task_id in changes.before]
    if new:
        task_executions.insert(cursor, new)
    if known:
        task_executions.update(cursor, known)
    if changes.after:
        task_executions.count(cursor, counts_of(changes))
        sessions.add(cursor, shares_of(changes))
    if changes.entities:
        entities.put(cursor, changes.entities.values())
    if heartbeats:
        executors.put(cursor, heartbeats)
    repeated = outputs.add(cursor, chunks)
    metrics.add(cursor, changes.tally)
    return repeated
