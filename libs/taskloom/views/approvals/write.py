"""Events that concern approvals into their table: what is there is read, folded on and written back."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString

import msgspec
from psycopg import Cursor

from taskloom.domain.envelope import Recorded
from taskloom.views.approvals.fold import Approval, Known, fold, id_of

LOAD: Final[LiteralString] = """
SELECT approval FROM approvals WHERE approval_id = ANY(%(ids)s)
UNION ALL
SELECT approval FROM approvals WHERE task_id = ANY(%(tasks)s) AND NOT approval_id = ANY(%(ids)s)
"""

PUT: Final[LiteralString] = """
INSERT INTO approvals (approval_id, tenant_id, task_id, status, approvers, requested_at, approval)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (approval_id) DO UPDATE
SET status = excluded.status, approvers = excluded.approvers, requested_at = excluded.requested_at,
    approval = excluded.approval
"""

_decode = msgspec.json.Decoder(Approval).decode


def apply(cursor: Cursor[Any], events: Sequence[Recorded]) -> None:
    """Folds events, in their order, onto what the table has. Each must come once: the rows of their tasks see to it."""
    if not events:
        return
    ids = list({name for recorded in events if (name := id_of(recorded)) is not None})
    ended = list({recorded.meta.task_id for recorded in events if id_of(recorded) is None})
    cursor.execute(LOAD, {"ids": ids, "tasks": ended})
    known: Known = {found.approval_id: found for found in (_decode(stored) for (stored,) in cursor.fetchall())}
    changed: Known = {}
    for recorded in events:
        news = fold(known, recorded)
        known |= news
        changed |= news
    cursor.executemany(PUT, [_columns(changed[name]) for name in sorted(changed)])


def _columns(approval: Approval) -> tuple[Any, ...]:
    # PostgreSQL's text cannot hold U+0000; whoever has it in their name is found under another one.
    approvers = [name.replace("\x00", "\ufffd") for name in approval.approvers]
    stored = msgspec.json.encode(approval)
    names = (approval.approval_id, approval.tenant_id, approval.task_id, approval.status)
    return (*names, approvers, approval.requested_at, stored)
