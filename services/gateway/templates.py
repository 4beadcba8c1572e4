"""Templates: listed with their parameters, and made into definitions that are stored or executed at once."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.definitions import Definitions, Execute, Executed, Saved, executed_of, run_of
from services.gateway.known import KnownThings
from services.gateway.problems import BadRequest, NotFound, Problem
from services.gateway.submission import Origin
from services.gateway.submit import Submitter
from taskloom.domain.workflow.references import DefinitionId
from taskloom.templates import TEMPLATES, BadParameters, Template, instantiate


class TemplateSeen(Struct, frozen=True):
    """``parameters`` is a JSON Schema, ``example`` a body for ``POST`` that fits."""

    name: str
    description: str
    parameters: dict[str, Any]
    example: dict[str, Any]


class TemplateList(Struct, frozen=True):
    templates: list[TemplateSeen]
    total_count: int


class Instantiate(Struct, frozen=True, forbid_unknown_fields=True):
    """``save_as`` stores the definition under that id; ``execute``, which may be empty, runs it."""

    parameters: dict[str, Any] = {}
    save_as: DefinitionId | None = None
    expected_revision: Annotated[int, Meta(ge=0)] | None = None
    execute: Execute | None = None


class Instantiated(Struct, frozen=True, omit_defaults=True):
    """``saved`` and ``run`` are there where they were asked for."""

    template: str
    definition: dict[str, Any]
    saved: Saved | UnsetType = UNSET
    run: Executed | UnsetType = UNSET


def seen(template: Template) -> TemplateSeen:
    return TemplateSeen(template.name, template.description, template.schema(), {"parameters": template.example})


def found(name: str) -> Template:
    """Raises NotFound: there is no such template."""
    template = TEMPLATES.get(name)
    if template is None:
        raise NotFound(f"there is no template {name!r}; there are {', '.join(TEMPLATES)}", template=name)
    return template


class Templates:
    def __init__(self, definitions: Definitions, submitter: Submitter, known: KnownThings) -> None:
        self._definitions = definitions
        self._submitter = submitter
        self._known = known

    async def instantiate(self, template: Template, wish: Instantiate, origin: Origin) -> Instantiated:
        """The definition; stored and executed as wished.

        Raises:
            BadRequest: a parameter does not fit; names its path.
            Conflict: another revision is the newest, or the run's id is taken.
        """
        if wish.execute is not None and (wish.execute.revision is not None or wish.execute.version is not None):
            field = "revision" if wish.execute.revision is not None else "version"
            raise BadRequest("what the template gives is executed; leave it out", field=f"execute.{field}")
        try:
            kinds = self._known.now(origin.caller.tenant_id).kinds
            definition = instantiate(template, wish.parameters, created_by=origin.caller.user_id, kinds=kinds)
        except BadParameters as bad:
            raise BadRequest(bad.message, field=bad.field) from bad
        saved: Saved | UnsetType = UNSET
        if wish.save_as is not None:
            saved = await self._definitions.save(wish.save_as, definition, wish.expected_revision, origin)
        run: Executed | UnsetType = UNSET
        if wish.execute is not None:
            run = await self._run(template, definition, saved, wish.execute, origin)
        return Instantiated(template.name, definition, saved, run)

    async def _run(
        self, template: Template, definition: dict[str, Any], saved: Saved | UnsetType, wish: Execute, origin: Origin
    ) -> Executed:
        try:
            if isinstance(saved, Saved):
                chosen = msgspec.structs.replace(wish, revision=saved.revision)
                return (await self._definitions.execute(saved.id, chosen, origin))[1]
            task = run_of(wish, {"definition": definition})
            told = {"name": wish.name or template.name, "metadata": {**wish.metadata, "template": template.name}}
            return executed_of(await self._submitter.submit(msgspec.json.encode({**task, **told}), origin))
        except Problem as problem:
            if problem.field:
                problem.field = f"execute.{problem.field.removeprefix('input.')}"
            raise
