"""Tasks that begin anew, are changed or deleted. Subclasses bring the ``rig``."""

from datetime import timedelta

from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo
from taskloom.wire.recorded import chain_fault
from tests.component.orchestrator.rig import TASK, Rig, run, task_on

FINAL = ErrorInfo("ValueError", "boom", retryable=False)


class ChangesSuite:
    async def test_a_retried_task_is_open_again_after_a_take_over_too(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node, timeouts={"total_s": 60})
            rig.send(TASK, c.ReportFailed(1, "ex-1", FINAL))
            await node.round()
            assert rig.open_store(0).open_tasks(0) == []
            node.pool.refuse("ex-1")
            rig.send(TASK, c.RetryTask("mended"))
            await node.round()
            [row] = rig.open_store(0).open_tasks(0)
            assert row.due_at == rig.now + timedelta(seconds=60)
        async with rig.node("o-2") as other:
            await other.own()
            other.hear()
            await other.rounds(2)
            rig.send(TASK, c.ReportCompleted(1, "ex-1"))
            rig.send(TASK, c.ReportCompleted(2, "ex-1"))
            await other.round()
        assert rig.published(TASK)[-3:] == ["ReportIgnored", "AttemptStarted", "TaskCompleted"]
        assert rig.open_store(0).open_tasks(0) == []
        assert chain_fault(recorded.body for recorded in rig.stored(TASK)) is None

    async def test_a_retry_of_a_task_that_left_memory_finds_it_in_the_store(self, rig: Rig) -> None:
        async with rig.node(ended_kept=1) as node:
            await node.own()
            await run(rig, node)
            rig.send(TASK, c.ReportFailed(1, "ex-1", FINAL))
            await node.round()
            other = task_on(0, "other")
            rig.submit(other)
            rig.send(other, c.CancelTask())
            rig.send(other, c.ReportStopped(1, "ex-1"))
            await node.rounds(2)
            assert node.memory.get(TASK) is None
            rig.send(TASK, c.RetryTask())
            await node.round()
            assert node.memory.get(TASK) is not None
        assert rig.published(TASK)[-3:] == ["TaskRetried", "TaskQueued", "AttemptAssigned"]

    async def test_a_deleted_task_is_closed_and_answers_as_if_it_were_not_there(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await run(rig, node)
            rig.send(TASK, c.DeleteTask("by mistake"))
            await node.round()
            rig.send(TASK, c.ReportStopped(1, "ex-1"))
            rig.send(TASK, c.CancelTask())
            rig.send(TASK, c.DeleteTask())
            await node.round()
        assert rig.published(TASK)[-2:] == ["TaskCancelled", "TaskDeleted"]
        assert rig.open_store(0).open_tasks(0) == []
        *_, cancelled, deleted = rig.replies()
        assert cancelled.refusal is not None
        assert (cancelled.refusal.code, deleted.refusal, deleted.state) == ("not_found", None, "deleted")

    async def test_a_queue_that_nobody_serves_is_refused_from_kafka_too(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(TASK)
            rig.send(TASK, c.UpdateTask(queue="nobody-serves-this"))
            await node.round()
        [letter] = rig.dead_letters()
        assert letter.field == "queue"
