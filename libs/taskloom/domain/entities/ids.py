"""Ids of aggregates that are no tasks: ``@<kind>/<tenant>/<name>``. No task id begins with an ``@``."""

from typing import Final, NamedTuple

from taskloom.domain.ids import is_valid_id

PREFIX: Final = "@"


class EntityName(NamedTuple):
    """``kind`` as in the type of its commands: ``taskloom.<kind>.save.v1``."""

    kind: str
    tenant_id: str
    name: str


def entity_id(kind: str, tenant_id: str, name: str) -> str:
    """The id of its stream, which also decides on its partition."""
    return f"{PREFIX}{kind}/{tenant_id}/{name}"


def is_entity_id(stream_id: str) -> bool:
    """False for a task's id."""
    return stream_id.startswith(PREFIX)


def parts_of(stream_id: str) -> EntityName:
    """What an entity's id is made of.

    Raises:
        ValueError: it is no entity's id.
    """
    pieces = stream_id.removeprefix(PREFIX).split("/")
    if not is_entity_id(stream_id) or len(pieces) != len(EntityName._fields) or not all(map(is_valid_id, pieces)):
        raise ValueError(f"{stream_id!r} is not the id of an entity (@kind/tenant/name)")
    return EntityName(*pieces)
