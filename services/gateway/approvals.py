"""Approvals: which wait, and decisions on them. They are asked for by submissions and by steps of workflows."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.control import Controlled, Controller
from services.gateway.problems import BadRequest, Conflict, Forbidden, NotFound
from services.gateway.queries import Limit100
from services.gateway.read import Reader
from services.gateway.security import Caller
from services.gateway.submission import Origin
from taskloom.domain.ids import is_task_id
from taskloom.domain.task.commands import DecideApproval, Reason
from taskloom.domain.values import Identifier, Text256
from taskloom.domain.workflow.wanted import child_id, parent_of
from taskloom.views.approvals.query import Asked, BadCursor, Filters

Optional = UnsetType
TaskIdText = Annotated[str, Meta(max_length=512, description="Id of a task or of a workflow's run")]


class Decision(Struct, frozen=True):
    """Body of POST /approvals/decision. ``approved_by`` is kept beside the caller, who has to be an approver."""

    workflow_id: Annotated[str, Meta(min_length=1, max_length=512)]
    approval_id: Annotated[str, Meta(min_length=1, max_length=1024)]
    approved: bool = False
    run_id: str | None = None
    feedback: Reason | None = None
    modified_action: Any = None
    approved_by: Text256 | None = None


class Decided(Struct, frozen=True):
    """Answer of POST /approvals/decision."""

    status: str
    success: bool
    message: str
    workflow_id: str
    run_id: str
    approval_id: str


class ApprovalSeen(Struct, frozen=True, kw_only=True):
    """An approval. ``status``: pending, decided, expired, or withdrawn when its task ended before anybody decided.

    ``approvers``: who may decide, everybody when empty. ``step`` is the path of a workflow's step, absent for a task's
    own. ``decided_by`` is whose key it was, ``approved_by`` who that one named. ``outcome``: what the expiry led to.
    """

    approval_id: str
    workflow_id: str
    task_id: str
    session_id: str
    status: str
    message: str
    approvers: tuple[str, ...]
    requested_at: datetime
    step: str | Optional = UNSET
    name: str | Optional = UNSET
    query: str | Optional = UNSET
    expires_at: datetime | Optional = UNSET
    approved: bool | Optional = UNSET
    ended_at: datetime | Optional = UNSET
    decided_by: str | Optional = UNSET
    approved_by: str | Optional = UNSET
    feedback: str | Optional = UNSET
    modified_action: Any | Optional = UNSET
    outcome: str | Optional = UNSET


class ApprovalList(Struct, frozen=True):
    """Newest first."""

    approvals: list[ApprovalSeen]
    next_cursor: str | None


class ApprovalsQuery(Struct, frozen=True):
    """What is left out does not narrow."""

    status: Annotated[
        Literal["pending", "decided", "expired", "withdrawn"] | None, Meta(description="How far it is")
    ] = None
    workflow_id: TaskIdText | None = None
    session_id: Identifier | None = None
    approver: Annotated[Text256 | None, Meta(description="User who may decide; me is the caller")] = None
    cursor: str | None = None
    limit: Limit100 = 20


class Approvals:
    """Reads wait a moment for what this gateway has just decided, as those of tasks do."""

    def __init__(self, reader: Reader, controller: Controller) -> None:
        self._reader = reader
        self._controller = controller

    async def decide(self, decision: Decision, origin: Origin) -> Decided:
        """
        Raises:
            BadRequest: an id is none.
            NotFound: no such task of this tenant, or it never asked for this approval.
            Forbidden: the approval names approvers, and the caller is none of them.
            Conflict: it was decided before, or its task has ended.
        """
        task_id = task_of(decision.workflow_id, decision.approval_id)
        command = DecideApproval(
            decision.approval_id,
            decision.approved,
            decision.feedback or "",
            decision.modified_action,
            decision.approved_by or "",
        )
        done = await self.send(task_id, command, origin)
        return Decided(
            "sent", True, done.message, decision.workflow_id, decision.run_id or task_id, decision.approval_id
        )

    async def send(self, task_id: str, command: DecideApproval, origin: Origin) -> Controlled:
        """The decision's command, refused in the words of approvals."""
        try:
            return await self._controller.control(task_id, command, origin)
        except Conflict as conflict:
            if conflict.field == "by":
                raise Forbidden(str(conflict), field="approved_by") from conflict
            if conflict.field == "step" and not await self._asked(origin.caller, task_id, command.step):
                raise NotFound("Approval not found", approval_id=command.step) from conflict
            raise

    async def _asked(self, caller: Caller, task_id: str, name: str) -> bool:
        """Whether that approval, or step, once asked. The short name of a task's own asks where the task does."""
        approval_id = name if parent_of(name) else child_id(task_id, name)
        return name == "approval" or await self._reader.views.approval(caller.tenant_id, approval_id) is not None

    async def find(self, caller: Caller, approval_id: str) -> ApprovalSeen:
        """
        Raises:
            BadRequest: it is no id.
            NotFound: unknown, or another tenant's.
        """
        parent = parent_of(_checked(approval_id, "approval_id"))
        if parent is not None:
            await self._caught_up(caller, parent[0])
        found = await self._reader.views.approval(caller.tenant_id, approval_id)
        if found is None:
            raise NotFound("Approval not found", approval_id=approval_id)
        return seen(found)

    async def page(self, caller: Caller, query: ApprovalsQuery) -> ApprovalList:
        """Raises BadRequest: the cursor or an id is none."""
        if query.workflow_id is not None:
            await self._caught_up(caller, _checked(query.workflow_id, "workflow_id"))
        approver = caller.user_id if query.approver == "me" else query.approver
        filters = Filters(
            status=query.status, task_id=query.workflow_id, session_id=query.session_id, approver=approver
        )
        try:
            page = await self._reader.views.approvals(caller.tenant_id, filters, limit=query.limit, cursor=query.cursor)
        except BadCursor as error:
            raise BadRequest(str(error), field="cursor") from error
        return ApprovalList([seen(each) for each in page.approvals], page.next_cursor)

    async def _caught_up(self, caller: Caller, task_id: str) -> None:
        """Waits until the read side shows what this gateway promised of the task; an unknown one has no approvals."""
        try:
            await self._reader.row(caller, task_id)
        except NotFound:
            return


