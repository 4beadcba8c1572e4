"""Forks: a new task made of another one as it was. Subclasses bring the ``rig``."""

from typing import Any

from taskloom.domain.task import commands as c
from taskloom.domain.values import Fork, ForkedFrom
from taskloom.domain.workflow.wanted import child_id
from tests.component.orchestrator.rig import Node, Rig
from tests.component.orchestrator.suite_values import TEXT, echo, put, value_of
from tests.component.orchestrator.suite_workflows import RUN, ends, kinds, plan, step

FORK = f"{RUN}-fork"


async def forked(rig: Rig, node: Node, source: str, to: str = FORK, at: int | None = None, **overrides: Any) -> Any:
    """The reply."""
    rig.send(to, c.SubmitTask(fork=Fork(source, at, overrides)))
    await node.round()
    return rig.replies()[-1]


class ForksSuite:
    async def test_a_fork_is_the_same_task_with_the_changes_and_says_where_it_comes_from(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit("a", kind="shell", input={"cmd": "date", "env": {"TZ": "UTC", "LANG": "C"}}, tags=["x"])
            await node.round()
            reply = await forked(rig, node, "a", input={"env": {"TZ": None}, "cwd": "/tmp"}, priority=4)
            again = await forked(rig, node, "a", input={"env": {"TZ": None}, "cwd": "/tmp"}, priority=4)
            other = await forked(rig, node, "a", priority=5)
            spec = node.memory.get(FORK).spec  # type: ignore[union-attr]
        assert reply.refusal is None
        assert again.data == {"repeated": True}
        assert other.refusal.code == "conflict"
        assert spec.input == {"cmd": "date", "env": {"LANG": "C"}, "cwd": "/tmp"}
        assert (spec.tags, spec.priority) == (("x",), 4)
        assert spec.forked_from == ForkedFrom("a", 2)
        assert spec.metadata == {"forked_from": "a", "forked_at": 2}

    async def test_what_cannot_be_forked_is_refused_with_the_field(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            rig.submit("a", kind="shell", input={"cmd": "date"})
            rig.submit("theirs", kind="shell", input={"cmd": "date"}, tenant_id="red")
            await node.round()
            replies = [
                await forked(rig, node, "nobody"),
                await forked(rig, node, "theirs"),
                await forked(rig, node, "a", at=99),
                await forked(rig, node, "a", input={"cmd": None}),
                await forked(rig, node, "a", nonsense=1),
                await forked(rig, node, "a", priority=[]),
                await forked(rig, node, "a", kind="nobody-has-it"),
                await forked(rig, node, "a", task_id="b"),
            ]
        told = [(reply.refusal.code, reply.refusal.field) for reply in replies]
        assert told == [
            ("not_found", "fork.task_id"),
            ("not_found", "fork.task_id"),
            ("not_found", "fork.at"),
            ("invalid", "fork.overrides.input.cmd"),
            ("invalid", "fork.overrides.nonsense"),
            ("invalid", "fork.overrides.priority"),
            ("invalid", "fork.overrides.kind"),
            ("invalid", "fork.overrides.task_id"),
        ]
        assert rig.events(FORK) == []

    async def test_a_runs_fork_keeps_what_was_done_by_then_and_goes_on_with_the_changes(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            steps = [echo("a"), echo("b", "a", given="{{ steps.a.result }}", limit="{{ variables.limit }}")]
            rig.submit(RUN, **plan(*steps, variables={"limit": 1}))
            await node.round()
            await ends(rig, node, "a", response={"n": 7})
            version = len(rig.events(RUN))
            await ends(rig, node, "b", response="first")
            reply = await forked(rig, node, RUN, at=version, input={"variables": {"limit": 2}})
            step_b = node.memory.get(child_id(FORK, "b"))
        assert reply.refusal is None
        assert "StepRestored" in kinds(rig.events(FORK))
        assert rig.events(child_id(FORK, "a")) == []
        assert step_b is not None
        assert step_b.spec.input == {"given": {"n": 7}, "limit": 2}

    async def test_a_large_result_of_the_source_is_at_hand_in_the_fork(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            rig.submit(RUN, **plan(echo("a"), echo("b", "a", whole="{{ steps.a.result }}")))
            await node.round()
            await ends(rig, node, "a", response=put(node, {"text": TEXT}))
            await forked(rig, node, RUN)
            await node.round()
            state = node.memory.get(child_id(FORK, "b"))
        async with rig.node("o-2") as node:
            await node.own()
            after = node.memory.get(FORK)
        assert state is not None
        assert value_of(rig, state.spec.input) == {"whole": {"text": TEXT}}
        assert after is not None
        assert max(len(recorded.body) for recorded in rig.stored(FORK)) < 20_000

    async def test_nobody_brings_the_state_of_a_fork_or_a_reference_in_from_outside(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            state = {"steps": {"a": {"status": "completed", "result": {"$ref": ["sha256:" + "0" * 64, 9]}}}}
            body = plan(step("a"))
            rig.submit(RUN, **{**body, "input": {**body["input"], "forked": state}})
            rig.send("b", c.SubmitTask(kind="shell", input={"cmd": "date"}, forked_from=ForkedFrom("a", 1)))
            rig.send("d", c.SubmitTask(kind="shell", fork=Fork("a")))
            await node.round()
        refusals = [reply.refusal for reply in rig.replies()[-3:]]
        assert {refusal.field for refusal in refusals if refusal} == {"input.forked", "forked_from", "fork.overrides"}

    async def test_nobody_forges_the_state_of_a_fork_by_changes_a_step_or_another_kind(self, rig: Rig) -> None:
        reference = {"$ref": ["sha256:" + "0" * 64, 9]}
        state = {"steps": {"a": {"status": "completed", "result": reference}}}
        definition = {"name": "p", "steps": [step("a")]}
        async with rig.node() as node:
            await node.own()
            rig.submit("b", kind="echo", input={"forked": state, "pinned": {}, "definition": definition})
            rig.submit(RUN, **plan(step("a", kind="workflow", input={"definition": definition, "forked": state})))
            await node.round()
            changed = [
                await forked(rig, node, "b", input={"forked": state}),
                await forked(rig, node, "b", input={"pinned": {}}),
                await forked(rig, node, "b", input=[]),
            ]
            of_step = node.memory.get(RUN)
            other_kind = await forked(rig, node, "b", kind="workflow")
            fork = node.memory.get(FORK)
        fields = [reply.refusal.field for reply in changed]
        assert fields == ["fork.overrides.input.forked", "fork.overrides.input.pinned", "fork.overrides.input"]
        assert of_step is not None
        assert of_step.error is not None
        assert "only a fork of a run has it" in of_step.error.message
        assert other_kind.refusal is None
        assert fork is not None
        assert set(fork.spec.input) == {"definition"}
