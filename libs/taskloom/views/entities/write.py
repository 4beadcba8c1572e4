"""Folded entities into their table, and out of it for the next fold."""

from collections.abc import Collection, Sequence
from typing import Any, Final, LiteralString

import msgspec
from psycopg import Cursor

from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of

PUT: Final[LiteralString] = """
INSERT INTO entities AS e (entity_id, kind, tenant_id, name, version, removed, changed_at, entity, lookup)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (entity_id) DO UPDATE
SET version = excluded.version, removed = excluded.removed, changed_at = excluded.changed_at, entity = excluded.entity,
    lookup = excluded.lookup
WHERE e.version < excluded.version
"""

LOAD: Final[LiteralString] = "SELECT entity FROM entities WHERE entity_id = ANY(%(ids)s)"

_decode = msgspec.json.Decoder(Entity).decode


def put(cursor: Cursor[Any], entities: Collection[Entity]) -> None:
    """Writes entities; one that is there in the same or a newer version stays."""
    cursor.executemany(PUT, [_columns(entity) for entity in sorted(entities, key=lambda each: each.entity_id)])


def load(cursor: Cursor[Any], ids: Sequence[str]) -> dict[str, Entity]:
    """Those of the entities that are there, by id."""
    cursor.execute(LOAD, {"ids": list(ids)})
    return {entity.entity_id: entity for entity in (_decode(stored) for (stored,) in cursor.fetchall())}


def _columns(entity: Entity) -> tuple[Any, ...]:
    name = parts_of(entity.entity_id)
    stored, lookup = msgspec.json.encode(entity), getattr(entity.value, "lookup", None)
    return (entity.entity_id, *name, entity.version, entity.value.removed, entity.changed_at, stored, lookup)
