"""A fork: a new task made of another one as it was at some version, with changes. Pure; who owns the new task calls it.

A run's fork takes over what its steps at the top level had completed by then, and its variables. Bodies that were
half-way begin anew, and so does everything of a run that had completed, or had undone steps.
"""

from typing import Any, Final

import msgspec
from msgspec import structs

from taskloom.domain.goals.submitting import DEFINITION
from taskloom.domain.refusals import Refusal
from taskloom.domain.runs import GOAL, is_run
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.state import TaskState
from taskloom.domain.task.submission import WEBHOOK_KIND
from taskloom.domain.values import Fork, ForkedFrom, TaskSpec
from taskloom.domain.workflow.references import FORKED, PINNED
from taskloom.domain.workflow.results import checkpoint
from taskloom.domain.workflow.values import ref_of, with_marks

MAX_FORKED_EVENTS: Final = 20_000
"""Events that are read to make a fork: folding more would hold up the tasks beside it."""

_OWN: Final = ("tenant_id", "user_id", "key_id", "run_at", "deadline", "depends_on", "on_dependency_failure")
"""What a fork does not take over: whose it is, and what it waited for."""

_NOT_OVERRIDDEN: Final = frozenset({"task_id", "fork", "forked_from", "fails_with"})
_FIELDS: Final = frozenset(SubmitTask.__struct_fields__) - _NOT_OVERRIDDEN
_OF_RUNS: Final = frozenset({FORKED, PINNED})
_OF_STEPS: Final = ("workflow_id", "workflow_step_id", "forked_from", "forked_at")


def forked(source: TaskState, fork: Fork, task_id: str) -> SubmitTask | Refusal:
    """The whole submission of the fork, from the source as folded up to the version wanted.

    Metadata says where it comes from (``forked_from``, ``forked_at``), so that lists can be filtered by it.
    """
    spec = source.spec
    if spec.kind == WEBHOOK_KIND:
        return Refusal("invalid", "a delivery of a webhook is not forked; retry it", "fork.task_id")
    if unknown := sorted(fork.overrides.keys() - _FIELDS):
        return Refusal("invalid", f"a submission has no field {unknown[0]!r} that could change", _path(unknown[0]))
    base = _submission_of(spec)
    if isinstance(fault := _check_input(spec, fork.overrides), Refusal):
        return fault
    fields = merge_patch(base, fork.overrides)
    if is_run(fields.get("kind", "")):
        given = fields.get("input") or {}
        if fields["kind"] == spec.kind:
            fields["input"] = _run_input(source, given, fork.overrides.get("input") or {})
        else:
            fields["input"] = {name: value for name, value in given.items() if name not in _OF_RUNS}
    lineage = {"forked_from": source.task_id, "forked_at": source.version}
    fields["metadata"] = {**(fields.get("metadata") or {}), **lineage}
    try:
        made = msgspec.convert(fields, SubmitTask)
    except msgspec.ValidationError as error:
        return Refusal("invalid", str(error), _path(str(error).rpartition("at `$.")[2].rstrip("`")))
    return structs.replace(made, task_id=task_id, forked_from=ForkedFrom(source.task_id, source.version))


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON Merge Patch, RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _path(field: str) -> str:
    return f"fork.overrides.{field}" if field else "fork.overrides"


def _submission_of(spec: TaskSpec) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: value for name, value in msgspec.to_builtins(spec).items() if name not in _OWN and name in _FIELDS
    }
    kept["metadata"] = {name: value for name, value in spec.metadata.items() if name not in _OF_STEPS}
    return kept


def _check_input(spec: TaskSpec, overrides: dict[str, Any]) -> Refusal | None:
    """A large input is known by its reference here: it goes along, and cannot be merged with anything. What the
    platform writes into a run's input is nobody's to change: it may refer to stored values."""
    changes = overrides.get("input")
    if not isinstance(changes, dict) and "input" in overrides:
        return Refusal("invalid", "it is an object", _path("input"))
    if taken := sorted(_OF_RUNS & (changes or {}).keys()):
        return Refusal("invalid", "only the platform writes it; leave it out", _path(f"input.{taken[0]}"))
    for name in ("input", "context"):
        if name in overrides and ref_of(getattr(spec, name)) is not None:
            told = f"the {name} of {spec.kind} is kept by reference and cannot be merged; submit a task with a new one"
            return Refusal("invalid", told, _path(name))
    return None


def _run_input(source: TaskState, run_input: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The input of the run's fork: what was done is in ``forked``; another definition is looked up anew. A goal is
    planned anew."""
    if source.spec.kind == GOAL:
        return {name: value for name, value in run_input.items() if name != DEFINITION}
    kept = dict(run_input)
    if "definition" in changes or "workflow" in changes:
        kept.pop(PINNED, None)
        kept.pop("workflow" if "definition" in changes else "definition", None)
    run = source.run
    if run is None or run.undone:
        return kept
    kept.pop("checkpoint", None)
    done = checkpoint(run)
    top = {plan.id for plan in run.plan.root.steps}
    steps = {
        step_id: {"status": "completed", "result": with_marks(step["result"])}
        for step_id, step in done["steps"].items()
        if step_id in top and step["status"] == "completed"
    }
    return {**kept, FORKED: {"steps": steps, "variables": done["variables"], "context": done["context"]}}