def task_of(workflow_id: str, approval_id: str) -> str:
    """The task that asked: the run of a child workflow may be named by the run around it.

    Raises:
        BadRequest: one of them is no id.
    """
    _checked(workflow_id, "workflow_id")
    parent = parent_of(_checked(approval_id, "approval_id"))
    if parent is None:
        return workflow_id
    own = parent[0]
    if own != workflow_id and not own.startswith(child_id(workflow_id, "")):
        raise BadRequest(f"{approval_id!r} is no approval of {workflow_id}", field="approval_id")
    return own


def _checked(text: str, field: str) -> str:
    if not is_task_id(text):
        raise BadRequest(f"{text!r} is not an id (A-Z a-z 0-9 : _ - . and, before a part of it, ~)", field=field)
    return text


def seen(asked: Asked) -> ApprovalSeen:
    found = asked.approval
    return ApprovalSeen(
        approval_id=found.approval_id,
        workflow_id=found.task_id,
        task_id=found.task_id,
        session_id=asked.session_id,
        status=found.status,
        message=found.message,
        approvers=found.approvers,
        requested_at=found.requested_at,
        step=found.step or UNSET,
        name=asked.name or UNSET,
        query=asked.query or UNSET,
        expires_at=found.due_at or UNSET,
        approved=UNSET if found.approved is None else found.approved,
        ended_at=found.ended_at or UNSET,
        decided_by=found.decided_by or UNSET,
        approved_by=found.on_behalf_of or found.decided_by or UNSET,
        feedback=found.feedback or UNSET,
        modified_action=UNSET if found.modified_action is None else found.modified_action,
        outcome=found.outcome or UNSET,
    )


EXAMPLE: Final = {
    "workflow_id": "task-0192f6",
    "approval_id": "task-0192f6~.approval.1",
    "approved": True,
    "feedback": "looks good",
}
