"""Definitions that no door may let in, each with the path of the faulty field."""

from typing import Any, Final


def task(name: str, *needs: str, **fields: Any) -> dict[str, Any]:
    template = {"kind": "echo", "input": {}}
    return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": template, **fields}


def nested(levels: int) -> dict[str, Any]:
    step: dict[str, Any] = task("inner")
    for level in range(levels):
        step = {"step_type": "sequential", "id": f"s{level}", "sub_steps": [step]}
    return step


def nested_children(levels: int) -> dict[str, Any]:
    step: dict[str, Any] = task("inner")
    for level in range(levels):
        inner = {"name": "i", "steps": [step]}
        step = {"step_type": "child", "id": f"c{level}", "definition": inner}
    return step


def condition(**fields: Any) -> dict[str, Any]:
    return {"step_type": "conditional", "id": "if", "condition": fields, "true_steps": [task("yes")]}


BAD: Final[dict[str, tuple[list[dict[str, Any]], str]]] = {
    "unknown dependency": ([task("a", "nobody")], "steps[0].depends_on[0]"),
    "self dependency": ([task("a", "a")], "steps[0].depends_on[0]"),
    "cycle": ([task("a", "c"), task("b", "a"), task("c", "b")], "steps[0].depends_on"),
    "same id twice": ([task("a"), task("a")], "steps[1].id"),
    "unknown kind of step": ([{"step_type": "dance", "id": "a"}], "steps[0].step_type"),
    "unknown kind of task": ([task("a", task_template={"kind": "danse"})], "steps[0].task_template.kind"),
    "unknown kind within": (
        [{"step_type": "sequential", "id": "s", "sub_steps": [task("a", task_template={"kind": "danse"})]}],
        "steps[0].sub_steps[0].task_template.kind",
    ),
    "unknown field": ([task("a", colour="red")], "steps[0].colour"),
    "unknown operator": ([condition(field="x", operator="resembles", value=1)], "steps[0].condition.operator"),
    "no operator": ([condition(field="x")], "steps[0].condition.operator"),
    "bad expression": (
        [{"step_type": "wait", "id": "w", "wait_condition": "1 +"}],
        "steps[0].wait_condition",
    ),
    "bad template": (
        [task("a", task_template={"kind": "echo", "input": {"x": ["{{ open('f') }}"]}})],
        "steps[0].task_template.input.x[0]",
    ),
    "loop without end": (
        [{"step_type": "loop", "id": "l", "loop_steps": [task("a")]}],
        "steps[0].loop_condition",
    ),
    "too many rounds": (
        [{"step_type": "loop", "id": "l", "max_iterations": 10**9, "loop_steps": [task("a")]}],
        "steps[0].max_iterations",
    ),
    "empty body": ([{"step_type": "parallel", "id": "p", "sub_steps": []}], "steps[0].sub_steps"),
    "no steps": ([], "steps"),
    "too deep": ([nested(13)], f"steps[0]{'.sub_steps[0]' * 11}.sub_steps"),
    "too many children within children": ([nested_children(13)], f"steps[0]{'.definition.steps[0]' * 12}.definition"),
}
