"""``client.approvals``: what waits for a decision."""

from __future__ import annotations

from typing import Protocol, TypeVar, Unpack

from taskloom.client import approval_calls as calls
from taskloom.client.approval_calls import ApprovalChoice
from taskloom.client.calls import Call

T = TypeVar("T")


class Calls(Protocol):
    def call(self, call: Call[T]) -> T: ...


class Approvals:
    """Every call may raise ``Unreachable`` or a kind of ``Refused``."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    def pending(self, *, approver: str = "") -> list[calls.Approval]:
        """The newest 100 that wait; ``approver``: which that one may decide, me is the caller."""
        return self.page(status="pending", approver=approver, limit=100).approvals

    def page(self, **chosen: Unpack[ApprovalChoice]) -> calls.ApprovalPage:
        """One page, newest first."""
        return self._client.call(calls.list_approvals(chosen))

    def get(self, approval_id: str) -> calls.Approval:
        return self._client.call(calls.get(approval_id))
