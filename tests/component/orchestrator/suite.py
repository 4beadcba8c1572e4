"""How the command loop behaves, whatever store is below it. Subclasses bring the ``rig``."""

from datetime import timedelta
from typing import Any

import pytest

from services.orchestrator import decisions
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.decide import Caller, Decision, decide
from taskloom.domain.task.directives import PauseAttempt, ResumeAttempt, RunAttempt, StopAttempt
from taskloom.domain.task.evolve import fold
from taskloom.domain.task.state import TaskState
from taskloom.domain.values import ErrorInfo
from taskloom.store.batch import Batch
from taskloom.wire.claims import claimed_digest
from taskloom.wire.recorded import chain_fault
from tests.component.orchestrator.rig import PARTITIONS, Node, Rig, live, task_on

TASK = task_on(0)
BOOM = ErrorInfo("ValueError", "boom")


async def run(rig: Rig, node: Node, task_id: str = TASK, **fields: Any) -> None:
    """Submits a task and brings it to running on ex-1."""
    node.hear()
    rig.submit(task_id, **fields)
    await node.round()
    rig.send(task_id, c.ReportStarted(1, "ex-1"))
    await node.round()
    assert node.memory.get(task_id).word == "running"  # type: ignore[union-attr]


class CommandLoopSuite:
    async def test_a_task_goes_all_the_way(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            rig.send(TASK, c.ReportCompleted(1, "ex-1", result="done"))
            await node.round()
        assert rig.published(TASK) == [
            "TaskSubmitted",
            "TaskQueued",
            "AttemptAssigned",
            "AttemptStarted",
            "TaskCompleted",
        ]
        assert rig.versions(TASK) == [1, 2, 3, 4, 5]
        assert rig.events(TASK) == rig.stored(TASK)
        assert chain_fault(recorded.body for recorded in rig.events(TASK)) is None
        assert [reply.state for reply in rig.replies()] == ["assigned", "running", "completed"]
        assert rig.open_store(0).open_tasks(0) == []
        [directive] = rig.directives()
        assert isinstance(directive, RunAttempt)
        assert (directive.task_id, directive.attempt, directive.executor_id) == (TASK, 1, "ex-1")

    async def test_nothing_leaves_before_it_is_stored(self, rig: Rig) -> None:
        seen: list[int] = []

        def nothing_left(_batch: Batch) -> None:
            seen.append(len(rig.events(TASK)) + len(rig.replies()) + len(rig.directives()))

        async with rig.node() as node:
            await node.own()
            node.hear()
            node.stores[0].before_put = nothing_left
            node.stores[0].away = 2
            rig.submit(TASK)
            await node.round()
        assert seen == [0, 0, 0]
        assert rig.versions(TASK) == [1, 2, 3]

    async def test_records_that_were_applied_are_skipped_by_their_offset(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            rig.send(TASK, c.ReportHeartbeat(1, "ex-1", 0.5), id="")
            await node.round()
            replies = len(rig.replies())
            node.offsets[0] = 0
            await node.rounds()
            assert rig.versions(TASK) == [1, 2, 3, 4, 5]
            assert len(rig.replies()) == replies

    async def test_a_record_that_cannot_be_read_is_a_dead_letter_and_the_partition_goes_on(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            poison = rig.bus.append(rig.topics.commands, 0, b"\xff", b"\xfe", [("ce_type", b"\xff")])
            rig.submit(TASK)
            await node.round()
            assert rig.versions(TASK) == [1, 2]
            [letter] = rig.dead_letters()
            assert (letter.topic, letter.partition, letter.offset) == (poison.topic, 0, 0)
            assert (letter.value, letter.headers) == (b"\xfe", (("ce_type", b"\xff"),))
            assert letter.reason == "a header is not UTF-8 text"
            node.offsets[0] = 0
            await node.rounds()
            assert len(rig.dead_letters()) == 1

    async def test_an_unknown_kind_is_answered_and_is_a_dead_letter(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(TASK, kind="nonsense")
            await node.round()
        [reply], [letter] = rig.replies(), rig.dead_letters()
        assert reply.refusal is not None
        assert (reply.refusal.code, reply.refusal.field, letter.field) == ("invalid", "kind", "kind")
        assert reply.refusal.message == letter.reason
        assert rig.stored(TASK) == []

    async def test_a_kind_that_an_executor_announces_is_known(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear(kinds=("special",))
            rig.submit(TASK, kind="special")
            await node.round()
            assert node.memory.get(TASK).word == "assigned"  # type: ignore[union-attr]

    async def test_a_refusal_is_answered_and_is_a_dead_letter_unless_the_gateway_asked(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.send(TASK, c.CancelTask())
            rig.send(TASK, c.CancelTask(), source="/taskloom/gateway/1")
            await node.round()
        assert [reply.refusal.code for reply in rig.replies() if reply.refusal] == ["not_found", "not_found"]
        assert len(rig.dead_letters()) == 1

    async def test_a_command_under_a_key_of_another_partition_is_sent_on(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            sent = rig.send(TASK, c.SubmitTask(kind="echo"))
            other = task_on(1)
            rig.bus.append(rig.topics.commands, 2, other.encode(), sent.value, sent.headers)
            await node.rounds(2)
        assert rig.versions(other) == [1, 2]
        assert rig.dead_letters() == []

    async def test_a_submission_without_any_id_gets_one_from_its_place_and_is_applied_once(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            headers = [("ce_type", b"taskloom.task.submit.v1")]
            for partition in range(PARTITIONS):
                rig.bus.append(rig.topics.commands, partition, None, b'{"query": "hello"}', headers)
            await node.rounds(3)
            names = [f"k-t.commands-{partition}-0" for partition in range(PARTITIONS)]
            assert [rig.versions(name) for name in names] == [[1, 2]] * PARTITIONS

    async def test_one_bad_command_does_not_fail_its_batch(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        bad, good = TASK, task_on(0, "good")

        def faulty(state: TaskState | None, command: c.TaskCommand, now: object, caller: Caller) -> Decision:
            if caller.task_id == bad:
                raise RuntimeError("a fault of ours")
            return decide(state, command, now, caller)  # type: ignore[arg-type]

        monkeypatch.setattr(decisions, "decide", faulty)
        async with rig.node() as node:
            await node.own()
            rig.submit(bad)
            rig.submit(good)
            await node.round()
        assert (rig.stored(bad), rig.versions(good)) == ([], [1, 2])
        assert [letter.key for letter in rig.dead_letters()] == [bad]
        assert [reply.refusal.code if reply.refusal else "" for reply in rig.replies()] == ["unavailable", ""]

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

    async def test_timers_fire_when_their_time_comes(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(TASK, run_at=rig.now + timedelta(seconds=60), timeouts={"start_to_close_s": 5})
            await node.round()
            assert rig.published(TASK) == ["TaskSubmitted", "TaskScheduled"]
            assert rig.open_store(0).open_tasks(0)[0].due_at == rig.now + timedelta(seconds=60)
            rig.clock.forward(59)
            await node.round()
            assert node.loop.idle_s(100) == 1
            rig.clock.forward(1)
            await node.round()
            assert rig.published(TASK)[2:] == ["TaskQueued", "AttemptAssigned"]
            rig.send(TASK, c.ReportStarted(1, "ex-1"))
            await node.round()
            rig.clock.forward(15)
            await node.round()
            assert rig.published(TASK)[5:] == ["AttemptTimedOut", "RetryScheduled"]

    async def test_a_timer_that_leads_to_nothing_is_set_again(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(TASK, run_at=rig.now + timedelta(seconds=60))
            await node.round()
            rig.clock.forward(60)
            with monkeypatch.context() as patch:
                patch.setattr(decisions, "decide", lambda *_: [])
                await node.round()
            await node.round()
            assert rig.published(TASK)[-1] == "TaskQueued"

    async def test_large_input_is_stored_once_and_referenced(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(TASK, input={"text": "x" * 100_000})
            await node.round()
            submitted = rig.events(TASK)[0].event
            assert isinstance(submitted, e.TaskSubmitted)
            assert claimed_digest(submitted.spec.input) is not None
            rig.submit(TASK, input={"text": "x" * 100_000})
            await node.round()
            assert rig.versions(TASK) == [1, 2]
            assert rig.replies()[-1].data == {"repeated": True}

    async def test_an_event_that_kafka_would_not_take_is_refused(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            headers = [("ce_type", b"taskloom.attempt.report-completed.v1")]
            value = b'{"attempt":1,"executor_id":"ex-1","response":[%s]}' % b",".join([b"1e15"] * 200_000)
            rig.bus.append(rig.topics.commands, 0, TASK.encode(), value, headers)
            rig.send(TASK, c.ReportCompleted(1, "ex-1", result="small"))
            await node.round()
        assert rig.published(TASK)[-1] == "TaskCompleted"
        [letter] = rig.dead_letters()
        assert "send large values as a claim" in letter.reason

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

    async def test_another_tenant_is_told_nothing(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(TASK)
            await node.round()
            rig.send(TASK, c.ExplainTask(), tenant_id="rival")
            rig.submit(TASK, tenant_id="rival")
            await node.round()
        for reply in rig.replies()[1:]:
            assert reply.refusal is not None
            assert (reply.state, reply.version, reply.created_at, reply.refusal.state) == ("", 0, None, "")
        assert rig.versions(TASK) == [1, 2]

    async def test_why_names_the_gate(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(TASK)
            rig.send(TASK, c.ExplainTask())
            await node.round()
            assert [gate["gate"] for gate in rig.replies()[-1].data["gates"]] == ["executor"]

    async def test_a_repeated_command_id_changes_nothing_and_says_so(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(TASK)
            rig.send(TASK, c.PauseTask(), id="p")
            rig.send(TASK, c.ResumeTask(), id="r")
            rig.send(TASK, c.PauseTask(), id="p")
            await node.round()
        assert rig.published(TASK)[2:] == ["PauseRequested", "TaskPaused", "TaskResumed"]
        assert [reply.data for reply in rig.replies()] == [{}, {}, {}, {"repeated": True}]

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
