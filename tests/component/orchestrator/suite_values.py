"""Large results of steps: kept apart, and at hand where an expression names them. Subclasses bring the ``rig``."""

from typing import Any

import msgspec

from services.orchestrator.values import CACHE_BYTES
from taskloom.domain.task import commands as c
from taskloom.domain.workflow.values import ref_of
from taskloom.store.batch import Batch
from taskloom.wire.claims import check_in, is_claim
from tests.component.orchestrator.rig import Node, Rig, task_on
from tests.component.orchestrator.suite_workflows import RUN, ends, plan, step

TEXT = "x" * 300_000


def echo(name: str, *needs: str, **given: Any) -> dict[str, Any]:
    return step(name, *needs, kind="echo", input=given)


def put(node: Node, value: Any) -> dict[str, Any]:
    """What an executor does with a large result before it reports it; gives its claim."""
    reference, stored = check_in(value)
    assert stored is not None
    node.stores[0]._store.put(Batch(claims=[stored]))
    return reference  # type: ignore[no-any-return]


def value_of(rig: Rig, reference: Any) -> Any:
    ref = ref_of(reference)
    assert ref is not None
    for shard in range(2):
        found = rig.open_store(shard).claims([ref.digest])
        if found:
            return msgspec.json.decode(found[ref.digest])
    raise AssertionError("it is not stored")


def sizes_of(rig: Rig, task_id: str) -> int:
    return max(len(recorded.body) for recorded in rig.stored(task_id))


