"""What is wrong with a definition, with the path of each fault: ``definition.steps[2].condition.operator``."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, Final

import msgspec
from msgspec import Struct

from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.workflow import conditions, expressions, graph, naming, references, shapes
from taskloom.domain.workflow import definition as d
from taskloom.domain.workflow.faults import BadDefinition, Fault, Named, Unknown, malformed
from taskloom.domain.workflow.sizes import MAX_VARIABLES_BYTES, size_of

MAX_FAULTS: Final = 100
"""Faults that are listed; the rest would not be read."""

REMEMBERED_BYTES: Final = 32 * 1024
"""JSON of a definition whose faults are remembered, for the last 256 of them."""

RESERVED_IDS: Final = frozenset({"undo", "on_failure"})
"""They stand for compensations and failure steps in paths."""

NOT_IN_TEMPLATES: Final = frozenset({"task_id", "depends_on", "on_dependency_failure"})

MAX_CHILDREN: Final = 12
"""Child workflows written out within each other."""

_CHILDREN: Final = re.compile(r"\]\.definition\b")


def validate(raw: Any, path: str = "definition") -> list[Fault]:
    """All faults of a definition as JSON data, at most 100; an empty list when it can run."""
    try:
        definition = msgspec.convert(raw, d.Definition)
    except msgspec.ValidationError as error:
        return list(islice(shapes.faults(raw, path), MAX_FAULTS)) or [malformed(error, path)]
    except RecursionError:
        return [Fault(path, f"nests deeper than {d.MAX_DEPTH} levels")]
    return list(islice(_faults(definition, path), MAX_FAULTS))


def _known_faults(raw: dict[str, Any], path: str) -> list[Fault]:
    """As ``validate``; one definition is often started many times over, and then looked through once."""
    encoded = msgspec.json.encode(raw)
    return validate(raw, path) if len(encoded) > REMEMBERED_BYTES else list(_remembered(encoded, path))


@lru_cache(maxsize=256)
def _remembered(encoded: bytes, path: str) -> tuple[Fault, ...]:
    return tuple(validate(msgspec.json.decode(encoded), path))


def validate_input(run_input: Any, path: str = "input") -> list[Fault]:
    """All faults of a run's input: ``{"definition" or "workflow", "variables", "context", "checkpoint"}``."""
    try:
        given = msgspec.convert(run_input, _RunInput)
    except msgspec.ValidationError as error:
        return [malformed(error, path)]
    if (given.definition is None) == (given.workflow is None):
        return [Fault(f"{path}.definition", "give either definition, or workflow: the id of a stored one")]
    faults = [] if given.definition is None else _known_faults(given.definition, f"{path}.definition")
    for key, pinned in (given.pinned or {}).items():
        faults += _known_faults(pinned.definition, f"{path}.pinned.{key}")
    return faults or list(_too_many_variables(given, path))


def _too_many_variables(given: "_RunInput", path: str) -> Iterator[Fault]:
    begun_from = given.forked or given.checkpoint
    saved = {} if begun_from is None else begun_from.variables
    variables = {**(given.definition or {}).get("variables", {}), **saved, **given.variables}
    total = sum(map(size_of, variables.values()))
    if total > MAX_VARIABLES_BYTES:
        yield Fault(f"{path}.variables", f"they have {total} bytes in all, {MAX_VARIABLES_BYTES} are allowed")


def not_pinned(run_input: dict[str, Any]) -> list[Fault]:
    """What is wrong with the stored workflows that a run's input names, itself or within: not there, or in a circle."""
    pinned = run_input.get(references.PINNED) or {}
    waiting, edges, faults = list(references.stored_names_in(run_input)), {}, []
    while waiting:
        path, reference = waiting.pop()
        if reference.key not in pinned:
            faults.append(Fault(path, f"there is no stored workflow {reference.key!r}"))
        elif reference.key not in edges:
            inner = list(references.stored_names(pinned[reference.key]["definition"], path))
            edges[reference.key] = tuple(dict.fromkeys(name.key for _, name in inner if name.key in pinned))
            waiting += inner
    if len(pinned) > references.MAX_PINNED:
        faults.append(Fault("input", f"more than {references.MAX_PINNED} stored workflows are within this one"))
    if not faults and (circle := graph.cycle(edges, edges)) is not None:
        faults.append(Fault("input", f"stored workflows contain each other without end: {' -> '.join(circle)}"))
    return faults


