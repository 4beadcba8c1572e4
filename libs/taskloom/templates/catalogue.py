"""The templates by name: their parameters, and the definition that they give."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from taskloom.domain.values import Text256
from taskloom.errors import TaskloomError
from taskloom.templates import plans
from taskloom.templates.plans import Plan, Step
from taskloom.templates.work import OWN, tell_workflow, work_of

MAX_ITEMS: Final = 500
"""Data sources, or services, in one workflow."""

_BODIES: Final = ("sub_steps", "true_steps", "false_steps", "loop_steps")
_NAMED: Final = ("Object missing required field `", "Object contains unknown field `")

Url = Annotated[str, Meta(min_length=1, max_length=8192)]
Item = Annotated[str, Meta(min_length=1, max_length=1024)]


class BadParameters(TaskloomError):
    """The parameters do not fit the template; ``field`` is the path, for example ``parameters.data_sources``."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all templates take."""

    name: Annotated[Text256, Meta(description="Name of the workflow; default: that of the template")] = ""
    created_by: Annotated[Text256, Meta(description="Default: the caller")] = ""
    variables: Annotated[dict[str, Any], Meta(description="Variables at the start")] = {}
    context: Annotated[dict[str, Any], Meta(description="What its tasks are told beside the variables")] = {}
    commands: Annotated[
        dict[str, Annotated[str, Meta(min_length=1)]],
        Meta(description="By name or id of a step, a shell command that it runs; else an agent does the work"),
    ] = {}


class CiCd(Parameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    repository_url: Annotated[Url, Meta(description="What is built, tested and deployed")]


class DataProcessing(Parameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    data_sources: Annotated[
        list[Item], Meta(min_length=1, max_length=MAX_ITEMS, description="Each is extracted by a step of its own")
    ]


class CodeReview(Parameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pull_request_url: Annotated[Url, Meta(description="What is checked and reviewed")]


class Monitoring(Parameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    services: Annotated[
        list[Item], Meta(min_length=1, max_length=MAX_ITEMS, description="Each is looked at in every round")
    ]
    interval_s: Annotated[float, Meta(ge=0, le=86_400, description="Pause between two rounds, in seconds")] = (
        plans.MONITORING_PAUSE_S
    )
    max_rounds: Annotated[int, Meta(ge=1, le=100_000, description="It ends after so many")] = plans.MONITORING_ROUNDS


class Template(Struct, frozen=True):
    """``example``: parameters that fit."""

    name: str
    description: str
    parameters: type[Parameters]
    plan: Callable[[Any], Plan]
    example: dict[str, Any]

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the parameters."""
        [described] = msgspec.json.schema(self.parameters)["$defs"].values()
        schema: dict[str, Any] = described
        return schema


_ALL: Final = (
    Template(
        "ci_cd",
        "Builds, tests, and deploys when the variable test_status is passed.",
        CiCd,
        lambda given: plans.ci_cd(given.repository_url),
        {
            "repository_url": "https://example.org/shop.git",
            "commands": {"build": "make build", "test": "make test", "deploy": "make deploy"},
        },
    ),
    Template(
        "data_processing",
        "Extracts all sources side by side, then transforms, then loads.",
        DataProcessing,
        lambda given: plans.data_processing(given.data_sources),
        {"data_sources": ["orders.csv", "customers.csv"]},
    ),
    Template(
        "code_review",
        "Lints, analyses and tests side by side; a human review when all_checks_passed is true, else a fix.",
        CodeReview,
        lambda given: plans.code_review(given.pull_request_url),
        {"pull_request_url": "https://example.org/shop/pulls/7"},
    ),
    Template(
        "monitoring",
        "Looks at the health of services, round by round, while the variable monitoring_active is true.",
        Monitoring,
        lambda given: plans.monitoring(given.services, given.interval_s, given.max_rounds),
        {"services": ["shop", "search"], "interval_s": 60, "max_rounds": 100},
    ),
)
TEMPLATES: Final = {template.name: template for template in _ALL}


def instantiate(
    template: Template, parameters: Mapping[str, Any], *, created_by: str, kinds: Collection[str] = ()
) -> dict[str, Any]:
    """The definition that the template gives. ``kinds``: those that executors announce, see ``work.work_of``.

    Raises:
        BadParameters: names the path of what does not fit.
    """
    given = _read(template.parameters, parameters)
    plan = template.plan(given)
    commands = _commands(plan, given.commands)
    author = given.created_by or created_by
    checked = [variables for steps, variables in plan.checked_by if steps <= commands.keys()]
    variables = {name: value for known in (plan.variables, *checked, given.variables) for name, value in known.items()}
    definition = {
        "name": given.name or template.name,
        "description": template.description,
        "created_by": author,
        "variables": variables,
        "context": given.context,
        "tags": [template.name],
        "steps": [_finished(step, commands, author, kinds) for step in plan.steps],
    }
    return {name: value for name, value in definition.items() if value not in ("", {})}


def _read(kind: type[Parameters], parameters: Mapping[str, Any]) -> Parameters:
    try:
        return msgspec.convert(parameters, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        field = f"parameters{path.rstrip('`').removeprefix('$')}"
        named = next((message.removeprefix(start).rstrip("`") for start in _NAMED if message.startswith(start)), "")
        raise BadParameters(message, f"{field}.{named}" if named else field) from error


def _commands(plan: Plan, wanted: Mapping[str, str]) -> dict[str, str]:
    """Commands by the id of the step."""
    tasks = [step for step in _walk(plan.steps) if step["step_type"] == "task"]
    found: dict[str, str] = {}
    for name, command in wanted.items():
        ids = [step["id"] for step in tasks if name in (step["id"], step["name"])]
        if not ids:
            known = ", ".join(step["name"] if " " not in step["name"] else step["id"] for step in tasks[:20])
            raise BadParameters(
                f"no step has the id or name {name!r}; there are {known}", f"parameters.commands.{name}"
            )
        found |= dict.fromkeys(ids, command)
    return found


def _walk(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        for body in _BODIES:
            yield from _walk(step.get(body, []))


def _finished(step: Step, commands: Mapping[str, str], author: str, kinds: Collection[str]) -> Step:
    """The step with what its tasks run in the place of the fields of a task."""
    bodies: Step = {
        body: [_finished(each, commands, author, kinds) for each in step[body]] for body in _BODIES if body in step
    }
    if step["step_type"] != "task":
        return {**step, **bodies}
    task = step["task_template"]
    command = {"cmd": commands[step["id"]]} if step["id"] in commands else {}
    metadata = {**task["metadata"], **command}
    work = work_of({**task, "created_by": author, "metadata": metadata}, kinds)
    template = {
        "name": task["name"],
        "kind": work.kind,
        "input": tell_workflow(work.input),
        "metadata": {**task["metadata"], f"{OWN}type": task["task_type"], f"{OWN}created_by": author},
        **({"capabilities": list(work.capabilities)} if work.capabilities else {}),
    }
    return {**step, "task_template": template}