class ValuesSuite:
    async def test_a_large_result_is_the_input_of_the_next_step(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(echo("a"), echo("b", "a", whole="{{ steps.a.result }}", n="{{ len(result.text) }}")))
            await node.round()
            await ends(rig, node, "a", response=put(node, {"text": TEXT}))
            state = node.memory.get(f"{RUN}~b")
        assert state is not None
        assert is_claim(state.spec.input)
        assert value_of(rig, state.spec.input) == {"whole": {"text": TEXT}, "n": len(TEXT)}
        assert sizes_of(rig, RUN) < 10_000
        assert sizes_of(rig, f"{RUN}~b") < 10_000

    async def test_a_step_and_the_one_that_takes_its_large_result_are_one_batch(self, rig: Rig) -> None:
        puts: list[set[str]] = []
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(echo("a"), echo("b", "a", whole="{{ steps.a.result }}")))
            await node.round()
            claim = put(node, {"text": TEXT})
            for store in node.stores:
                store.before_put = lambda batch: puts.append({recorded.task_id for recorded in batch.events})
            await ends(rig, node, "a", response=claim)
        assert {RUN, f"{RUN}~a", f"{RUN}~b"} in puts

    async def test_a_large_result_that_comes_inline_is_stored_apart(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(echo("a"), echo("b", "a", whole="{{ steps.a.result.text }}")))
            await node.round()
            await ends(rig, node, "a", response={"text": TEXT})
            state = node.memory.get(f"{RUN}~b")
        assert state is not None
        assert value_of(rig, state.spec.input) == {"whole": TEXT}
        assert sizes_of(rig, RUN) < 10_000

    async def test_the_variables_of_a_large_result_are_merged(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(echo("a"), echo("b", "a", n="{{ n }}")))
            await node.round()
            await ends(rig, node, "a", response=put(node, {"text": TEXT, "variables": {"n": 5}}))
            state = node.memory.get(f"{RUN}~b")
        assert state is not None
        assert state.spec.input == {"n": 5}

    async def test_conditions_loops_and_maps_see_large_results(self, rig: Rig) -> None:
        large = {"text": TEXT, "n": 3, "rows": [1, 2]}
        choice = {
            "step_type": "conditional",
            "id": "if",
            "depends_on": ["a"],
            "condition": {"field": "n", "operator": "equals", "value": 3, "source": "result"},
            "true_steps": [echo("yes")],
        }
        each = {
            "step_type": "map",
            "id": "m",
            "depends_on": ["a"],
            "items": "steps.a.result.rows",
            "task_template": {"kind": "echo", "input": {"row": "{{ item }}"}},
        }
        waits = {"step_type": "wait", "id": "w", "wait_condition": "exists(steps.a.result.rows)"}
        async with rig.node() as node:
            await node.own()
            node.hear(slots=10)
            rig.submit(RUN, **plan(echo("a"), choice, each, waits))
            await node.round()
            await ends(rig, node, "a", response=put(node, large))
            for path in ("if.yes", "m.0", "m.1"):
                await ends(rig, node, path)
            assert node.memory.get(RUN).word == "completed"  # type: ignore[union-attr]

    async def test_a_new_owner_fetches_what_a_decision_needs(self, rig: Rig) -> None:
        steps = [echo("a"), echo("other"), echo("b", "a", "other", whole="{{ steps.a.result }}")]
        waits = {"step_type": "wait", "id": "w", "wait_condition": "exists(later) and len(steps.a.result.text) > 3"}
        async with rig.node("o-1") as old:
            await old.own()
            old.hear(slots=10)
            rig.submit(RUN, **plan(*steps, waits))
            await old.round()
            await ends(rig, old, "a", response=put(old, {"text": TEXT}))
        async with rig.node("o-2") as new:
            await new.own()
            new.hear(slots=10)
            await ends(rig, new, "other")
            await new.rounds(2)
            assert new.memory.get(f"{RUN}~b") is not None
            rig.send(RUN, c.PatchVariables({"later": 1}))
            await new.rounds(3)
            await ends(rig, new, "b")
            assert new.memory.get(RUN).word == "completed"  # type: ignore[union-attr]

    async def test_a_result_that_is_stored_nowhere_fails_the_step_that_needs_it(self, rig: Rig) -> None:
        lost = {"$claim": f"sha256:{'0' * 64}", "bytes": 100_000}
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(echo("a"), echo("b", "a", whole="{{ steps.a.result }}")))
            await node.round()
            await ends(rig, node, "a", response=lost)
            state = node.memory.get(RUN)
        assert state is not None
        assert state.error is not None
        assert "stored nowhere" in state.error.message

    async def test_more_than_fits_into_memory_is_refused_and_not_tried_for_ever(self, rig: Rig) -> None:
        many = [echo(f"s{n}") for n in range(3)]
        names = {f"v{n}": f"{{{{ steps.s{n}.result.a }}}}" for n in range(3)}
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(*many, echo("all", "s0", "s1", "s2", **names)))
            await node.round()
            for n in range(3):
                claim = {**put(node, {"a": n, "text": TEXT}), "bytes": CACHE_BYTES // 5}
                await ends(rig, node, f"s{n}", response=claim)
            state = node.memory.get(RUN)
        assert state is not None
        assert state.error is not None
        assert state.error.type == "TooLarge"

    async def test_an_object_that_looks_like_a_reference_is_an_object(self, rig: Rig) -> None:
        """Whoever knows the hash of another tenant's value must not get the value for it."""
        theirs = task_on(1, "theirs")
        signal = {"step_type": "signal", "id": "s", "signal": "go", "depends_on": ["a"]}
        async with rig.node() as node:
            await node.own()
            node.hear(slots=10)
            claim = put(node, {"secret": TEXT})
            rig.submit(
                theirs, **plan(echo("a"), signal, echo("b", "s", x="{{ v }}", y="{{ steps.s.result }}", z=claim))
            )
            await node.round()
            rig.send(f"{theirs}~a", c.ReportCompleted(1, "ex-1", response={"nested": claim, "variables": {"v": claim}}))
            rig.send(theirs, c.SignalTask("go", claim))
            await node.round()
            state = node.memory.get(f"{theirs}~b")
        assert state is not None
        assert state.spec.input == {"x": claim, "y": claim, "z": claim}

    async def test_a_run_that_goes_to_another_workflow_hands_on_its_large_results(self, rig: Rig) -> None:
        inner = {"name": "inner", "steps": [echo("x")]}
        child = {"step_type": "child", "id": "sub", "definition": inner}
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(child, echo("b", "sub", text="{{ steps.sub.result.results.x.text }}")))
            await node.round()
            await ends(rig, node, "sub~x", response=put(node, {"text": TEXT}))
            state = node.memory.get(f"{RUN}~b")
        assert state is not None
        assert value_of(rig, state.spec.input) == {"text": TEXT}