class _CheckpointStep(Struct, frozen=True):
    status: str
    result: Any = None


class _Checkpoint(Struct, frozen=True):
    steps: dict[str, _CheckpointStep] = {}
    variables: dict[str, Any] = {}
    context: dict[str, Any] = {}


class _RunInput(Struct, frozen=True, forbid_unknown_fields=True):
    definition: dict[str, Any] | None = None
    workflow: references.Named | None = None
    pinned: dict[str, references.Pinned] | None = None
    variables: dict[str, Any] = {}
    context: dict[str, Any] = {}
    checkpoint: _Checkpoint | None = None
    forked: _Checkpoint | None = None


def decode(raw: Any) -> d.Definition:
    """The definition that the JSON data describes.

    Raises:
        BadDefinition: it has faults.
    """
    faults = validate(raw)
    if faults:
        raise BadDefinition(faults)
    return msgspec.convert(raw, d.Definition)


def _faults(definition: d.Definition, path: str) -> Iterator[Fault]:
    counted = sum(1 for _ in _walk(definition.steps, 1)) + sum(1 for _ in _walk(definition.failure_steps, 1))
    if counted > d.MAX_STEPS:
        yield Fault(f"{path}.steps", f"a workflow may have {d.MAX_STEPS} steps, this one has {counted}")
        return
    seen: dict[str, str] = {}
    named: list[Named] = []
    for fault in parts(definition, path, seen):
        if isinstance(fault, Named):
            named.append(fault)
        elif not isinstance(fault, Unknown):
            yield fault
    for one in named:
        if one.step_id not in seen:
            meant = _did_you_mean(one, definition)
            yield Fault(one.path, f"no step of this workflow has the id {one.step_id!r}{meant}")
    if (size := size_of(definition.variables)) > MAX_VARIABLES_BYTES:
        yield Fault(f"{path}.variables", f"they have {size} bytes in all, {MAX_VARIABLES_BYTES} are allowed")


def parts(definition: d.Definition, path: str, seen: dict[str, str]) -> Iterator[Fault]:
    """All there is to say of the parts of a definition, and the names in its expressions (``Named``, ``Unknown``)."""
    yield from _body(definition.steps, f"{path}.steps", 1, seen, chained=False)
    if definition.failure_steps:
        yield from _body(definition.failure_steps, f"{path}.failure_steps", 1, seen, chained=True)
    yield from _templates(definition.output, f"{path}.output")


def _did_you_mean(named: Named, definition: d.Definition) -> str:
    ids = [step.id for step in _walk((*definition.steps, *definition.failure_steps), 1) if step.name == named.step_id]
    return f"; the one of that name has the id {ids[0]!r}" if len(ids) == 1 else ""


def _walk(steps: tuple[d.Step, ...], depth: int) -> Iterator[d.Step]:
    for step in steps:
        yield step
        if depth <= d.MAX_DEPTH:
            for _name, body in d.bodies(step):
                yield from _walk(body, depth + 1)


def _body(steps: tuple[d.Step, ...], path: str, depth: int, seen: dict[str, str], *, chained: bool) -> Iterator[Fault]:
    if not steps:
        yield Fault(path, "needs at least one step")
    if depth > d.MAX_DEPTH:
        yield Fault(path, f"steps nest deeper than {d.MAX_DEPTH} levels; move some into a child workflow")
        return
    for at, step in enumerate(steps):
        yield from _identity(step, f"{path}[{at}]", seen)
    yield from _dependencies(steps, path, chained)
    for at, step in enumerate(steps):
        here = f"{path}[{at}]"
        yield from _KINDS[type(step)](step, here)
        for name, body in d.bodies(step):
            if body or (name not in _OPTIONAL_BODIES):
                chained = name == "compensation" or not isinstance(step, d.ParallelStep)
                yield from _body(body, f"{here}.{name}", depth + 1, seen, chained=chained)


