"""Wishes about aggregates that are no tasks. Their JSON is also the body of the matching REST call."""

from typing import Annotated, Any, Final, get_args

from msgspec import Meta

from taskloom.domain.task.commands import Command, Reason


class SaveDefinition(Command, frozen=True, tag="taskloom.definition.save.v1"):
    """Stores a workflow. ``expected_revision``: refused when another one is the newest; 0 says that there is none."""

    definition: dict[str, Any]
    expected_revision: Annotated[int, Meta(ge=0)] | None = None


class RemoveDefinition(Command, frozen=True, tag="taskloom.definition.remove.v1"):
    """It can be executed no more. Runs go on: each has its definition pinned."""

    reason: Reason = ""


DefinitionCommand = SaveDefinition | RemoveDefinition
EntityCommand = DefinitionCommand

KINDS: Final = {"definition": get_args(DefinitionCommand)}
"""Commands by the kind of entity that they are for."""

_KIND_OF: Final = {command: kind for kind, commands in KINDS.items() for command in commands}
ENTITY_COMMANDS: Final = tuple(_KIND_OF)


def kind_of(command: EntityCommand) -> str:
    """The kind of entity that a command is for; part of the entity's id."""
    return _KIND_OF[type(command)]
