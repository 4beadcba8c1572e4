"""``fold(known, recorded)``: how a task's events change its approvals. Projection and verify run it."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct, structs

from taskloom.domain.envelope import Recorded
from taskloom.domain.runs import is_run
from taskloom.domain.task import events as e
from taskloom.domain.task.approvals import own_approval_id, step_approval_id
from taskloom.domain.workflow import events as w
from taskloom.views.task_executions.row import Row

Status = Literal["pending", "decided", "expired", "withdrawn"]


class Approval(Struct, frozen=True, omit_defaults=True):
    """``step`` is the path of a workflow's step, empty for the task's own. ``withdrawn``: its task ended before anybody
    decided. ``outcome``: what the expiry led to, fail, approve or reject."""

    approval_id: str
    tenant_id: str
    task_id: str
    requested_at: datetime
    status: Status = "pending"
    step: str = ""
    message: str = ""
    approvers: tuple[str, ...] = ()
    due_at: datetime | None = None
    approved: bool | None = None
    ended_at: datetime | None = None
    decided_by: str = ""
    on_behalf_of: str = ""
    feedback: str = ""
    modified_action: Any = None
    outcome: str = ""


Known = dict[str, Approval]
"""By id."""


def concerns(before: Row | None, event: Any) -> bool:
    """Whether the event of a task may change approvals; ``before`` is its row until then. Few do."""
    kind = type(event)
    if kind not in _FOLDS:
        return False
    return kind not in e.TERMINAL_EVENTS or (before is not None and _may_have_asked(before))


def _may_have_asked(row: Row) -> bool:
    return is_run(row.kind) or row.phase == "waiting"


def id_of(recorded: Recorded) -> str | None:
    """The approval that an event is about; None when it is about all of its task."""
    event, task_id = recorded.event, recorded.meta.task_id
    if isinstance(event, (e.TaskApprovalRequested, e.TaskApprovalDecided, e.TaskApprovalExpired)):
        return own_approval_id(task_id, event.number)
    if isinstance(event, (w.ApprovalRequested, w.ApprovalDecided, w.ApprovalExpired, w.StepCancelled)):
        return step_approval_id(task_id, event.path)
    return None


def fold(known: Known, recorded: Recorded) -> Known:
    """Those that one more event makes or changes, by id; ``known`` stays as it is."""
    change = _FOLDS.get(type(recorded.event))
    return {} if change is None else change(known, recorded)


def fold_all(history: Iterable[Recorded]) -> Known:
    """All approvals of a task's history."""
    known: Known = {}
    for recorded in history:
        known |= fold(known, recorded)
    return known


def _requested(_known: Known, recorded: Recorded) -> Known:
    event: Any = recorded.event
    meta, approval_id = recorded.meta, id_of(recorded)
    assert approval_id is not None
    asked = Approval(
        approval_id,
        meta.tenant_id,
        meta.task_id,
        meta.at,
        step=getattr(event, "path", ""),
        message=event.message,
        approvers=event.approvers,
        due_at=event.due_at,
    )
    return {approval_id: asked}


def _decided(known: Known, recorded: Recorded) -> Known:
    event: Any = recorded.event
    return _ended(
        known,
        recorded,
        status="decided",
        approved=event.approved,
        decided_by=event.by,
        feedback=event.comment,
        modified_action=event.modified_action,
        on_behalf_of=event.on_behalf_of,
    )


def _expired(known: Known, recorded: Recorded) -> Known:
    event: Any = recorded.event
    outcome = event.outcome
    return _ended(known, recorded, status="expired", approved=outcome == "approve", outcome=outcome)


def _step_cancelled(known: Known, recorded: Recorded) -> Known:
    return _ended(known, recorded, status="withdrawn")


def _ended(known: Known, recorded: Recorded, **changes: Any) -> Known:
    asked = known.get(id_of(recorded) or "")
    if asked is None or asked.status != "pending":
        return {}
    return {asked.approval_id: structs.replace(asked, ended_at=recorded.meta.at, **changes)}


def _task_ended(known: Known, recorded: Recorded) -> Known:
    task_id, at = recorded.meta.task_id, recorded.meta.at
    return {
        name: structs.replace(asked, status="withdrawn", ended_at=at)
        for name, asked in known.items()
        if asked.task_id == task_id and asked.status == "pending"
    }


_FOLDS: Final[dict[type[e.Event], Callable[[Known, Recorded], Known]]] = {
    e.TaskApprovalRequested: _requested,
    e.TaskApprovalDecided: _decided,
    e.TaskApprovalExpired: _expired,
    w.ApprovalRequested: _requested,
    w.ApprovalDecided: _decided,
    w.ApprovalExpired: _expired,
    w.StepCancelled: _step_cancelled,
    **dict.fromkeys(e.TERMINAL_EVENTS, _task_ended),
}
