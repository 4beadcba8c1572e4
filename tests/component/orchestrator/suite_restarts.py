"""Workflows that ended badly and go on. Subclasses bring the ``rig``."""

from typing import Any

from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo
from taskloom.testing.memory import InMemoryRecord
from taskloom.wire.commands import command_type
from taskloom.wire.recorded import chain_fault
from tests.component.orchestrator.rig import Node, Rig
from tests.component.orchestrator.suite_workflows import RUN, THREE, ends, plan, step

FINAL = ErrorInfo("ValueError", "boom", retryable=False)
INNER = {"name": "inner", "steps": [step("x"), step("y", "x")]}
AROUND = plan({"step_type": "child", "id": "c", "definition": INNER}, step("after", "c"))


async def fails(rig: Rig, node: Node, path: str, attempt: int = 1) -> None:
    rig.send(f"{RUN}~{path}", c.ReportFailed(attempt, "ex-1", FINAL))
    await node.round()


async def begun(rig: Rig, node: Node, submission: dict[str, Any]) -> None:
    await node.own()
    node.hear()
    rig.submit(RUN, **submission)
    await node.round()


def word(node: Node, path: str = "") -> str:
    state = node.memory.get(f"{RUN}~{path}" if path else RUN)
    return "" if state is None else state.word


def _is_retry_of_child(record: InMemoryRecord) -> bool:
    return ("ce_type", command_type(c.RetryChild()).encode()) in record.headers


class RestartsSuite:
    async def test_a_run_that_failed_goes_on_where_it_failed(self, rig: Rig) -> None:
        async with rig.node() as node:
            await begun(rig, node, THREE)
            await ends(rig, node, "a", response={"variables": {"n": 1}})
            await fails(rig, node, "b")
            assert word(node) == "failed"
            rig.send(RUN, c.RetryTask("mended"))
            await node.round()
            assert (word(node), word(node, "b..2")) == ("running", "assigned")
            await ends(rig, node, "b..2")
            await ends(rig, node, "c..2", response=3)
            assert word(node) == "completed"
        assert rig.published(f"{RUN}~a").count("AttemptAssigned") == 1
        assert rig.published(RUN).count("TaskRetried") == rig.published(RUN).count("WorkflowRetried") == 1
        assert chain_fault(recorded.body for recorded in rig.stored(RUN)) is None
        assert rig.open_store(0).open_tasks(0) == []

    async def test_another_owner_goes_on_with_it_and_a_report_of_the_life_before_is_ignored(self, rig: Rig) -> None:
        async with rig.node() as node:
            await begun(rig, node, plan(step("a"), step("b"), fail_fast=True))
            await fails(rig, node, "a")
            await node.round()
            assert word(node) == "running", "b is told to stop first"
            rig.send(f"{RUN}~b", c.ReportStopped(1, "ex-1"))
            await node.round()
            assert word(node) == "failed"
        async with rig.node("o-2") as other:
            await other.own()
            other.hear()
            rig.send(RUN, c.RetryTask())
            await other.rounds(2)
            assert (word(other), word(other, "a..2"), word(other, "b..2")) == ("running", "assigned", "assigned")
            rig.send(f"{RUN}~b", c.ReportCompleted(1, "ex-1"))
            await ends(rig, other, "a..2")
            assert word(other) == "running"
            await ends(rig, other, "b..2")
            assert word(other) == "completed"
        assert "ReportIgnored" in rig.published(f"{RUN}~b")

    async def test_a_child_workflow_goes_on_too_though_it_left_memory(self, rig: Rig) -> None:
        async with rig.node() as node:
            await begun(rig, node, AROUND)
            await ends(rig, node, "c~x")
            await fails(rig, node, "c~y")
            assert (word(node), word(node, "c")) == ("failed", "failed")
        async with rig.node("o-2") as other:
            await other.own()
            other.hear()
            rig.send(RUN, c.RetryTask())
            await other.rounds(3)
            assert (word(other), word(other, "c"), word(other, "c~y..2")) == ("running", "running", "assigned")
            await ends(rig, other, "c~y..2")
            await ends(rig, other, "after..2")
            assert word(other) == "completed"
        assert rig.published(f"{RUN}~c~x").count("AttemptAssigned") == 1
        assert rig.published(f"{RUN}~c").count("TaskRetried") == 1

    async def test_a_child_workflow_that_cannot_go_on_fails_its_step_and_is_new_the_next_time(self, rig: Rig) -> None:
        async with rig.node() as node:
            await begun(rig, node, AROUND)
            await fails(rig, node, "c~x")
            rig.send(f"{RUN}~c", c.DeleteTask())
            await node.round()
            rig.send(RUN, c.RetryTask())
            await node.rounds(3)
            assert word(node) == "failed"
            rig.send(RUN, c.RetryTask())
            await node.round()
            assert (word(node), word(node, "c..3~x")) == ("running", "assigned")

    async def test_a_run_that_is_cancelled_while_its_child_is_asked_to_go_on_leaves_it_ended(self, rig: Rig) -> None:
        async with rig.node() as node:
            await begun(rig, node, AROUND)
            await fails(rig, node, "c~x")
            rig.send(RUN, c.RetryTask())
            rig.send(RUN, c.CancelTask("changed my mind"))
            await node.rounds(3)
            assert (word(node), word(node, "c")) == ("cancelled", "failed")

    async def test_a_repeated_wish_of_the_run_changes_nothing(self, rig: Rig) -> None:
        async with rig.node() as node:
            await begun(rig, node, AROUND)
            await fails(rig, node, "c~x")
            rig.send(RUN, c.RetryTask())
            await node.rounds(2)
            [asked] = [one for one in rig.bus.all(rig.topics.commands) if _is_retry_of_child(one)]
            rig.bus.append(asked.topic, asked.partition, asked.key or b"", asked.value, asked.headers)
            await node.rounds(2)
            assert rig.published(f"{RUN}~c").count("TaskRetried") == 1
            assert word(node) == "running"

    async def test_what_was_undone_is_refused_and_begins_at_the_start(self, rig: Rig) -> None:
        undo = {**step("a"), "compensation": [step("u")]}
        async with rig.node() as node:
            await begun(rig, node, plan(undo, step("b", "a"), on_failure="compensate"))
            await ends(rig, node, "a")
            await fails(rig, node, "b")
            await ends(rig, node, "a.undo.u")
            assert word(node) == "failed"
            version = len(rig.stored(RUN))
            rig.send(RUN, c.RetryTask())
            await node.round()
            assert (word(node), len(rig.stored(RUN))) == ("failed", version)
            rig.send(RUN, c.RetryTask(start="start"))
            await node.round()
            assert (word(node), word(node, "a..2")) == ("running", "assigned")
