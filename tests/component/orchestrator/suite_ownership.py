"""What becomes of tasks and events when partitions change hands or a batch is dropped. Subclasses bring the ``rig``."""

from taskloom.domain.task import commands as c
from taskloom.domain.task.directives import PauseAttempt, ResumeAttempt, RunAttempt, StopAttempt
from taskloom.domain.task.evolve import fold
from taskloom.domain.values import ErrorInfo
from tests.component.orchestrator.rig import TASK, Rig, live, run, task_on

BOOM = ErrorInfo("ValueError", "boom")


class OwnershipSuite:
    async def test_a_fenced_batch_is_dropped_read_again_and_applied_once(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            rig.open_store(0).take_over(0)
            other_shard = task_on(1)
            rig.send(TASK, c.ReportCompleted(1, "ex-1"))
            rig.submit(other_shard)
            await node.round()
            assert rig.versions(other_shard)[:2] == [1, 2], "the other shard's part must go on"
            assert rig.published(TASK)[-1] == "AttemptStarted"
            await node.rounds(2)
            assert rig.published(TASK)[-1] == "TaskCompleted"
            assert [recorded.version for recorded in rig.stored(TASK)] == [1, 2, 3, 4, 5]
            assert sorted(set(rig.versions(TASK))) == [1, 2, 3, 4, 5]

    async def test_the_owner_before_can_write_nothing_more(self, rig: Rig) -> None:
        async with rig.node("o-1") as old, rig.node("o-2") as new:
            await old.own()
            await run(rig, old)
            await new.own()
            rig.send(TASK, c.ReportCompleted(1, "ex-1"))
            await new.round()
            before = rig.stored(TASK)
            await old.round()
            assert rig.stored(TASK) == before
            assert [recorded.version for recorded in before] == sorted(set(rig.versions(TASK)))

    async def test_a_new_owner_finds_tasks_timers_and_leases_and_tells_executors_again(self, rig: Rig) -> None:
        names = {name: task_on(0, name) for name in ("assigned", "running", "pausing", "cancelling", "retrying")}
        async with rig.node("o-1") as old:
            await old.own()
            old.hear(slots=10)
            for task_id in names.values():
                rig.submit(task_id, retry={"initial_s": 30, "jitter": 0})
            await old.round()
            for name in ("running", "pausing", "cancelling", "retrying"):
                rig.send(names[name], c.ReportStarted(1, "ex-1"))
            rig.send(names["pausing"], c.PauseTask())
            rig.send(names["cancelling"], c.CancelTask("no"))
            rig.send(names["retrying"], c.ReportFailed(1, "ex-1", BOOM))
            await old.round()
        told = len(rig.directives())
        async with rig.node("o-2") as new:
            await new.own()
            assert {name: new.memory.get(task_id).word for name, task_id in names.items()} == {  # type: ignore[union-attr]
                name: name for name in names
            }
            again = {(type(directive), directive.task_id) for directive in rig.directives()[told:]}
            assert again == {
                (RunAttempt, names["assigned"]),
                (ResumeAttempt, names["running"]),
                (PauseAttempt, names["pausing"]),
                (StopAttempt, names["cancelling"]),
            }
            leases = {(names[name], 1) for name in ("assigned", "running", "pausing", "cancelling")}
            new.hear(slots=10, live=live(*leases))
            assert new.pool.leases_of("ex-1", "a") == leases
            rig.clock.forward(30)
            await new.round()
            assert new.memory.get(names["retrying"]).attempts == 2  # type: ignore[union-attr]

    async def test_events_stored_but_not_published_are_published_by_the_next_owner(self, rig: Rig) -> None:
        async with rig.node("o-1") as old:
            await old.own()
            await run(rig, old)
            await old.owner.mark_published()
        async with rig.node("o-2", publishes=False) as dying:
            await dying.own()
            rig.send(TASK, c.ReportHeartbeat(1, "ex-1"))
            rig.send(TASK, c.ReportCompleted(1, "ex-1"))
            await dying.round(publish=False)
        assert rig.versions(TASK) == [1, 2, 3, 4]
        async with rig.node("o-3") as new:
            await new.own()
        assert rig.versions(TASK) == [1, 2, 3, 4, 5, 6]
        assert rig.events(TASK) == rig.stored(TASK)

    async def test_only_the_events_of_the_partition_taken_over_are_published_again(self, rig: Rig) -> None:
        neighbour = task_on(2)
        async with rig.node("o-1", publishes=False) as dying:
            await dying.own()
            rig.submit(TASK)
            rig.submit(neighbour)
            await dying.round(publish=False)
        async with rig.node("o-2") as new:
            await new.own(0)
        assert (rig.versions(TASK), rig.versions(neighbour)) == ([1, 2], [])

    async def test_a_handed_over_partition_is_published_up_to_its_end_and_not_twice(self, rig: Rig) -> None:
        async with rig.node("o-1") as old, rig.node("o-2") as new:
            await old.own()
            await run(rig, old)
            async with old.owner.lock:
                await old.owner.give_up(old.owner.partitions)
            assert (list(old.owner.partitions), old.memory.get(TASK), len(old.timers)) == ([], None, 0)
            await new.own()
            rig.send(TASK, c.ReportCompleted(1, "ex-1"))
            await new.round()
        assert rig.versions(TASK) == [1, 2, 3, 4, 5]

    async def test_what_kafka_did_not_take_is_published_again_in_order(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.bus.away = 2
            await run(rig, node)
        assert rig.versions(TASK) == [1, 2, 3, 4]

    async def test_states_come_back_from_snapshots(self, rig: Rig) -> None:
        async with rig.node("o-1") as old:
            await old.own()
            await run(rig, old)
            for number in range(30):
                rig.send(TASK, c.ReportHeartbeat(1, "ex-1", 0.5, details={"n": number}))
                await old.round()
            expected = old.memory.get(TASK)
        assert rig.open_store(0).load([TASK])[TASK].version >= 30
        async with rig.node("o-2") as new:
            await new.own()
            assert new.memory.get(TASK) == expected == fold(rig.stored(TASK))

    async def test_ended_tasks_that_left_memory_are_read_again(self, rig: Rig) -> None:
        others = [task_on(0, f"other{n}") for n in range(3)]
        async with rig.node(ended_kept=1) as node:
            await node.own()
            for name in (TASK, *others):
                rig.submit(name)
                rig.send(name, c.CancelTask())
            await node.round()
            assert node.memory.get(TASK) is None
            rig.send(TASK, c.CancelTask())
            await node.round()
        refusal = rig.replies()[-1].refusal
        assert refusal is not None
        assert refusal.message == "Task is already in terminal state: cancelled"
