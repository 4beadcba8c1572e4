"""Stored workflows that a submission names, and how their definitions are pinned into the run.

A run's input, or a child step, names a stored workflow as ``"etl"``, ``{"id": "etl", "revision": 3}`` or ``{"id":
"etl", "version": "1.2"}``. Whoever accepts the submission looks all of them up once and puts what it found into
``input.pinned``: by the reference's key the revision and the definition. So a run never changes with what is saved
later, and its replay asks nobody.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from taskloom.domain.ids import ID_PATTERN
from taskloom.domain.runs import WORKFLOW
from taskloom.domain.task.commands import SubmitTask

PINNED: Final = "pinned"
_CHILD: Final = b'"child"'
"""Without it in its JSON a definition has no child step: looking is far cheaper than walking through it."""

FORKED: Final = "forked"
"""In a run's input: the state of the run that it was forked from, put there by the platform alone (``forking``)."""

MAX_PINNED: Final = 50
"""Stored workflows that one run may have within it."""

DefinitionId = Annotated[str, Meta(pattern=ID_PATTERN)]


class Reference(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A stored workflow: of that revision, else the newest of that version, else the newest."""

    id: DefinitionId
    revision: Annotated[int, Meta(ge=1)] | None = None
    version: Annotated[str, Meta(min_length=1, max_length=256)] | None = None

    @property
    def key(self) -> str:
        """The same for references that mean the same."""
        if self.revision is not None:
            return f"{self.id}@{self.revision}"
        return self.id if self.version is None else f"{self.id}={self.version}"


Named = DefinitionId | Reference


class Pinned(Struct, frozen=True):
    """A stored definition as it was when the run was submitted."""

    revision: int
    definition: dict[str, Any]


def reference_of(named: Any) -> Reference:
    """A reference from its JSON.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return (
        Reference(msgspec.convert(named, DefinitionId)) if isinstance(named, str) else msgspec.convert(named, Reference)
    )


def stored_names(raw: Any, path: str = "definition") -> Iterator[tuple[str, Reference]]:
    """Path and reference of each stored workflow that a definition's child steps name, those in bodies included.

    What is no reference is passed over: ``check.validate`` says what is wrong with it.
    """
    if isinstance(raw, list):
        for place, each in enumerate(raw):
            yield from stored_names(each, f"{path}[{place}]")
    elif isinstance(raw, dict):
        if raw.get("step_type") == "child" and raw.get("workflow") is not None:
            try:
                yield f"{path}.workflow", reference_of(raw["workflow"])
            except msgspec.ValidationError:
                return
        for name, each in raw.items():
            if isinstance(each, dict | list) and name not in ("task_template", "metadata", "variables", "context"):
                yield from stored_names(each, f"{path}.{name}")


def stored_names_in(run_input: Mapping[str, Any]) -> Iterator[tuple[str, Reference]]:
    """The same for the input of a run."""
    if run_input.get("workflow") is not None:
        try:
            yield "input.workflow", reference_of(run_input["workflow"])
        except msgspec.ValidationError:
            return
    definition = run_input.get("definition")
    if definition is not None and _CHILD in msgspec.json.encode(definition):
        yield from stored_names(definition, "input.definition")


def names_unpinned(command: SubmitTask) -> bool:
    """Whether a submission names stored workflows that have still to be looked up."""
    if command.kind != WORKFLOW or PINNED in command.input:
        return False
    return next(iter(stored_names_in(command.input)), None) is not None


def is_goal(run_input: Mapping[str, Any]) -> bool:
    """Whether a run's input is that of a goal; a workflow's has no such field."""
    return "goal" in run_input


def definition_in(run_input: Mapping[str, Any]) -> dict[str, Any]:
    """The definition that a run follows: its own, or the pinned one that it names.

    Raises:
        KeyError: it names one that is not pinned.
    """
    own: dict[str, Any] | None = run_input.get("definition")
    if own is not None:
        return own
    pinned: dict[str, Any] = run_input[PINNED][reference_of(run_input["workflow"]).key]["definition"]
    return pinned


def pinned_for(definition: Any, pinned: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the pinned definitions that this one, or one within it, names."""
    found: dict[str, Any] = {}
    waiting = [definition]
    while waiting:
        for _, reference in stored_names(waiting.pop()):
            if reference.key in pinned and reference.key not in found:
                found[reference.key] = pinned[reference.key]
                waiting.append(pinned[reference.key]["definition"])
    return found
