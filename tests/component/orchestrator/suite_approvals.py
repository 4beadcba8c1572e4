"""Tasks that wait for somebody's yes, and what a no, a silence or a crash means. Subclasses bring the ``rig``."""

from typing import Any

from taskloom.domain.task import commands as c
from taskloom.domain.task.approvals import own_approval_id
from tests.component.orchestrator.rig import Rig, task_on

ASKS = task_on(2, "asks")
AFTER = task_on(3, "after")
APPROVAL = own_approval_id(ASKS, 1)


def approval(**fields: Any) -> dict[str, Any]:
    return {"approval": {"message": "delete all?", **fields}}


def stored(rig: Rig, task_id: str) -> list[str]:
    return [type(recorded.event).__name__ for recorded in rig.stored(task_id)]


class ApprovalsSuite:
    async def test_nothing_is_dispatched_before_the_yes_and_at_once_after_it(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(ASKS, **approval(approvers=["ann"]))
            await node.rounds(2)
            assert rig.published(ASKS) == ["TaskSubmitted", "TaskApprovalRequested"]
            assert rig.directives() == []
            rig.send(ASKS, c.DecideApproval(APPROVAL, True), actor="bob")
            await node.round()
            assert rig.replies()[-1].refusal is not None, "bob is no approver"
            rig.send(ASKS, c.DecideApproval(APPROVAL, True, "go"), actor="ann")
            await node.round()
        assert rig.published(ASKS)[2:] == ["TaskApprovalDecided", "TaskQueued", "AttemptAssigned"]
        assert [each.task_id for each in rig.directives()] == [ASKS]

    async def test_why_names_the_approval_and_who_may_decide(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(ASKS, **approval(approvers=["ann"]))
            rig.send(ASKS, c.ExplainTask())
            await node.round()
        [gate] = rig.replies()[-1].data["gates"]
        assert (gate["gate"], gate["held_by"]) == ("approval", ["ann"])
        assert "delete all?" in gate["detail"]

    async def test_a_no_fails_the_task_and_those_that_wait_for_it_hear_of_it(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(ASKS, **approval())
            rig.submit(AFTER, depends_on=(ASKS,))
            await node.rounds(2)
            rig.send(ASKS, c.DecideApproval(APPROVAL, False, "too risky"), actor="ann")
            await node.rounds(3)
            denied, after = node.memory.get(ASKS), node.memory.get(AFTER)
        assert denied is not None
        assert denied.error is not None
        assert (denied.word, denied.error.type, denied.error.message) == (
            "failed",
            "approval_denied",
            "rejected by ann: too risky",
        )
        assert after is not None
        assert (after.word, after.error and after.error.type) == ("failed", "dependency_failed")
        assert rig.directives() == []

    async def test_silence_is_answered_by_the_clock_also_after_the_owner_died(self, rig: Rig) -> None:
        async with rig.node("o-1") as old:
            await old.own()
            rig.submit(ASKS, **approval(timeout_s=60, on_timeout="approve"))
            await old.round()
        rig.clock.forward(61)
        async with rig.node("o-2") as new:
            await new.own()
            new.hear()
            await new.rounds(2)
        assert stored(rig, ASKS)[2:] == ["TaskApprovalExpired", "TaskQueued", "AttemptAssigned"]

    async def test_a_decision_that_reaches_the_next_owner_is_applied_once(self, rig: Rig) -> None:
        async with rig.node("o-1") as old:
            await old.own()
            rig.submit(ASKS, **approval())
            await old.round()
        rig.send(ASKS, c.DecideApproval(APPROVAL, True), actor="ann", id="d-1")
        rig.send(ASKS, c.DecideApproval(APPROVAL, True), actor="ann", id="d-1")
        async with rig.node("o-2") as new:
            await new.own()
            await new.rounds(2)
        assert stored(rig, ASKS).count("TaskApprovalDecided") == 1
        assert all(reply.refusal is None for reply in rig.replies()[-2:])

    async def test_a_paused_task_waits_on_after_its_approval_and_a_cancelled_one_takes_none(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(ASKS, **approval())
            rig.send(ASKS, c.PauseTask(), actor="ann")
            rig.send(ASKS, c.DecideApproval(APPROVAL, True), actor="ann")
            await node.rounds(2)
            state = node.memory.get(ASKS)
            assert state is not None
            assert (state.word, rig.directives()) == ("paused", [])
            rig.submit(AFTER, **approval())
            rig.send(AFTER, c.CancelTask(), actor="ann")
            rig.send(AFTER, c.DecideApproval(own_approval_id(AFTER, 1), True), actor="ann")
            await node.round()
        refusal = rig.replies()[-1].refusal
        assert refusal is not None
        assert (refusal.code, rig.published(AFTER)[-1]) == ("conflict", "TaskCancelled")