_OPTIONAL_BODIES: Final = frozenset({"true_steps", "false_steps", "map_steps", "compensation"})


def _identity(step: d.Step, path: str, seen: dict[str, str]) -> Iterator[Fault]:
    if step.id in seen:
        yield Fault(f"{path}.id", f"{step.id!r} is also the id of {seen[step.id]}; ids are unique in a workflow")
    elif step.id in RESERVED_IDS:
        yield Fault(f"{path}.id", f"{step.id!r} is reserved; choose another id")
    seen.setdefault(step.id, path)


def _dependencies(steps: tuple[d.Step, ...], path: str, chained: bool) -> Iterator[Fault]:
    """In a chained body each step waits for the one before it, so that none can wait for a later one."""
    ids, named = {step.id for step in steps}, names(steps)
    needs: dict[str, list[str]] = {}
    if chained:
        needs = {after.id: [before.id] for before, after in pairwise(steps)}
    for at, step in enumerate(steps):
        for nth, wanted in enumerate(step.depends_on):
            where = f"{path}[{at}].depends_on[{nth}]"
            found = [wanted] if wanted in ids else named.get(wanted, [])
            if step.id in found:
                yield Fault(where, f"step {step.id!r} depends on itself")
            elif not found:
                yield Fault(where, f"no step in the same body has the id or name {wanted!r}")
            elif len(found) > 1:
                yield Fault(where, f"{wanted!r} is the name of {len(found)} steps; name one by its id")
            else:
                needs.setdefault(step.id, []).extend(found)
    around = graph.cycle([step.id for step in steps], needs)
    if around is not None:
        at = next(at for at, step in enumerate(steps) if step.id == around[0])
        yield Fault(f"{path}[{at}].depends_on", str(graph.CycleFound(around)))


def names(steps: tuple[d.Step, ...]) -> dict[str, list[str]]:
    """Ids of the steps that bear a name."""
    found: dict[str, list[str]] = {}
    for step in steps:
        if step.name:
            found.setdefault(step.name, []).append(step.id)
    return found


def _task(step: d.TaskStep, path: str) -> Iterator[Fault]:
    yield from _template(step.task_template, f"{path}.task_template")


def _template(template: dict[str, Any], path: str) -> Iterator[Fault]:
    """Fields without templates are checked now, those with templates when they have been filled in."""
    if not template:
        yield Fault(path, "needs the fields of a task, for instance kind and input")
    for name in NOT_IN_TEMPLATES.intersection(template):
        yield Fault(f"{path}.{name}", "a step's task gets this from the workflow; leave it out")
    yield from _templates(template, path)
    fixed = {name: value for name, value in template.items() if not expressions.has_template(value)}
    try:
        msgspec.convert(fixed, SubmitTask)
    except msgspec.ValidationError as error:
        yield malformed(error, path)


def _templates(value: Any, path: str) -> Iterator[Fault]:
    for where, text in naming.texts_in(value):
        yield from _expression_text(text, f"{path}.{where}" if where else path)


def _expression_text(text: str, path: str) -> Iterator[Fault]:
    if (message := expressions.check(text)) is not None:
        yield Fault(path, message)
    for step_id in sorted(naming.named_steps(text)):
        yield Named(path, "", step_id)
    for name in sorted(naming.free_names(text)):
        yield Unknown(path, "", name)


