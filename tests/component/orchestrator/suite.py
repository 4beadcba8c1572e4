"""How the command loop treats commands, whatever store is below it. Subclasses bring the ``rig``."""

from collections.abc import Iterable
from datetime import timedelta

import pytest

from services.orchestrator import decisions
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.decide import Decision, decide
from taskloom.domain.task.directives import RunAttempt
from taskloom.domain.task.state import TaskState
from taskloom.store.batch import Batch
from taskloom.wire.claims import claimed_digest
from taskloom.wire.recorded import chain_fault
from tests.component.orchestrator.rig import PARTITIONS, TASK, Rig, run, task_on


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

    async def test_what_is_sent_on_is_in_kafka_before_its_offset_is_stored(self, rig: Rig) -> None:
        """Else a crash in between would lose an acknowledged command, or a dead letter."""
        other = task_on(1)
        seen: list[tuple[int, int]] = []
        async with rig.node() as node:
            await node.own()
            sent = rig.send(other, c.SubmitTask(kind="echo"))
            await node.round()
            rig.bus.append(rig.topics.commands, 2, other.encode(), sent.value, sent.headers)
            rig.bus.append(rig.topics.commands, 2, b"x", b"poison", [("ce_type", b"taskloom.task.submit.v1")])
            before = len(rig.bus.read(rig.topics.commands, 1))

            def look(_batch: Batch) -> None:
                sent_on = len(rig.bus.read(rig.topics.commands, 1)) - before
                seen.append((sent_on, len(rig.dead_letters())))

            for store in node.stores:
                store.before_put = look
            await node.round()
        assert seen == [(1, 1)]

    async def test_a_new_id_of_the_gateway_costs_no_look_and_one_sent_twice_is_one_task(self, rig: Rig) -> None:
        gateway = {"source": "/taskloom/gateway", "id": "command-1"}
        async with rig.node("o-1") as old:
            await old.own()
            rig.send(TASK, c.SubmitTask(kind="echo"), **gateway, reply_to="")
            await old.round()
        async with rig.node("o-2", ended_kept=1) as new:
            await new.own()
            new.memory.drop(range(PARTITIONS))
            looks: list[str] = []
            load = new.owner.load_missing

            async def watched(names: Iterable[str]) -> None:
                looked = list(names)
                looks.extend(looked)
                await load(looked)

            new.owner.load_missing = watched  # type: ignore[method-assign,assignment]
            rig.send(TASK, c.SubmitTask(kind="echo"), **gateway, reply_to="")
            await new.rounds(3)
        assert [recorded.version for recorded in rig.stored(TASK)] == [1, 2]
        assert looks == [TASK], "at first nobody looks, after the conflict once"

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
