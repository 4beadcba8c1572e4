"""Stored workflows as people see them: saved, listed, read in any revision, checked, executed."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.entities import Entities
from services.gateway.problems import BadRequest, NotFound, Problem
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.submit import Accepted, Submitter
from taskloom.domain.entities.commands import RemoveDefinition, SaveDefinition
from taskloom.domain.entities.definitions import Definition, Revision, faults_of, in_words
from taskloom.domain.entities.entity import Entity
from taskloom.domain.ids import is_valid_id
from taskloom.domain.task.events import TaskSubmitted
from taskloom.domain.values import DependencyPolicy, Identifier, Text256, UtcTime
from taskloom.domain.workflow import graph
from taskloom.domain.workflow.check import decode, names
from taskloom.domain.workflow.faults import Fault
from taskloom.domain.workflow.references import PINNED, DefinitionId, Reference
from taskloom.domain.workflow.warnings import warnings
from taskloom.wire.messages import Reply

KIND: Final = "definition"
RUN_OF: Final = "definition_id"
"""Metadata of a run that was executed from a stored workflow: that one's id."""

RESERVED: Final = frozenset({"validate"})
"""Parts of paths that stand where an id stands."""

_NOT_IN_SLUGS: Final = re.compile(r"[^a-z0-9]+")
_MAX_SLUG: Final = 128

Number = Annotated[int, Meta(ge=1)]
Version = Annotated[str, Meta(min_length=1, max_length=256)]