def _condition(condition: conditions.AnyCondition | None, path: str) -> Iterator[Fault]:
    if condition is None:
        return
    if conditions.size(condition) > conditions.MAX_CONDITIONS:
        yield Fault(path, f"a condition may have {conditions.MAX_CONDITIONS} parts")
        return
    for where, message in conditions.faults(condition, path):
        yield Fault(where, message)
    for where, text in conditions.texts(condition, path):
        yield from (Named(where, "", step_id) for step_id in sorted(naming.named_steps(text)))
        yield from (Unknown(where, "", name) for name in sorted(naming.free_names(text)))


def _conditional(step: d.ConditionalStep, path: str) -> Iterator[Fault]:
    yield from _condition(step.condition, f"{path}.condition")
    if not step.true_steps and not step.false_steps:
        yield Fault(f"{path}.true_steps", "neither branch has a step")


def _loop(step: d.LoopStep, path: str) -> Iterator[Fault]:
    yield from _condition(step.loop_condition, f"{path}.loop_condition")
    yield from _condition(step.until_condition, f"{path}.until_condition")
    goes_on = step.loop_condition is None or step.loop_condition is True
    if step.max_iterations is None and goes_on and step.until_condition in (None, False):
        yield Fault(f"{path}.loop_condition", "the loop has no end: give a condition or max_iterations")


def _wait(step: d.WaitStep, path: str) -> Iterator[Fault]:
    if (step.wait_seconds is None) == (step.wait_condition is None):
        yield Fault(f"{path}.wait_seconds", "give either wait_seconds or wait_condition")
    if isinstance(step.wait_seconds, str):
        yield from _expression(step.wait_seconds, f"{path}.wait_seconds")
    yield from _condition(step.wait_condition, f"{path}.wait_condition")


def _map(step: d.MapStep, path: str) -> Iterator[Fault]:
    if (step.task_template is None) == (not step.map_steps):
        yield Fault(f"{path}.task_template", "give either task_template or map_steps")
    if step.task_template is not None:
        yield from _template(step.task_template, f"{path}.task_template")
    if isinstance(step.items, str):
        yield from _expression(step.items, f"{path}.items")
    elif len(step.items) > d.MAX_MAP_ITEMS:
        yield Fault(f"{path}.items", f"a map may have {d.MAX_MAP_ITEMS} items, this one has {len(step.items)}")


def _expression(text: str, path: str) -> Iterator[Fault]:
    if "{{" in text:
        yield from _templates(text, path)
    else:
        yield from _expression_text(text, path)


def _child(step: d.ChildStep, path: str) -> Iterator[Fault]:
    if (step.definition is None) == (step.workflow is None):
        yield Fault(f"{path}.definition", "give either definition, or workflow: the id of a stored one")
    if step.definition is not None and len(_CHILDREN.findall(path)) >= MAX_CHILDREN:
        yield Fault(f"{path}.definition", f"child workflows nest deeper than {MAX_CHILDREN} levels; store some of them")
    elif step.definition is not None:
        yield from validate(step.definition, f"{path}.definition")
    yield from _templates(step.variables, f"{path}.variables")
    yield from _templates(step.context, f"{path}.context")


def _approval(step: d.ApprovalStep, path: str) -> Iterator[Fault]:
    yield from _templates(step.message, f"{path}.message")


def _goal(_step: d.GoalStep, path: str) -> Iterator[Fault]:
    yield Fault(f"{path}.step_type", "steps of kind goal stand only in the definition that a goal is given")


def _nothing(_step: Any, _path: str) -> Iterator[Fault]:
    yield from ()


_KINDS: Final[dict[type[d.StepBase], Callable[[Any, str], Iterator[Fault]]]] = {
    d.TaskStep: _task,
    d.ParallelStep: _nothing,
    d.SequentialStep: _nothing,
    d.ConditionalStep: _conditional,
    d.LoopStep: _loop,
    d.WaitStep: _wait,
    d.MapStep: _map,
    d.ChildStep: _child,
    d.ApprovalStep: _approval,
    d.SignalStep: _nothing,
    d.CheckpointStep: _nothing,
    d.GoalStep: _goal,
}
