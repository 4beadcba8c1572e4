"""How the command loop follows executors: slots, losses, refusals. Subclasses bring the ``rig``."""

from taskloom.domain.task import commands as c
from taskloom.domain.task.directives import RECALLED, RecallAttempt, StopAttempt
from taskloom.domain.values import ErrorInfo
from tests.component.orchestrator.rig import PARTITIONS, TASK, Rig, live, run, task_on


class ExecutorsSuite:
    async def test_a_kind_that_an_executor_announces_is_known(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear(kinds=("special",))
            rig.submit(TASK, kind="special")
            await node.round()
            assert node.memory.get(TASK).word == "assigned"  # type: ignore[union-attr]

    async def test_slots_are_free_again_after_every_end(self, rig: Rig) -> None:
        tasks = [task_on(n % PARTITIONS, f"many{n}") for n in range(9)]
        async with rig.node() as node:
            await node.own()
            node.hear(slots=2)
            for task_id in tasks:
                rig.submit(task_id)
            ended: set[str] = set()
            for _ in range(12):
                await node.round()
                running = [s for s in node.memory.open_states() if s.live is not None]
                assert len(running) <= 2
                assert node.pool.leases_of("ex-1", "a") == {(s.task_id, s.live.number) for s in running if s.live}
                for state in running:
                    rig.send(state.task_id, c.ReportCompleted(state.attempts, "ex-1"))
                    ended.add(state.task_id)
            assert ended == set(tasks)
            assert node.pool.leases_of("ex-1", "a") == set()

    async def test_attempts_of_a_restarted_executor_are_lost_and_tried_again(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node, retry={"initial_s": 0})
            node.hear(incarnation="b")
            await node.rounds(2)
        assert rig.published(TASK)[4:] == ["AttemptLost", "RetryScheduled", "TaskQueued", "AttemptAssigned"]

    async def test_an_executor_that_falls_silent_loses_its_attempts_after_the_beats_it_has(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            for _ in range(3):
                node.beat()
            await node.round()
            assert rig.published(TASK)[-1] == "AttemptStarted"
            node.beat()
            await node.round()
            assert rig.published(TASK)[4:] == ["AttemptLost", "RetryScheduled"]

    async def test_an_attempt_that_its_executor_leaves_out_three_beats_is_lost(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            for beats in range(3):
                await node.round()
                assert rig.published(TASK)[-1] == "AttemptStarted", beats
                node.beat()
                node.hear()
                node.hear()
            await node.round()
            assert rig.published(TASK)[4:] == ["AttemptLost", "RetryScheduled"]

    async def test_an_attempt_that_no_task_has_is_stopped(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            rig.send(TASK, c.ReportFailed(1, "ex-1", ErrorInfo("X", "x", retryable=False)))
            await node.round()
            told = len(rig.directives())
            for _ in range(3):
                node.beat()
                node.hear(live=live((TASK, 1)))
            await node.round()
            [stop] = rig.directives()[told:]
            assert isinstance(stop, StopAttempt)
            assert (stop.task_id, stop.attempt, stop.executor_id) == (TASK, 1, "ex-1")

    async def test_a_declining_executor_gets_nothing_before_its_next_beat(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(TASK)
            await node.round()
            rig.send(TASK, c.ReportDeclined(1, "ex-1"))
            await node.rounds(3)
            assert rig.published(TASK)[3:] == ["AttemptDeclined", "TaskQueued"]
            node.hear()
            await node.round()
            assert rig.published(TASK)[-1] == "AttemptAssigned"

    async def test_a_recalled_attempt_goes_to_the_executor_that_has_a_slot(self, rig: Rig) -> None:
        tasks = [task_on(n, f"reserve{n}") for n in range(2)]
        async with rig.node() as node:
            await node.own()
            node.hear(slots=1, prefetch=1)
            for task_id in tasks:
                rig.submit(task_id)
            await node.round()
            for task_id in tasks:
                rig.send(task_id, c.RecallTask())
            await node.round()
            assert [reply.data for reply in rig.replies()[2:]] == [{}, {}], "nowhere to go"
            node.hear("ex-2", slots=1)
            for task_id in tasks:
                rig.send(task_id, c.RecallTask())
            await node.round()
            assert sorted(map(str, (reply.data for reply in rig.replies()[4:]))) == ["{'executor_id': 'ex-2'}", "{}"]
            [recall] = [each for each in rig.directives() if isinstance(each, RecallAttempt)]
            assert (recall.executor_id, recall.incarnation) == ("ex-1", "a")
            rig.send(recall.task_id, c.ReportDeclined(1, "ex-1", RECALLED))
            await node.round()
            state = node.memory.get(recall.task_id)
            assert state is not None
            assert state.live is not None
            assert (state.live.number, state.live.executor_id) == (2, "ex-2")
            assert not next(s for s in node.pool.standings() if s.offer.executor_id == "ex-1").refused_until_beat

    async def test_an_executor_that_joins_gets_what_waits_in_anothers_reserve(self, rig: Rig) -> None:
        tasks = [task_on(n, f"join{n}") for n in range(4)]
        async with rig.node() as node:
            await node.own()
            node.hear(slots=1, prefetch=3)
            for task_id in tasks:
                rig.submit(task_id)
            await node.round()
            node.hear("ex-2", slots=9)
            await node.rounds(2)
            recalls = [each for each in rig.directives() if isinstance(each, RecallAttempt)]
            assert len(recalls) == 2, "as many as the setting allows, once"
