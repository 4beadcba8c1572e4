"""Stored workflows: saved as events, named by submissions, pinned into runs. Subclasses bring the ``rig``."""

from typing import Any

from taskloom.domain.entities.commands import RemoveDefinition, SaveDefinition
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.workflow.wanted import child_id
from tests.component.orchestrator.rig import Node, Rig
from tests.component.orchestrator.suite_workflows import RUN, kinds, step

ETL = entity_id("definition", "default", "etl")


def workflow(*steps: dict[str, Any], version: str = "1.0") -> dict[str, Any]:
    return {"name": "etl", "version": version, "steps": list(steps)}


def child(name: str, **fields: Any) -> dict[str, Any]:
    return {"step_type": "child", "id": f"call-{name}", "workflow": name, **fields}


async def saved(rig: Rig, node: Node, body: dict[str, Any], name: str = "etl", **fields: Any) -> Any:
    """The answer to the save."""
    tenant = fields.get("tenant_id", "default")
    rig.send(entity_id("definition", tenant, name), SaveDefinition(body, fields.pop("expected", None)), **fields)
    await node.round()
    return rig.replies()[-1]


async def submitted(rig: Rig, node: Node, task_id: str = RUN, **run_input: Any) -> Any:
    rig.submit(task_id, kind="workflow", input=run_input)
    await node.round()
    return rig.replies()[-1]


class DefinitionsSuite:
    async def test_each_save_of_another_body_is_a_revision_and_the_same_body_is_none(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            first = await saved(rig, node, workflow(step("a")))
            again = await saved(rig, node, workflow(step("a")))
            second = await saved(rig, node, workflow(step("b")))
        assert [first.data["revision"], again.data["revision"], second.data["revision"]] == [1, 1, 2]
        assert "repeated" in again.data
        assert rig.published(ETL) == ["DefinitionSaved", "DefinitionSaved"]
        assert rig.versions(ETL) == [1, 2]

    async def test_a_saved_definition_is_known_after_a_restart(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            for number in range(25):
                await saved(rig, node, workflow(step(f"s{number}")))
        async with rig.node("o-2") as node:
            await node.own()
            reply = await saved(rig, node, workflow(step("z")), expected=25)
        assert reply.refusal is None
        assert reply.data["revision"] == 26

    async def test_a_save_over_a_revision_that_its_author_has_not_seen_is_refused(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await saved(rig, node, workflow(step("a")))
            reply = await saved(rig, node, workflow(step("b")), expected=0)
        assert (reply.refusal.code, reply.refusal.field) == ("conflict", "expected_revision")

    async def test_a_faulty_definition_is_refused_with_the_path_of_the_fault(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            reply = await saved(rig, node, workflow(step("a", "nobody")))
        assert reply.refusal.field == "definition.steps[0].depends_on[0]"
        assert rig.published(ETL) == []

    async def test_a_run_keeps_the_revision_it_was_submitted_with(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            await saved(rig, node, workflow(step("old")))
            await submitted(rig, node, workflow="etl")
            await saved(rig, node, workflow(step("new")))
            again = await submitted(rig, node, workflow="etl")
            state = node.memory.get(RUN)
            older = await submitted(rig, node, f"{RUN}-b", workflow={"id": "etl", "revision": 1})
        assert state is not None
        assert kinds(rig.events(child_id(RUN, "old")))[:1] == ["TaskSubmitted"]
        assert state.spec.input["pinned"]["etl"]["revision"] == 1
        assert again.data == {"repeated": True}, "the same submission is the same task, whatever was saved since"
        assert older.refusal is None
        assert kinds(rig.events(child_id(f"{RUN}-b", "old")))[:1] == ["TaskSubmitted"]

    async def test_a_child_step_runs_the_stored_workflow_that_it_names_and_those_within(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            await saved(rig, node, workflow(step("innermost")), "inner")
            await saved(rig, node, workflow(child("inner")), "middle")
            reply = await submitted(rig, node, definition=workflow(child("middle")))
        deepest = child_id(child_id(child_id(RUN, "call-middle"), "call-inner"), "innermost")
        assert reply.refusal is None
        assert kinds(rig.events(deepest))[:1] == ["TaskSubmitted"]

    async def test_a_submission_that_names_no_stored_workflow_is_refused_with_its_path(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            first = await submitted(rig, node, workflow="etl")
            second = await submitted(rig, node, definition=workflow(step("a"), child("etl")))
            await saved(rig, node, workflow(step("a")))
            third = await submitted(rig, node, workflow={"id": "etl", "revision": 7})
            await saved(rig, node, workflow(step("a")), tenant_id="other", name="theirs")
            fourth = await submitted(rig, node, workflow="theirs")
            rig.send(ETL, RemoveDefinition())
            await node.round()
            fifth = await submitted(rig, node, workflow="etl")
        assert [reply.refusal.field for reply in (first, second, third, fourth, fifth)] == [
            *("input.workflow", "input.definition.steps[1].workflow"),
            *("input.workflow", "input.workflow", "input.workflow"),
        ]
        assert "etl@7" in third.refusal.message

    async def test_stored_workflows_that_contain_each_other_are_refused_with_the_circle(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            alone = await saved(rig, node, workflow(child("etl")))
            await saved(rig, node, workflow(child("b")), "a")
            await saved(rig, node, workflow(child("a")), "b")
            reply = await submitted(rig, node, workflow="a")
        assert "itself" in alone.refusal.message
        assert "a -> b -> a" in reply.refusal.message or "b -> a -> b" in reply.refusal.message

    async def test_a_removed_definition_can_be_saved_again_under_the_next_revision(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await saved(rig, node, workflow(step("a")))
            rig.send(ETL, RemoveDefinition("old"))
            await node.round()
            reply = await saved(rig, node, workflow(step("a")), expected=0)
            rig.send(entity_id("definition", "default", "nothing"), RemoveDefinition())
            await node.round()
            nothing: Any = rig.replies()[-1]
        assert reply.data["revision"] == 2
        assert nothing.refusal.code == "not_found"
