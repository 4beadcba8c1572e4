"""Runs that go wrong inside, and runs that have much to do: nothing loops, nothing is held up. With a ``rig``."""

from typing import Any

import pytest

from services.orchestrator.faults import MAX_TRIES
from services.orchestrator.steps import BATCH_EVENTS
from taskloom.domain.task import commands as c
from taskloom.domain.workflow import starting
from taskloom.store.batch import Batch
from tests.component.bad_workflows import BAD
from tests.component.orchestrator.rig import Node, Rig, task_on
from tests.component.orchestrator.suite_workflows import RUN, ends, plan, step

SLACK = 600
"""Events of decisions under way when a batch became large enough."""


def _broken(*_: Any) -> None:
    raise RuntimeError("a fault inside")


def nap(name: str, seconds: float, *needs: str) -> dict[str, Any]:
    return {"step_type": "wait", "id": name, "wait_seconds": seconds, "depends_on": list(needs)}


async def _until_over(rig: Rig, node: Node, sizes: list[int], limit: int = 2_000) -> None:
    """Rounds until the run has ended; notes how many events each batch has."""
    for store in node.stores:
        store.before_put = lambda batch: sizes.append(len(batch.events))
    for _ in range(limit):
        await node.round()
        if node.memory.get(RUN).ended:  # type: ignore[union-attr]
            return
    raise AssertionError("the run does not end")


