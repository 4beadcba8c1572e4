"""Stored workflow definitions: every save is a revision, and none is ever changed.

A revision is named by its number, from 1, or by the ``version`` text in the definition; a text that several revisions
share means the newest of them.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import DefinitionCommand, RemoveDefinition, SaveDefinition
from taskloom.domain.entities.events import DefinitionEvent, DefinitionRemoved, DefinitionSaved
from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.refusals import Refusal
from taskloom.domain.workflow.check import validate
from taskloom.domain.workflow.faults import Fault
from taskloom.domain.workflow.references import stored_names

MAX_BYTES: Final = 256 * 1024
MAX_REVISIONS: Final = 1_000
FAULTS_SHOWN: Final = 5


class Revision(Struct, frozen=True, omit_defaults=True):
    """``event_version`` is where its body stands in the entity's stream, ``digest`` the SHA-256 of that body."""

    number: int
    version: str
    event_version: int
    digest: str
    saved_at: datetime
    saved_by: str = ""
    steps: int = 0


class Definition(Struct, frozen=True, omit_defaults=True, tag="definition"):
    """What is remembered: all revisions, oldest first, and the body of the newest."""

    body: dict[str, Any]
    revisions: tuple[Revision, ...]
    removed: bool = False

    @property
    def newest(self) -> Revision:
        return self.revisions[-1]

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"revision": self.newest.number, "version": self.newest.version, "removed": self.removed}

    def find(self, revision: int | None = None, version: str | None = None) -> Revision | None:
        """The revision of that number, else the newest with that version text, else the newest."""
        for each in reversed(self.revisions):
            if (revision is None or each.number == revision) and (version is None or each.version == version):
                return each
        return None


def decide(state: Definition | None, command: DefinitionCommand, asked: Asked) -> list[DefinitionEvent] | Refusal:
    name = asked.name
    if isinstance(command, RemoveDefinition):
        if state is None:
            return Refusal("not_found", f"there is no workflow {name!r}")
        return [] if state.removed else [DefinitionRemoved(command.reason)]
    return _save(state, command, name)


def _save(state: Definition | None, command: SaveDefinition, name: str) -> list[DefinitionEvent] | Refusal:
    newest = 0 if state is None or state.removed else state.newest.number
    if command.expected_revision is not None and command.expected_revision != newest:
        return Refusal("conflict", f"the newest revision of {name!r} is {newest or 'none'}", "expected_revision")
    if faults := faults_of(command.definition, name):
        return Refusal("invalid", in_words(faults), faults[0].path)
    if state is not None and not state.removed and state.newest.digest == digest_of(command.definition):
        return []
    if state is not None and len(state.revisions) >= MAX_REVISIONS:
        return Refusal("conflict", f"{name!r} has {MAX_REVISIONS} revisions; save it under another id")
    return [DefinitionSaved(1 if state is None else state.newest.number + 1, command.definition)]


def faults_of(body: dict[str, Any], name: str = "") -> list[Fault]:
    """What is wrong with a definition that is to be stored under ``name``; an empty list when it can be saved."""
    if (size := len(msgspec.json.encode(body))) > MAX_BYTES:
        return [Fault("definition", f"{size} bytes of JSON, {MAX_BYTES} are allowed for a definition")]
    if faults := validate(body):
        return faults
    itself = (path for path, reference in stored_names(body) if reference.id == name)
    return [Fault(path, f"the workflow {name!r} has itself as a child, without end") for path in itself]


def in_words(faults: list[Fault]) -> str:
    """The first few faults in one text; the first without its path, which stands beside the text."""
    told = [fault.message if place == 0 else f"{fault.path}: {fault.message}" for place, fault in enumerate(faults)]
    return "; ".join(told[:FAULTS_SHOWN])


def evolve(state: Definition | None, event: DefinitionEvent, recorded: Recorded) -> Definition:
    return _CHANGES[type(event)](state, event, recorded)


def _saved(state: Definition | None, event: DefinitionSaved, recorded: Recorded) -> Definition:
    body = event.definition
    revision = Revision(
        event.revision,
        str(body.get("version", "1.0")),
        recorded.meta.version,
        digest_of(body),
        recorded.meta.at,
        recorded.meta.actor,
        len(body.get("steps", ())),
    )
    return Definition(body, (*(() if state is None else state.revisions), revision))


def _removed(state: Definition | None, _event: DefinitionRemoved, _recorded: Recorded) -> Definition:
    assert state is not None
    return structs.replace(state, removed=True)


_CHANGES: Final[dict[type[Event], Callable[[Definition | None, Any, Recorded], Definition]]] = {
    DefinitionSaved: _saved,
    DefinitionRemoved: _removed,
}


def digest_of(body: dict[str, Any]) -> str:
    """SHA-256, in hex, over the definition's JSON with sorted keys."""
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
