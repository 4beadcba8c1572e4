"""Bad definitions: what is wrong, and the path of the faulty field."""

from typing import Any

import pytest

from taskloom.domain.workflow.check import MAX_FAULTS, decode, validate, validate_input
from taskloom.domain.workflow.definition import MAX_DEPTH, MAX_STEPS
from taskloom.domain.workflow.faults import BadDefinition, Fault
from taskloom.domain.workflow.warnings import warnings
from tests.unit.domain.workflow.runs import step, task


def definition(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "w", "steps": list(steps), **fields}


def condition(**fields: Any) -> dict[str, Any]:
    return step("c", "conditional", condition=fields, true_steps=[task("t")])


IS_ONE = {"field": "x", "operator": "equals", "value": 1}
TASK = {"kind": "echo"}

BAD = {
    "no name": ({"steps": [task("a")]}, "definition.name", "missing"),
    "no definition": ([], "definition", "Expected `object`"),
    "no steps": (definition(), "definition.steps", "at least one step"),
    "unknown field": (definition(task("a"), colour="red"), "definition.colour", "unknown field"),
    "unknown kind": (
        definition(step("a", "teleport")),
        "definition.steps[0].step_type",
        "known kinds of steps are task",
    ),
    "no kind": (definition({"id": "a"}), "definition.steps[0].step_type", "known kinds"),
    "bad id": (definition(task("a.b")), "definition.steps[0].id", "regex"),
    "reserved id": (definition(task("undo")), "definition.steps[0].id", "reserved"),
    "same id": (definition(task("a"), task("a")), "definition.steps[1].id", "also the id of definition.steps[0]"),
    "same id within": (
        definition(task("a"), step("p", "parallel", sub_steps=[task("a")])),
        "definition.steps[1].sub_steps[0].id",
        "unique in a workflow",
    ),
    "unknown dependency": (
        definition(task("a"), task("b", "a", "ghost")),
        "definition.steps[1].depends_on[1]",
        "no step in the same body has the id or name 'ghost'",
    ),
    "itself": (definition(task("a", "a")), "definition.steps[0].depends_on[0]", "depends on itself"),
    "itself by name": (definition(task("a", "me", name="me")), "definition.steps[0].depends_on[0]", "itself"),
    "two of that name": (
        definition(task("a", name="n"), task("b", name="n"), task("c", "n")),
        "definition.steps[2].depends_on[0]",
        "name of 2 steps",
    ),
    "cycle": (
        definition(task("z"), task("a", "c"), task("b", "a"), task("c", "b")),
        "definition.steps[1].depends_on",
        "a -> c -> b -> a is a cycle",
    ),
    "backwards in a sequence": (
        definition(step("s", "sequential", sub_steps=[task("x", "y"), task("y")])),
        "definition.steps[0].sub_steps[0].depends_on",
        "is a cycle",
    ),
    "operator": (
        definition(condition(field="x", operator="like", value=1)),
        "definition.steps[0].condition.operator",
        "Invalid enum value 'like'; choose one of equals, not_equals",
    ),
    "no operator": (
        definition(condition(field="x")),
        "definition.steps[0].condition.operator",
        "choose one of equals, not_equals",
    ),
    "no field": (definition(condition(operator="equals")), "definition.steps[0].condition.field", "name the field"),
    "source": (
        definition(condition(**IS_ONE, source="weather")),
        "definition.steps[0].condition.source",
        "choose one of variables, result, context",
    ),
    "two forms": (
        definition(condition(**IS_ONE, **{"not": True})),
        "definition.steps[0].condition",
        "has field and not",
    ),
    "no form": (definition(condition()), "definition.steps[0].condition", "has none of them"),
    "within and": (
        definition(condition(**{"and": [IS_ONE, {"or": []}]})),
        "definition.steps[0].condition.and[1].or",
        "at least one",
    ),
    "within not": (
        definition(condition(**{"not": "x ="})),
        "definition.steps[0].condition.not",
        "'x =' is not an expression: invalid syntax",
    ),
    "a step that is not there, in an input": (
        definition(task("a", input={"x": ["{{ steps.b.result }}"]})),
        "definition.steps[0].task_template.input.x[0]",
        "no step of this workflow has the id 'b'",
    ),
    "a step that is not there, in a condition": (
        definition(condition(**{"not": "steps['b'].status == 'failed'"})),
        "definition.steps[0].condition.not",
        "no step of this workflow has the id 'b'",
    ),
    "a step by its name": (
        definition(
            task("step_1") | {"name": "build"}, step("m", "map", items="steps.build.result", task_template=TASK)
        ),
        "definition.steps[1].items",
        "the one of that name has the id 'step_1'",
    ),
    "no branch": (
        definition(step("c", "conditional", condition=True)),
        "definition.steps[0].true_steps",
        "neither branch",
    ),
    "loop without end": (
        definition(step("l", "loop", loop_steps=[task("a")])),
        "definition.steps[0].loop_condition",
        "no end",
    ),
    "too many rounds": (
        definition(step("l", "loop", loop_condition="true", max_iterations=10**9, loop_steps=[task("a")])),
        "definition.steps[0].max_iterations",
        "<= 100000",
    ),
    "empty loop": (
        definition(step("l", "loop", max_iterations=2)),
        "definition.steps[0].loop_steps",
        "at least one step",
    ),
    "empty parallel": (definition(step("p", "parallel")), "definition.steps[0].sub_steps", "at least one step"),
    "no wait": (definition(step("w", "wait")), "definition.steps[0].wait_seconds", "either"),
    "wait expression": (
        definition(step("w", "wait", wait_seconds="1 +")),
        "definition.steps[0].wait_seconds",
        "not an expression",
    ),
    "map of nothing": (definition(step("m", "map", items=[1])), "definition.steps[0].task_template", "either"),
    "map expression": (
        definition(step("m", "map", items="open('x')", task_template=TASK)),
        "definition.steps[0].items",
        "only these can be called",
    ),
    "no template": (definition(step("a", "task")), "definition.steps[0].task_template", "fields of a task"),
    "template field": (
        definition(step("a", "task", task_template={"kind": "echo", "inputs": {}})),
        "definition.steps[0].task_template.inputs",
        "unknown field",
    ),
    "template value": (
        definition(step("a", "task", task_template={"kind": "echo", "retry": {"factor": 0}})),
        "definition.steps[0].task_template.retry.factor",
        ">= 1",
    ),
    "own task id": (
        definition(step("a", "task", task_template={**TASK, "task_id": "x"})),
        "definition.steps[0].task_template.task_id",
        "leave it out",
    ),
    "template expression": (
        definition(task("a", input={"x": ["{{ a.__class__( }}"]})),
        "definition.steps[0].task_template.input.x[0]",
        "not an expression",
    ),
    "compensation": (
        definition(task("a", compensation=[step("b", "wait")])),
        "definition.steps[0].compensation[0].wait_seconds",
        "either",
    ),
    "failure steps": (
        definition(task("a"), failure_steps=[task("b", "b")]),
        "definition.failure_steps[0].depends_on[0]",
        "itself",
    ),
    "child": (
        definition(step("c", "child", definition=definition(task("a", "ghost")))),
        "definition.steps[0].definition.steps[0].depends_on[0]",
        "ghost",
    ),
    "output": (definition(task("a"), output={"x": "{{ 1 + }}"}), "definition.output.x", "not an expression"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_names_its_field_and_what_to_do(name: str) -> None:
    raw, path, words = BAD[name]
    faults = validate(raw)
    assert path in [fault.path for fault in faults], faults
    assert words in next(fault.message for fault in faults if fault.path == path)


def test_all_faults_are_listed_up_to_a_limit() -> None:
    faults = validate(definition(task("a", "x"), task("b", "y"), step("p", "parallel")))
    assert [fault.path for fault in faults] == [
        "definition.steps[0].depends_on[0]",
        "definition.steps[1].depends_on[0]",
        "definition.steps[2].sub_steps",
    ]
    assert len(validate(definition(*(task(f"s{n}", "ghost") for n in range(2 * MAX_FAULTS))))) == MAX_FAULTS


def nested(depth: int) -> dict[str, Any]:
    inner = task("leaf")
    for level in range(depth - 1):
        inner = step(f"s{level}", "sequential", sub_steps=[inner])
    return definition(inner)


def test_steps_nest_only_so_deep() -> None:
    assert validate(nested(MAX_DEPTH)) == []
    (fault,) = validate(nested(MAX_DEPTH + 1))
    assert fault.path.endswith(".sub_steps")
    assert "deeper than 12" in fault.message
    assert validate(nested(5_000)), "a fault, not a crash"


def test_a_workflow_has_only_so_many_steps() -> None:
    assert validate(definition(*(task(f"s{n}") for n in range(MAX_STEPS)))) == []
    (fault,) = validate(definition(*(task(f"s{n}") for n in range(MAX_STEPS + 1))))
    assert fault.path == "definition.steps"


def test_a_bad_definition_is_not_decoded() -> None:
    with pytest.raises(BadDefinition, match="known kinds") as raised:
        decode(definition(step("a", "teleport")))
    assert raised.value.faults[0].path == "definition.steps[0].step_type"
    assert isinstance(raised.value.faults[0], Fault)
    assert decode(definition(task("a"))).max_parallel_tasks == 10


def test_fields_with_templates_are_checked_when_they_are_filled_in() -> None:
    template = {"kind": "echo", "priority": "{{ variables.priority }}", "timeouts": {"total_s": "{{ limit }}"}}
    assert validate(definition(step("a", "task", task_template=template))) == []


def test_what_a_run_is_given_is_checked_whole() -> None:
    good = definition(task("a"))
    assert validate_input({"definition": good, "variables": {"n": 1}, "checkpoint": {"steps": {}}}) == []
    for bad, path in (
        ({}, "input.definition"),
        ({"definition": good, "variables": [1]}, "input.variables"),
        ({"definition": good, "colour": 1}, "input.colour"),
        ({"definition": good, "checkpoint": {"steps": {"a": {}}}}, "input.checkpoint.steps[...].status"),
        ({"definition": definition(task("a", "a"))}, "input.definition.steps[0].depends_on[0]"),
    ):
        assert [fault.path for fault in validate_input(bad)] == [path]


def test_all_faults_of_shape_are_listed_each_with_its_path() -> None:
    definition = {
        "name": "",
        "steps": [
            {"id": "a", "step_type": "task", "task_template": []},
            {"id": "b", "step_type": "nonsense"},
            {"id": "p", "step_type": "parallel", "sub_steps": [{"id": "c c", "step_type": "task"}, task("d")], "x": 1},
        ],
        "failure_steps": [{"id": "f", "step_type": "wait", "wait_seconds": -1}],
    }
    assert [fault.path for fault in validate(definition)] == [
        "definition.name",
        "definition.steps[0].task_template",
        "definition.steps[1].step_type",
        "definition.steps[2].x",
        "definition.steps[2].sub_steps[0].id",
        "definition.failure_steps[0].wait_seconds",
    ]


def test_names_that_nothing_in_the_definition_has_are_worth_a_warning() -> None:
    steps = [
        task("a", input={"x": "{{ variables.there }} {{ variables.gone }} {{ context.c }} {{ context.d }}"}),
        step("w", "wait", wait_condition="plain and there and default(variables.maybe, 1) and result.y > 0"),
        step("m", "map", items="[1]", task_template={"kind": "echo", "input": "{{ item }} {{ steps.a.result.z }}"}),
    ]
    definition = {"name": "w", "steps": steps, "variables": {"there": 1}, "context": {"c": 1}}
    assert validate(definition) == []
    found = warnings(definition)
    assert [(fault.path, fault.message.partition("'")[2].partition("'")[0]) for fault in found] == [
        ("definition.steps[0].task_template.input.x", "gone"),
        ("definition.steps[0].task_template.input.x", "d"),
        ("definition.steps[1].wait_condition", "plain"),
    ]
    assert "it has to come with the run" in found[0].message
