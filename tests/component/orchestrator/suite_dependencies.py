"""Tasks that wait for tasks of other partitions. Subclasses bring the ``rig``."""

from taskloom.domain.task import commands as c
from tests.component.orchestrator.rig import Rig, run, task_on

FIRST, SECOND = task_on(0, "first"), task_on(1, "second")


class DependenciesSuite:
    async def test_a_task_of_another_partition_goes_when_what_it_waits_for_completed(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node, FIRST)
            rig.submit(SECOND, depends_on=(FIRST,))
            await node.rounds(2)
            assert rig.published(SECOND) == ["TaskSubmitted", "TaskWaiting"]
            rig.send(FIRST, c.ReportCompleted(1, "ex-1"))
            await node.rounds(2)
        assert rig.published(FIRST)[-2:] == ["WatchersTold", "TaskCompleted"]
        assert rig.published(SECOND)[2:5] == ["DependencyEnded", "TaskQueued", "AttemptAssigned"]

    async def test_what_had_ended_before_answers_at_once(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node, FIRST)
            rig.send(FIRST, c.ReportCompleted(1, "ex-1"))
            await node.round()
            rig.submit(SECOND, depends_on=(FIRST,))
            await node.rounds(3)
        assert "TaskQueued" in rig.published(SECOND)

    async def test_a_dependency_that_nobody_knows_fails_the_task_and_says_so(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(SECOND, depends_on=("never-submitted",))
            await node.rounds(3)
            state = node.memory.get(SECOND)
        assert state is not None
        assert state.error is not None
        assert (state.word, state.error.message) == ("failed", "dependency never-submitted does not exist")
        assert rig.dead_letters() == []

    async def test_another_tenants_task_is_as_unknown_as_one_that_does_not_exist(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(FIRST, tenant_id="other")
            rig.submit(SECOND, depends_on=(FIRST,))
            await node.rounds(3)
            state = node.memory.get(SECOND)
        assert state is not None
        assert state.word == "failed"
        assert "WatcherAdded" not in rig.published(FIRST)

    async def test_what_a_crashed_owner_did_not_tell_the_next_one_tells(self, rig: Rig) -> None:
        async with rig.node("o-1") as old:
            await old.own()
            await run(rig, old, FIRST)
            rig.submit(SECOND, depends_on=(FIRST,))
            await old.rounds(2)
            await old.owner.mark_published()
        async with rig.node("o-2", publishes=False) as dying:
            await dying.own()
            rig.send(FIRST, c.ReportCompleted(1, "ex-1"))
            await dying.round(publish=False)
        assert "DependencyEnded" not in rig.published(SECOND)
        async with rig.node("o-3") as new:
            await new.own()
            await new.rounds(2)
        assert "DependencyEnded" in rig.published(SECOND)
