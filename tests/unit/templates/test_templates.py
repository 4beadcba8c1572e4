"""Templates give definitions that can run, the same as the Python API's builders."""

from typing import Any

import pytest

from taskloom.client.workflows import (
    Workflow,
    create_ci_cd_workflow,
    create_code_review_workflow,
    create_data_processing_workflow,
    create_monitoring_workflow,
)
from taskloom.domain.workflow.check import validate
from taskloom.templates import TEMPLATES, BadParameters, instantiate


def made(template: str, parameters: dict[str, Any], kinds: tuple[str, ...] = ()) -> dict[str, Any]:
    return instantiate(TEMPLATES[template], parameters, created_by="ann", kinds=kinds)


def tasks_of(steps: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Templates of the task steps at any depth, by the id of the step."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        if "task_template" in step:
            found[step["id"]] = step["task_template"]
        for body in ("sub_steps", "true_steps", "false_steps", "loop_steps"):
            found |= tasks_of(step.get(body, []))
    return found


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_the_example_gives_a_definition_that_can_run(name: str) -> None:
    definition = made(name, TEMPLATES[name].example)
    assert validate(definition) == []
    assert (definition["name"], definition["created_by"]) == (name, "ann")
    assert set(TEMPLATES[name].schema()["required"]) <= TEMPLATES[name].example.keys()


@pytest.mark.parametrize(
    ("name", "parameters", "built"),
    [
        ("ci_cd", {"repository_url": "r"}, create_ci_cd_workflow("ci_cd", "ann", "r")),
        ("data_processing", {"data_sources": ["a", "b"]}, create_data_processing_workflow("w", "ann", ["a", "b"])),
        ("code_review", {"pull_request_url": "p"}, create_code_review_workflow("w", "ann", "p")),
        ("monitoring", {"services": ["a.b/c"]}, create_monitoring_workflow("w", "ann", ["a.b/c"])),
    ],
)
def test_a_template_and_the_builder_of_its_name_make_the_same_steps(
    name: str, parameters: dict[str, Any], built: Workflow
) -> None:
    ours, theirs = made(name, parameters), built.to_definition()
    one, other = tasks_of(ours["steps"]), tasks_of(theirs["steps"])
    assert one.keys() == other.keys()
    for step, template in one.items():
        assert {field: template[field] for field in ("name", "kind", "capabilities")} == {
            field: other[step][field] for field in ("name", "kind", "capabilities")
        }
        told, known = (each["input"]["kwargs"]["task"] for each in (template, other[step]))
        assert (told["task_type"], told["metadata"]) == (known["task_type"], known["metadata"])
    assert ours.get("variables", {}) == built.variables


def test_steps_run_commands_where_some_are_given_and_what_they_check_holds_then() -> None:
    definition = made(
        "ci_cd", {"repository_url": "r", "commands": {"build": "make", "step_2": "make test"}, "variables": {"x": 1}}
    )
    tasks = tasks_of(definition["steps"])
    assert [(tasks[step]["kind"], tasks[step]["input"]) for step in ("step_1", "step_2")] == [
        ("shell", {"cmd": "make"}),
        ("shell", {"cmd": "make test"}),
    ]
    assert tasks["deploy"]["capabilities"] == ["deployment"]
    assert definition["variables"] == {"test_status": "passed", "x": 1}
    assert "variables" not in made("ci_cd", {"repository_url": "r", "commands": {"build": "make"}})


def test_a_kind_that_an_executor_announces_is_used() -> None:
    tasks = tasks_of(made("ci_cd", {"repository_url": "r"}, ("testing",))["steps"])
    assert (tasks["step_2"]["kind"], tasks["step_2"]["input"]["task"]["task_type"]) == ("testing", "testing")
    assert "capabilities" not in tasks["step_2"]


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("ci_cd", {}, "parameters.repository_url"),
        ("ci_cd", {"repository_url": 7}, "parameters.repository_url"),
        ("ci_cd", {"repository_url": "r", "bogus": 1}, "parameters.bogus"),
        ("ci_cd", {"repository_url": "r", "commands": {"bild": "make"}}, "parameters.commands.bild"),
        ("data_processing", {"data_sources": []}, "parameters.data_sources"),
        ("data_processing", {"data_sources": ["a", ""]}, "parameters.data_sources[1]"),
        ("monitoring", {"services": ["a"], "interval_s": -1}, "parameters.interval_s"),
        ("monitoring", {"services": ["a"], "max_rounds": 0}, "parameters.max_rounds"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(name: str, parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(BadParameters) as caught:
        made(name, parameters)
    assert caught.value.field == field
