"""Whether what was valid under an older JSON Schema is still valid under the newer one.

A message keeps its name (``….v1``) only while this holds: no field removed, no type narrowed, no new required field.
"""

from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

_LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT: Final = ("pattern", "format", "contentEncoding")


def faults(old: Json, new: Json) -> list[str]:
    """What breaks a user of ``old``, each with the field's path (``$.retry.factor``); empty when nothing does."""
    return list(_compare(old, new, "$", _Definitions(old, new), frozenset()))


class _Definitions:
    """Follows references of both documents."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old, self._new = old, new

    def old(self, schema: Json) -> Json:
        return _follow(schema, self._old)

    def new(self, schema: Json) -> Json:
        return _follow(schema, self._new)


def _follow(schema: Json, document: Json) -> Json:
    while (reference := schema.get("$ref")) is not None:
        schema = document["$defs"][str(reference).rpartition("/")[2]]
    return schema


def _compare(old: Json, new: Json, path: str, known: _Definitions, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    old, new = known.old(old), known.new(new)
    if (id(old), id(new)) in seen:
        return  # a schema that contains itself
    seen |= {(id(old), id(new))}
    if "anyOf" in old or "anyOf" in new:
        yield from _compare_alternatives(old, new, path, known, seen)
        return
    yield from _compare_types(old, new, path)
    yield from _compare_limits(old, new, path)
    yield from _compare_fields(old, new, path, known, seen)
    for place in ("items", "additionalProperties"):
        if isinstance(old.get(place), dict) and isinstance(new.get(place), dict):
            yield from _compare(old[place], new[place], f"{path}[]", known, seen)
        elif not isinstance(old.get(place), dict) and isinstance(new.get(place), dict) and old.get(place) is not False:
            yield f"{path}: {place} narrowed"
    for index, (before, after) in enumerate(zip(old.get("prefixItems", ()), new.get("prefixItems", ()), strict=False)):
        yield from _compare(before, after, f"{path}[{index}]", known, seen)


def _compare_alternatives(
    old: Json, new: Json, path: str, known: _Definitions, seen: frozenset[tuple[int, int]]
) -> Iterator[str]:
    """Each alternative there was must fit into one there is."""
    after = new.get("anyOf", [new])
    for alternative in old.get("anyOf", [old]):
        found = [list(_compare(alternative, each, path, known, seen)) for each in after]
        if all(found):
            # The closest alternative's faults say it best.
            yield from min(found, key=len)


def _compare_types(old: Json, new: Json, path: str) -> Iterator[str]:
    before, after = _values(old), _values(new)
    if after is not None and (before is None or not before <= after):
        gone = "any value" if before is None else ", ".join(sorted(map(repr, before - after)))
        yield f"{path}: no longer takes {gone}"
    wanted, taken = _types(old), _types(new)
    if taken and not wanted:
        yield f"{path}: any type was taken, now {', '.join(sorted(taken))}"
    elif taken and not wanted <= taken:
        yield f"{path}: type {', '.join(sorted(wanted))} narrowed to {', '.join(sorted(taken))}"


def _values(schema: Json) -> frozenset[Any] | None:
    if "const" in schema:
        return frozenset([schema["const"]])
    return frozenset(schema["enum"]) if "enum" in schema else None


def _types(schema: Json) -> frozenset[str]:
    types = schema.get("type", [])
    found = {types} if isinstance(types, str) else set(types)
    return frozenset(found | {"integer"} if "number" in found else found)


def _compare_limits(old: Json, new: Json, path: str) -> Iterator[str]:
    for name in _LOWER_BOUNDS:
        if name in new and (name not in old or new[name] > old[name]):
            yield f"{path}: {name} raised to {new[name]}"
    for name in _UPPER_BOUNDS:
        if name in new and (name not in old or new[name] < old[name]):
            yield f"{path}: {name} lowered to {new[name]}"
    for name in _EXACT:
        if name in new and new[name] != old.get(name):
            yield f"{path}: {name} changed to {new[name]!r}"


def _compare_fields(
    old: Json, new: Json, path: str, known: _Definitions, seen: frozenset[tuple[int, int]]
) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in before:
        if name in after:
            yield from _compare(before[name], after[name], f"{path}.{name}", known, seen)
        else:
            yield f"{path}.{name}: field removed"
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield f"{path}.{name}: {'field became' if name in before else 'new field is'} required"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{path}: other fields are no longer taken"
