"""``client.approvals``: what waits for a decision."""

from __future__ import annotations

from typing import Protocol, TypeVar, Unpack

from taskloom.client import approval_calls as calls
from taskloom.client.approval_calls import ApprovalChoice
from taskloom.client.calls import Call

T = TypeVar("T")


class Calls(Protocol):
    async def call(self, call: Call[T]) -> T: ...


class AsyncApprovals:
    """Every call may raise ``Unreachable`` or a kind of ``Refused``."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    async def pending(self, *, approver: str = "") -> list[calls.Approval]:
        """The newest 100 that wait; ``approver``: which that one may decide, me is the caller."""
        return (await self.page(status="pending", approver=approver, limit=100)).approvals

    async def page(self, **chosen: Unpack[ApprovalChoice]) -> calls.ApprovalPage:
        """One page, newest first."""
        return await self._client.call(calls.list_approvals(chosen))

    async def get(self, approval_id: str) -> calls.Approval:
        return await self._client.call(calls.get(approval_id))