class RunsSuite:
    async def test_a_timer_that_cannot_be_applied_is_tried_a_few_times_and_then_ends_its_run(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(
                RUN, **plan(step("a"), nap("w", 60), {"step_type": "checkpoint", "id": "c", "depends_on": ["w"]})
            )
            await node.round()
            monkeypatch.setitem(starting._STARTS, "checkpoint", _broken)
            rig.clock.forward(60)
            tries = 0
            for _ in range(200):
                version = node.memory.get(RUN).version  # type: ignore[union-attr]
                await node.round()
                assert node.memory.get(RUN).version == version or node.memory.get(RUN).ended  # type: ignore[union-attr]
                if node.memory.get(RUN).ended:  # type: ignore[union-attr]
                    break
                pause_s = node.loop.idle_s(3600)
                assert pause_s > 0, "it is not tried again and again in between"
                tries += 1
                rig.clock.forward(pause_s)
            state = node.memory.get(RUN)
            await node.round()
        assert state is not None
        assert state.error is not None
        assert (state.word, state.error.type, tries) == ("failed", "Broken", MAX_TRIES - 1)
        assert "a fault inside" in state.error.message
        assert rig.published(f"{RUN}~a")[-1] == "CancelRequested"

    async def test_an_end_that_cannot_be_taken_down_ends_the_run(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(step("a"), {"step_type": "checkpoint", "id": "c", "depends_on": ["a"]}))
            await node.round()
            monkeypatch.setattr("taskloom.domain.workflow.settle._step_or_run", _broken)
            await ends(rig, node, "a")
            state = node.memory.get(RUN)
        assert state is not None
        assert state.error is not None
        assert (state.word, "the end of step a" in state.error.message) == ("failed", True)

    async def test_a_loop_of_empty_rounds_goes_on_in_batches_of_a_fair_size(self, rig: Rig) -> None:
        body = [{"step_type": "checkpoint", "id": "c"}]
        sizes: list[int] = []
        async with rig.node() as node:
            await node.own()
            rig.submit(RUN, **plan({"step_type": "loop", "id": "l", "max_iterations": 3_000, "loop_steps": body}))
            await _until_over(rig, node, sizes)
            assert node.memory.get(RUN).word == "completed"  # type: ignore[union-attr]
        assert max(sizes) <= BATCH_EVENTS + SLACK
        assert 3 <= len(sizes) <= 20

    async def test_a_map_that_is_as_wide_as_it_is_long_goes_out_in_batches(self, rig: Rig) -> None:
        wide = {"step_type": "map", "id": "m", "items": list(range(3_000)), "task_template": {"kind": "echo"}}
        sizes: list[int] = []
        async with rig.node() as node:
            await node.own()
            rig.submit(RUN, **plan(wide, max_parallel_tasks=3_000))
            for store in node.stores:
                store.before_put = lambda batch: sizes.append(len(batch.events))
            while len(node.memory.open_states()) < 3_001:
                await node.round()
            assert max(sizes) <= BATCH_EVENTS + SLACK
            rig.send(RUN, c.CancelTask("enough"))
            sizes.clear()
            await _until_over(rig, node, sizes)
            assert node.memory.get(RUN).word == "cancelled"  # type: ignore[union-attr]
        assert max(sizes) <= BATCH_EVENTS + SLACK
        assert not [state for state in node.memory.open_states() if not state.ended]

    async def test_child_workflows_that_end_at_once_do_not_run_through_in_one_batch(self, rig: Rig) -> None:
        inner = {"name": "i", "steps": [{"step_type": "checkpoint", "id": "c"}]}
        body = [{"step_type": "child", "id": "w", "definition": inner}]
        sizes: list[int] = []
        async with rig.node() as node:
            await node.own()
            rig.submit(RUN, **plan({"step_type": "loop", "id": "l", "max_iterations": 600, "loop_steps": body}))
            await _until_over(rig, node, sizes)
            assert node.memory.get(RUN).word == "completed"  # type: ignore[union-attr]
        assert max(sizes) <= 2 * BATCH_EVENTS + SLACK
        assert len(sizes) > 1

    async def test_long_work_survives_the_death_of_its_owner_at_any_batch(self, rig: Rig) -> None:
        body = [{"step_type": "checkpoint", "id": "c"}]
        async with rig.node("o-1") as old:
            await old.own()
            rig.submit(RUN, **plan({"step_type": "loop", "id": "l", "max_iterations": 1_500, "loop_steps": body}))
            await old.round()
            assert not old.memory.get(RUN).ended  # type: ignore[union-attr]
        async with rig.node("o-2") as new:
            await new.own()
            await _until_over(rig, new, [])
            assert new.memory.get(RUN).word == "completed"  # type: ignore[union-attr]

    async def test_other_tasks_are_decided_between_the_parts_of_long_work(self, rig: Rig) -> None:
        other = task_on(1, "other")
        body = [{"step_type": "checkpoint", "id": "c"}]
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan({"step_type": "loop", "id": "l", "max_iterations": 5_000, "loop_steps": body}))
            await node.round()
            rig.submit(other)
            await node.round()
            assert rig.published(other)[-1] == "AttemptAssigned"
            assert not node.memory.get(RUN).ended  # type: ignore[union-attr]

    async def test_an_ordinary_step_and_the_next_are_one_batch_in_a_large_round_too(self, rig: Rig) -> None:
        """I6: what follows a report at once is stored with it, however many reports came."""
        puts: list[Batch] = []
        runs = [task_on(1, f"r{n}") for n in range(300)]
        async with rig.node() as node:
            await node.own()
            node.hear(slots=300)
            for name in runs:
                rig.submit(name, **plan(step("a"), step("b", "a")))
            await node.rounds(2)
            for name in runs:
                rig.send(f"{name}~a", c.ReportCompleted(1, "ex-1"))
            for store in node.stores:
                store.before_put = puts.append
            await node.round()
            assert all(node.memory.get(f"{name}~b") is not None for name in runs)
        by_task = [{recorded.task_id for recorded in batch.events} for batch in puts]
        for name in runs:
            assert any({f"{name}~a", name, f"{name}~b"} <= names for names in by_task)

    @pytest.mark.parametrize("case", BAD)
    async def test_a_faulty_definition_goes_to_the_dead_letters_with_the_path_of_the_fault(
        self, rig: Rig, case: str
    ) -> None:
        steps, field = BAD[case]
        async with rig.node() as node:
            await node.own()
            rig.submit(RUN, **plan(*steps))
            await node.round()
        assert [letter.field for letter in rig.dead_letters()] == [f"input.definition.{field}"]
        assert [reply.refusal.field for reply in rig.replies() if reply.refusal] == [f"input.definition.{field}"]
        assert rig.published(RUN) == []
