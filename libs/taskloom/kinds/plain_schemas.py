"""Schemas of tenants' agents, cut down to what may be checked for all tenants in one process.

A JSON Schema can take for ever: a pattern that backtracks, branches that refer to the same definition again and again.
What is left has no patterns, no references, no words that check a value twice; it is never stricter than before.
"""

from collections.abc import Mapping
from typing import Any, Final

from taskloom.kinds.schemas import announced

MAX_NODES: Final = 500
MAX_DEPTH: Final = 20
_DEFINITIONS: Final = ("$defs", "definitions")
_AS_IT_IS: Final = (
    *("type", "const", "enum", "required", "title", "description"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
)


def plain(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The schemas by kind, each as a tree of up to 500 schemas; those that are too large stay away."""
    return announced({kind: _Tree(schema).root() for kind, schema in announced(schemas).items()})


class _Tree:
    """Of one schema. What goes beyond the bounds takes anything."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._nodes = 0

    def root(self) -> dict[str, Any]:
        made = self._made(self._schema, 0)
        return made if isinstance(made, dict) else {}

    def _made(self, schema: Any, depth: int) -> dict[str, Any] | bool:
        self._nodes += 1
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH or self._nodes > MAX_NODES:
            return {}
        if depth and "$id" in schema:
            return {}  # its references would be to other definitions
        made: dict[str, Any] = {name: schema[name] for name in _AS_IT_IS if name in schema}
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            made["properties"] = {name: self._made(each, depth + 1) for name, each in properties.items()}
        # Beside patterns, additional properties are others than those that are listed.
        if "additionalProperties" in schema and "patternProperties" not in schema:
            made["additionalProperties"] = self._made(schema["additionalProperties"], depth + 1)
        if "prefixItems" in schema:
            made |= self._list("prefixItems", schema["prefixItems"], depth)
        if "items" in schema and ("prefixItems" not in schema or "prefixItems" in made):
            made["items"] = self._made(schema["items"], depth + 1)
        made |= self._branches(schema, depth)
        return made

    def _branches(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """``oneOf`` tries its branches twice, so that nested ones take for ever: any of them will do."""
        every: list[Any] = []
        for name, kept_as in (("allOf", "allOf"), ("anyOf", "anyOf"), ("oneOf", "anyOf")):
            made = self._list(kept_as, schema.get(name), depth)
            if made:
                every.append(made)
        referred = self._referred(schema.get("$ref"))
        if referred is not None:
            every.append(self._made(referred, depth + 1))
        return {"allOf": every} if every else {}

    def _list(self, name: str, given: Any, depth: int) -> dict[str, Any]:
        if not isinstance(given, list) or not given:
            return {}
        return {name: [self._made(each, depth + 1) for each in given]}

    def _referred(self, reference: Any) -> Any:
        """The definition that a reference within the schema names; None for any other reference."""
        if not isinstance(reference, str):
            return None
        for place in _DEFINITIONS:
            definitions = self._schema.get(place)
            name = reference.removeprefix(f"#/{place}/")
            if name != reference and isinstance(definitions, Mapping) and name in definitions:
                return definitions[name]
        return None
