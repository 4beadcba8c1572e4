"""The calls about approvals and what they answer, as values."""

from datetime import datetime
from typing import Any, Final, TypedDict
from urllib.parse import quote

from msgspec import Struct

from taskloom.client.calls import Call, given

APPROVALS: Final = "/api/v1/approvals"


class ApprovalChoice(TypedDict, total=False):
    """Which approvals. ``status``: pending, decided, expired or withdrawn; ``approver``: who may decide, me is the
    caller."""

    status: str
    workflow_id: str
    session_id: str
    approver: str
    cursor: str
    limit: int


class Approval(Struct, frozen=True, kw_only=True):
    """What waits for a decision, or was decided. ``step``: path of a workflow's step, empty for a task's own;
    ``approvers``: who may decide, everybody when empty."""

    approval_id: str
    task_id: str
    status: str
    message: str
    requested_at: datetime
    session_id: str = ""
    step: str = ""
    name: str = ""
    query: str = ""
    approvers: tuple[str, ...] = ()
    expires_at: datetime | None = None
    approved: bool | None = None
    ended_at: datetime | None = None
    decided_by: str = ""
    approved_by: str = ""
    feedback: str = ""
    modified_action: Any = None
    outcome: str = ""


class ApprovalPage(Struct, frozen=True):
    approvals: list[Approval]
    next_cursor: str | None = None


class Decided(Struct, frozen=True):
    success: bool
    message: str
    workflow_id: str
    approval_id: str


def list_approvals(chosen: ApprovalChoice) -> Call[ApprovalPage]:
    return Call(ApprovalPage, APPROVALS, params=given(**chosen))


def get(approval_id: str) -> Call[Approval]:
    return Call(Approval, f"{APPROVALS}/{quote(approval_id, safe='~')}")


def decide(
    task_id: str, approval_id: str, *, approved: bool, feedback: str = "", modified_action: Any = None
) -> Call[Decided]:
    body: dict[str, Any] = {"workflow_id": task_id, "approval_id": approval_id, "approved": approved}
    if feedback:
        body["feedback"] = feedback
    if modified_action is not None:
        body["modified_action"] = modified_action
    return Call(Decided, f"{APPROVALS}/decision", "POST", body=body)


def task_of(approval_id: str) -> str:
    """The task that asked for it."""
    return approval_id.rpartition("~")[0]