class SaveWorkflow(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``id``: that of the definition, or made of its name, when it is left out. ``expected_revision``: refused when
    another one is the newest; 0 says that there is none."""

    definition: dict[str, Any]
    id: DefinitionId | None = None
    expected_revision: Annotated[int, Meta(ge=0)] | None = None


class SaveRevision(Struct, frozen=True, forbid_unknown_fields=True):
    definition: dict[str, Any]
    expected_revision: Annotated[int, Meta(ge=0)] | None = None


class Checked(Struct, frozen=True, forbid_unknown_fields=True):
    definition: Any


class Verdict(Struct, frozen=True):
    """``phases``: ids of the top-level steps that can run side by side, phase by phase; empty when it is not valid.
    ``warnings``: what may be missing when it runs, such as a variable that nothing in the definition sets."""

    valid: bool
    faults: list[Fault]
    phases: list[list[str]]
    warnings: list[Fault] = []


class Execute(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without ``revision`` and ``version`` the newest one runs. ``variables`` and ``context`` are laid over those of
    the definition; the other fields are those of a submission."""

    revision: Number | None = None
    version: Version | None = None
    variables: dict[str, Any] = {}
    context: dict[str, Any] = {}
    checkpoint: dict[str, Any] | None = None
    task_id: Identifier | None = None
    session_id: Identifier | None = None
    name: Text256 = ""
    tags: Annotated[tuple[Text256, ...], Meta(max_length=100)] = ()
    metadata: dict[str, Any] = {}
    priority: int | str = 2
    queue: Identifier = "default"
    run_at: UtcTime | None = None
    deadline: UtcTime | None = None
    depends_on: Annotated[tuple[Identifier, ...], Meta(max_length=1000)] = ()
    on_dependency_failure: DependencyPolicy = "fail"
    callback_url: Annotated[str, Meta(max_length=2048)] = ""


class Executed(Struct, frozen=True, omit_defaults=True):
    """``task_id`` is the run's id, ``workflow_id`` the same under its other name; ``definition_id`` and ``revision``
    say what it runs."""

    task_id: str
    workflow_id: str
    status: str
    created_at: datetime
    definition_id: str = ""
    revision: int | UnsetType = UNSET


class Saved(Struct, frozen=True):
    """``changed`` is false when the newest revision had this very definition. ``created_at`` is of the first one."""

    id: str
    revision: int
    version: str
    created_at: datetime | None
    changed: bool


class Removed(Struct, frozen=True):
    id: str
    revision: int
    removed: bool


class Listed(Struct, frozen=True):
    """A stored workflow in its newest revision; ``steps`` is the number of its top-level steps."""

    id: str
    name: str
    description: str
    revision: int
    version: str
    steps: int
    saved_at: datetime
    saved_by: str
    created_at: datetime


class DefinitionList(Struct, frozen=True):
    """By id. ``next_cursor`` is the ``after`` of the next page, null on the last."""

    workflows: list[Listed]
    total_count: int
    next_cursor: str | None


class RevisionSeen(Struct, frozen=True):
    """``digest``: SHA-256 over the definition's JSON with sorted keys."""

    revision: int
    version: str
    steps: int
    digest: str
    saved_at: datetime
    saved_by: str


class RevisionList(Struct, frozen=True):
    """Newest first."""

    id: str
    revisions: list[RevisionSeen]
    total_count: int


class DefinitionSeen(RevisionSeen, frozen=True):
    """One revision with its body."""

    id: str
    newest_revision: int
    created_at: datetime
    definition: dict[str, Any]


class Definitions:
    """All of a tenant's stored workflows; another tenant's are unknown."""

    def __init__(self, entities: Entities, submitter: Submitter) -> None:
        self._entities = entities
        self._submitter = submitter

    async def save(
        self, name: str | None, definition: dict[str, Any], expected_revision: int | None, origin: Origin
    ) -> Saved:
        """
        Raises:
            BadRequest: the definition is faulty; ``faults`` in the answer has all of them.
            Conflict: another revision is the newest.
        """
        wanted = _id_in(definition) if name is None else name
        if wanted in RESERVED:
            raise BadRequest(f"{wanted!r} cannot be the id of a workflow; choose another one", field="id")
        if faults := faults_of(definition, wanted):
            raise BadRequest(in_words(faults), field=faults[0].path, faults=faults)
        reply = await self._entities.change(wanted, SaveDefinition(definition, expected_revision), origin)
        return saved_of(reply)

    async def remove(self, name: str, reason: str, origin: Origin) -> Removed:
        """Raises NotFound: there never was one."""
        reply = await self._entities.change(name, RemoveDefinition(reason), origin)
        return Removed(name, int(reply.data.get("revision", 0)), bool(reply.data.get("removed")))

    async def get(self, caller: Caller, name: str) -> tuple[Entity, Definition]:
        """Raises NotFound: unknown, removed, or another tenant's."""
        entity = await self._entities.find(KIND, caller, name)
        if entity is None or not isinstance(entity.value, Definition):
            raise NotFound(f"there is no stored workflow {name!r}", workflow_id=name)
        return entity, entity.value

    async def exists(self, caller: Caller, name: str) -> bool:
        return await self._entities.find(KIND, caller, name) is not None

    async def seen(self, caller: Caller, name: str, revision: int | None, version: str | None) -> DefinitionSeen:
        """A revision with its body. Raises NotFound."""
        entity, stored = await self.get(caller, name)
        found = stored.find(revision, version)
        if found is None:
            raise NotFound(f"there is no stored workflow {Reference(name, revision, version).key!r}", workflow_id=name)
        body = stored.body
        if found != stored.newest:
            event: Any = (await self._entities.event(entity, found.event_version)).event
            body = event.definition
        return DefinitionSeen(
            **msgspec.structs.asdict(_revision_seen(found)),
            id=name,
            newest_revision=stored.newest.number,
            created_at=entity.created_at,
            definition=body,
        )

    async def revisions(self, caller: Caller, name: str) -> RevisionList:
        """Raises NotFound."""
        _, stored = await self.get(caller, name)
        return RevisionList(name, [_revision_seen(each) for each in reversed(stored.revisions)], len(stored.revisions))

    async def page(self, caller: Caller, after: str, limit: int) -> DefinitionList:
        found, total = await self._entities.page(KIND, caller, after=after, limit=limit + 1)
        listed = [_listed(entity, entity.value) for entity in found[:limit] if isinstance(entity.value, Definition)]
        return DefinitionList(listed, total, listed[-1].id if len(found) > limit else None)

    async def execute(self, name: str, wish: Execute, origin: Origin) -> tuple[Accepted, Executed]:
        """A run, once the orchestrator has it.

        Raises:
            NotFound: there is no such stored workflow, or not in that revision.
            BadRequest, Conflict: as for any submission.
        """
        reference = Reference(name, wish.revision, wish.version)
        try:
            accepted = await self._submitter.submit(_submission(reference, wish), origin)
        except Problem as problem:
            if problem.field == "input.workflow":
                raise NotFound(str(problem), workflow_id=name) from problem
            problem.field = problem.field.removeprefix("input.")
            raise
        revision = await self._revision_of(accepted.task_id, reference)
        return accepted, executed_of(accepted, name, revision)

    async def _revision_of(self, task_id: str, reference: Reference) -> int | UnsetType:
        """What the run has pinned: in its first event, which was stored before the submission was confirmed."""
        first = await self._entities.first_event(task_id)
        submitted: Any = None if first is None else first.event
        if not isinstance(submitted, TaskSubmitted):
            return UNSET
        pinned = submitted.spec.input.get(PINNED, {}).get(reference.key)
        return UNSET if pinned is None else int(pinned["revision"])


def executed_of(accepted: Accepted, name: str = "", revision: int | UnsetType = UNSET) -> Executed:
    return Executed(accepted.task_id, accepted.task_id, "STATUS_CODE_OK", accepted.created_at, name, revision)


def saved_of(reply: Reply) -> Saved:
    facts = reply.data
    return Saved(
        reply.task_id, int(facts["revision"]), str(facts["version"]), reply.created_at, not facts.get("repeated")
    )


def run_of(wish: Execute, run_input: dict[str, Any]) -> dict[str, Any]:
    """The submission that executes what ``run_input`` names or holds."""
    told: dict[str, Any] = msgspec.to_builtins(wish)
    for field in ("revision", "version"):
        told.pop(field, None)
    for field in ("variables", "context", "checkpoint"):
        if field in told:
            run_input = {**run_input, field: told.pop(field)}
    return {**told, "kind": "workflow", "input": run_input}


def _submission(reference: Reference, wish: Execute) -> bytes:
    named = msgspec.to_builtins(reference) if reference.key != reference.id else reference.id
    task = run_of(wish, {"workflow": named})
    metadata = {**wish.metadata, RUN_OF: reference.id}
    return msgspec.json.encode({**task, "name": wish.name or reference.id, "metadata": metadata})


def verdict_on(definition: Any) -> Verdict:
    """What is wrong with a definition, or how its top-level steps can run."""
    if faults := faults_of(definition):
        return Verdict(False, faults, [])
    steps = decode(definition).steps
    named = names(steps)
    ids = {step.id for step in steps}
    needs = {step.id: [need if need in ids else named[need][0] for need in step.depends_on] for step in steps}
    return Verdict(True, [], graph.phases([step.id for step in steps], needs), warnings(definition))


def _id_in(definition: dict[str, Any]) -> str:
    """The definition's own id, else one made of its name. Raises BadRequest: it has neither."""
    own = definition.get("id")
    if not own:
        return slug_of(definition.get("name"))
    if not isinstance(own, str) or not is_valid_id(own):
        raise BadRequest("not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field="definition.id")
    return own


def slug_of(name: Any) -> str:
    """An id made of a workflow's name: ``Nightly ETL`` gives ``nightly-etl``.

    Raises:
        BadRequest: nothing is left of it.
    """
    slug = _NOT_IN_SLUGS.sub("-", str(name or "").lower()).strip("-")[:_MAX_SLUG].strip("-")
    if not slug:
        raise BadRequest("no id can be made of the definition's name; give one", field="id")
    return slug


def _listed(entity: Entity, stored: Definition) -> Listed:
    newest, body = stored.newest, stored.body
    return Listed(
        id=entity.entity_id.rpartition("/")[2],
        name=str(body.get("name", "")),
        description=str(body.get("description", "")),
        revision=newest.number,
        version=newest.version,
        steps=newest.steps,
        saved_at=newest.saved_at,
        saved_by=newest.saved_by,
        created_at=entity.created_at,
    )


def _revision_seen(revision: Revision) -> RevisionSeen:
    return RevisionSeen(
        revision=revision.number,
        version=revision.version,
        steps=revision.steps,
        digest=revision.digest,
        saved_at=revision.saved_at,
        saved_by=revision.saved_by,
    )
