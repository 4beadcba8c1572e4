"""JSON Schemas that executors announce for their kinds, so that a wrong input is refused before it is queued."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from taskloom.kinds.inputs import InvalidInput
from taskloom.wire.messages import ExecutorHeartbeat

MAX_SCHEMA_BYTES: Final = 16 * 1024
MAX_ALL_BYTES: Final = 64 * 1024
"""Of one executor's schemas: they travel with each of its heartbeats. What is above is checked by the executor only."""

MISSED_BEATS: Final = 4
"""An executor that was not heard for so many of its heartbeats is taken for gone."""

_NO_FILES: Final[Registry[Any]] = Registry()
"""References to other places are not followed."""


def announced(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those that fit into a heartbeat, small ones first."""
    chosen: dict[str, dict[str, Any]] = {}
    sizes = {kind: len(msgspec.json.encode(schema)) for kind, schema in schemas.items()}
    left = MAX_ALL_BYTES
    for kind in sorted(sizes, key=lambda kind: (sizes[kind], kind)):
        if sizes[kind] <= min(MAX_SCHEMA_BYTES, left):
            left -= sizes[kind]
            chosen[kind] = dict(schemas[kind])
    return chosen


class Schemas:
    """An input has to fit one of the schemas of its kind. A kind that some executor offers without one is not checked
    here. Executors that are gone count for kinds that nobody else offers."""

    def __init__(self, heard: Iterable[ExecutorHeartbeat] = (), now: datetime | None = None) -> None:
        live: list[ExecutorHeartbeat] = []
        gone: list[ExecutorHeartbeat] = []
        for beat in heard:
            (live if now is not None and _lives(beat, now) else gone).append(beat)
        found = _by_kind(gone) | _by_kind(live)
        self._schemas = {kind: sorted(schemas) for kind, schemas in found.items() if schemas}

    def check(self, kind: str, value: Mapping[str, Any]) -> None:
        """
        Raises:
            InvalidInput: ``value`` is no input of this kind; names the field, for example ``input.order.id``.
        """
        refusal: InvalidInput | None = None
        for schema in self._schemas.get(kind, ()):
            found = _fault(_validator(schema), value)
            if found is None:
                return
            refusal = refusal or found
        if refusal is not None:
            raise refusal


def _lives(beat: ExecutorHeartbeat, now: datetime) -> bool:
    return beat.status != "stopped" and now - beat.at < MISSED_BEATS * timedelta(seconds=beat.interval_s)


def _by_kind(heard: Iterable[ExecutorHeartbeat]) -> dict[str, set[bytes] | None]:
    """The schemas of each kind; None for one that is offered without."""
    found: dict[str, set[bytes] | None] = {}
    for beat in heard:
        for kind in beat.kinds:
            known = found.setdefault(kind, set())
            if kind not in beat.schemas:
                found[kind] = None
            elif known is not None:
                known.add(msgspec.json.encode(beat.schemas[kind], order="deterministic"))
    return found


@lru_cache(maxsize=1024)
def _validator(schema: bytes) -> Draft202012Validator | None:
    """None for one that is no JSON Schema: the executor checks in any case."""
    decoded = msgspec.json.decode(schema)
    try:
        Draft202012Validator.check_schema(decoded)
    except SchemaError:
        return None
    return Draft202012Validator(decoded, registry=_NO_FILES)


def _fault(validator: Draft202012Validator | None, value: Mapping[str, Any]) -> InvalidInput | None:
    if validator is None:
        return None
    try:
        error = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError):
        return None
    return None if error is None else InvalidInput(*_told(error))


def _told(error: ValidationError) -> tuple[str, str]:
    field = "input" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    if error.validator == "required":
        field = f"{field}.{next(name for name in schema['required'] if name not in instance)}"
    elif error.validator == "additionalProperties" and schema["additionalProperties"] is False:
        known = schema.get("properties", {})
        field = f"{field}.{next((name for name in instance if name not in known), '')}"
    return f"{field}: {error.message[:500]}", field
