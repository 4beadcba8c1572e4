"""Workflows: a run and its steps in one transaction a hop. Subclasses bring the ``rig``."""

from typing import Any

from taskloom.domain.task import commands as c
from taskloom.store.batch import Batch
from taskloom.testing.memory import InMemoryRecord
from tests.component.orchestrator.rig import Node, Rig, task_on

RUN = task_on(1, "run")


def step(name: str, *needs: str, **fields: Any) -> dict[str, Any]:
    template = {"kind": "shell", "input": {"cmd": f"echo {name}"}, **fields}
    return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": template}


def plan(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"kind": "workflow", "session_id": "s-1", "input": {"definition": {"name": "p", "steps": steps, **fields}}}


THREE = plan(step("a"), step("b", "a"), step("c", "b"))


def kinds(events: Any) -> list[str]:
    return [type(recorded.event).__name__ for recorded in events]


async def ends(rig: Rig, node: Node, path: str, **fields: Any) -> None:
    rig.send(f"{RUN}~{path}", c.ReportCompleted(1, "ex-1", **fields))
    await node.round()


def commands_of(rig: Rig) -> list[InMemoryRecord]:
    return rig.bus.all(rig.topics.commands)


class WorkflowsSuite:
    async def test_each_hop_of_a_run_is_one_transaction_and_no_record_of_it_is_sent(self, rig: Rig) -> None:
        puts: list[list[str]] = []

        def note(batch: Batch) -> None:
            if batch.events:
                puts.append([f"{r.task_id.partition('~')[2] or 'run'}:{type(r.event).__name__}" for r in batch.events])

        async with rig.node() as node:
            await node.own()
            node.hear()
            for store in node.stores:
                store.before_put = note
            rig.submit(RUN, **THREE)
            await node.round()
            for path in "abc":
                await ends(rig, node, path, response={"step": path})
            state = node.memory.get(RUN)
        assert puts[0] == [
            *("run:TaskSubmitted", "run:WorkflowStarted", "run:StepScheduled"),
            *("a:TaskSubmitted", "a:TaskQueued", "a:AttemptAssigned"),
        ]
        assert puts[1] == [
            *("a:AttemptStarted", "a:TaskCompleted", "run:StepCompleted", "run:StepScheduled"),
            *("b:TaskSubmitted", "b:TaskQueued", "b:AttemptAssigned"),
        ]
        assert len(puts) == 4
        assert puts[-1][-3:] == ["run:StepCompleted", "run:WorkflowCompleted", "run:TaskCompleted"]
        assert state is not None
        assert state.word == "completed"
        assert rig.events(RUN)[-1].event.response["results"]["c"] == {"step": "c"}  # type: ignore[union-attr]
        assert len(commands_of(rig)) == 4

    async def test_a_step_bears_the_tenant_the_session_and_the_place_of_its_run(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(RUN, tenant_id="acme", **plan(step("a", metadata={"k": 1}), step("b", session_id="own")))
            await node.round()
            first, second = node.memory.get(f"{RUN}~a"), node.memory.get(f"{RUN}~b")
        assert first is not None
        assert second is not None
        assert (first.spec.tenant_id, first.spec.session_id, second.spec.session_id) == ("acme", "s-1", "own")
        assert first.spec.metadata == {"k": 1, "workflow_id": RUN, "workflow_step_id": "a"}

    async def test_a_step_that_nobody_could_run_fails_the_run_and_says_why(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(RUN, **plan(step("a", kind="{{ 'no-such' }}-kind")))
            await node.round()
            state = node.memory.get(RUN)
        assert state is not None
        assert state.error is not None
        assert state.word == "failed"
        assert "no executor runs the kind 'no-such-kind'" in state.error.message
        assert rig.published(f"{RUN}~a") == []

    async def test_a_step_cannot_read_a_stored_value_of_somebody_else(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            claim = {"$claim": f"sha256:{'0' * 64}", "$bytes": 9}
            rig.submit(RUN, **plan(step("a", kind="echo", input=claim)))
            await node.round()
            state = node.memory.get(RUN)
        assert state is not None
        assert state.word == "failed"

    async def test_a_cancel_of_the_run_stops_what_runs(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(step("a"), step("b", executor_id="ex-2")))
            await node.round()
            rig.send(RUN, c.CancelTask("enough"))
            await node.round()
            assert node.memory.get(f"{RUN}~b").word == "cancelled"  # type: ignore[union-attr]
            assert node.memory.get(RUN).word == "cancelling"  # type: ignore[union-attr]
            rig.send(f"{RUN}~a", c.ReportStopped(1, "ex-1"))
            await node.round()
            assert node.memory.get(RUN).word == "cancelled"  # type: ignore[union-attr]

    async def test_a_run_goes_on_after_its_owner_died_before_it_published(self, rig: Rig) -> None:
        async with rig.node("o-1", publishes=False) as dying:
            await dying.own()
            dying.hear()
            rig.submit(RUN, **THREE)
            await dying.round(publish=False)
            rig.send(f"{RUN}~a", c.ReportCompleted(1, "ex-1"))
            await dying.round(publish=False)
            before = dying.memory.get(RUN)
        assert rig.published(RUN) == []
        async with rig.node("o-2") as new:
            new.hear()
            await new.own()
            assert new.memory.get(RUN) == before
            assert rig.published(f"{RUN}~b") == ["TaskSubmitted", "TaskQueued", "AttemptAssigned"]
            for path in "bc":
                await ends(rig, new, path)
            assert new.memory.get(RUN).word == "completed"  # type: ignore[union-attr]
        assert len(commands_of(rig)) == 4
        for name in (RUN, f"{RUN}~a", f"{RUN}~b", f"{RUN}~c"):
            assert rig.versions(name) == list(range(1, len(rig.stored(name)) + 1))

    async def test_the_timer_of_a_run_survives_a_take_over(self, rig: Rig) -> None:
        async with rig.node("o-1") as old:
            await old.own()
            rig.submit(RUN, **plan({"step_type": "wait", "id": "nap", "wait_seconds": 60}))
            await old.round()
        async with rig.node("o-2") as new:
            await new.own()
            rig.clock.forward(60)
            await new.round()
        assert rig.published(RUN)[-3:] == ["StepCompleted", "WorkflowCompleted", "TaskCompleted"]

    async def test_a_workflow_within_a_workflow_ends_its_step(self, rig: Rig) -> None:
        inner = {"name": "inner", "steps": [step("x")]}
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan({"step_type": "child", "id": "sub", "definition": inner}))
            await node.round()
            await ends(rig, node, "sub~x", result="done")
            state = node.memory.get(RUN)
        assert state is not None
        assert state.word == "completed"

    async def test_a_large_result_of_a_run_is_stored_apart(self, rig: Rig) -> None:
        steps = [{"step_type": "map", "id": "m", "items": list(range(20)), "task_template": {"kind": "echo"}}]
        claims: list[tuple[str, bytes]] = []
        async with rig.node() as node:
            await node.own()
            for store in node.stores:
                store.before_put = lambda batch: claims.extend(batch.claims)
            node.hear(slots=20)
            rig.submit(RUN, **plan(*steps, max_parallel_tasks=20))
            await node.round()
            for at in range(20):
                rig.send(f"{RUN}~m.{at}", c.ReportCompleted(1, "ex-1", response={"text": "x" * 60_000}))
            await node.round()
            state = node.memory.get(RUN)
        assert state is not None
        assert state.word == "completed"
        assert [len(value) > 1_200_000 for _, value in claims] == [True]
        assert "$claim" in rig.events(RUN)[-1].event.response  # type: ignore[union-attr]

    async def test_nobody_outside_can_submit_a_step(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit(f"{RUN}~a")
            await node.round()
        assert [letter.field for letter in rig.dead_letters()] == ["key"]
        assert rig.published(f"{RUN}~a") == []

    async def test_a_step_that_no_executor_can_take_says_so_in_why(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(step("a", capabilities=["gpu"])))
            await node.round()
            rig.send(f"{RUN}~a", c.ExplainTask())
            await node.round()
        gates = rig.replies()[-1].data["gates"]
        assert any(gate["gate"] == "capability" and "gpu" in gate["detail"] for gate in gates), gates

    async def test_a_run_comes_back_from_its_snapshot_and_goes_on(self, rig: Rig) -> None:
        items = {"step_type": "map", "id": "m", "items": list(range(40)), "task_template": {"kind": "echo"}}
        async with rig.node("o-1") as old:
            await old.own()
            old.hear(slots=40)
            rig.submit(RUN, **plan(items, max_parallel_tasks=5))
            await old.rounds(2)
            for at in range(20):
                await ends(rig, old, f"m.{at}", response={"at": at})
            before = old.memory.get(RUN)
        [history] = rig.open_store(1).load([RUN]).values()
        assert history.snapshot is not None
        assert 0 < len(history.events) < history.version
        async with rig.node("o-2") as new:
            await new.own()
            assert new.memory.get(RUN) == before
            new.hear(slots=40)
            for at in range(20, 40):
                await ends(rig, new, f"m.{at}", response={"at": at})
            assert new.memory.get(RUN).word == "completed"  # type: ignore[union-attr]
        result = rig.events(RUN)[-1].event.response  # type: ignore[union-attr]
        assert result["results"]["m"]["results"] == [{"at": at} for at in range(40)]
