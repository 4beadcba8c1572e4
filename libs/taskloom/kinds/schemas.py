"""JSON Schemas that executors announce for their kinds, so that a wrong input is refused before it is queued."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

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


MAX_STEPS: Final = 20_000
"""Parts of an agent's schema times parts of the input, above which the input is left to the agent to check: a tenant's
schema must not hold up those who check for all tenants."""

TEXT_PART: Final = 64
"""So many characters of a text count as one part."""


class _Schema(NamedTuple):
    text: bytes
    of_agent: bool


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
    here. Executors that are gone count for kinds that nobody else offers.

    ``beside``: those of the installation's executors, where ``heard`` are a tenant's agents.
    """

    def __init__(
        self,
        heard: Iterable[ExecutorHeartbeat] = (),
        now: datetime | None = None,
        beside: "Schemas | None" = None,
    ) -> None:
        live: list[ExecutorHeartbeat] = []
        gone: list[ExecutorHeartbeat] = []
        for beat in heard:
            (live if now is not None and _lives(beat, now) else gone).append(beat)
        self._live, self._gone = _by_kind(live), _by_kind(gone)
        self._beside = beside

    def check(self, kind: str, value: Mapping[str, Any]) -> None:
        """
        Raises:
            InvalidInput: ``value`` is no input of this kind; names the field, for example ``input.order.id``.
        """
        refusal: InvalidInput | None = None
        for schema in sorted(self._of(kind)):
            validator = _validator(schema.text)
            if schema.of_agent and not _is_affordable(schema.text, value):
                return
            found = _fault(validator, value)
            if found is None:
                return
            refusal = refusal or found
        if refusal is not None:
            raise refusal

    def _of(self, kind: str) -> set[_Schema]:
        """Those of who lives, or, when nobody who lives offers the kind, of who is gone; empty: it is not checked."""
        layers = [self] if self._beside is None else [self, self._beside]
        for offers in ([each._live for each in layers], [each._gone for each in layers]):
            offered = [each[kind] for each in offers if kind in each]
            if offered:
                return set() if None in offered else set().union(*(each for each in offered if each is not None))
        return set()


def check_value(schema: Mapping[str, Any], value: Any, root: str) -> None:
    """Whether a value fits a schema of somebody whom we do not know. What is no JSON Schema, refers elsewhere, or would
    take long to check refuses nothing.

    Raises:
        InvalidInput: it does not fit; the field's path begins with ``root``.
    """
    text = msgspec.json.encode(schema, order="deterministic")
    found = _fault(_validator(text), value, root) if _is_affordable(text, value) else None
    if found is not None:
        raise found


def _lives(beat: ExecutorHeartbeat, now: datetime) -> bool:
    return beat.status != "stopped" and now - beat.at < MISSED_BEATS * timedelta(seconds=beat.interval_s)


def _by_kind(heard: Iterable[ExecutorHeartbeat]) -> dict[str, set[_Schema] | None]:
    """The schemas of each kind; None for one that is offered without."""
    found: dict[str, set[_Schema] | None] = {}
    for beat in heard:
        for kind in beat.kinds:
            known = found.setdefault(kind, set())
            if kind not in beat.schemas:
                found[kind] = None
            elif known is not None:
                text = msgspec.json.encode(beat.schemas[kind], order="deterministic")
                known.add(_Schema(text, bool(beat.tenant_id)))
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


def _is_affordable(schema: bytes, value: Any) -> bool:
    most = MAX_STEPS // _parts_of_schema(schema)
    return _parts(value, most) <= most


@lru_cache(maxsize=1024)
def _parts_of_schema(schema: bytes) -> int:
    return _parts(msgspec.json.decode(schema), MAX_STEPS)


def _parts(value: Any, most: int) -> int:
    """How many values and texts a JSON value is made of; counts no further than a little above ``most``."""
    count, waiting = 0, [value]
    while waiting and count <= most:
        each = waiting.pop()
        count += 1
        if isinstance(each, dict):
            waiting.extend(each.values())
            count += sum(len(name) for name in each) // TEXT_PART
        elif isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, str):
            count += len(each) // TEXT_PART
    return count


def _fault(validator: Draft202012Validator | None, value: Any, root: str = "input") -> InvalidInput | None:
    if validator is None:
        return None
    try:
        error = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError):
        return None
    return None if error is None else InvalidInput(*_told(error, root))


def _told(error: ValidationError, root: str) -> tuple[str, str]:
    field = root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    if error.validator == "required":
        field = f"{field}.{next(name for name in schema['required'] if name not in instance)}"
    elif error.validator == "additionalProperties" and schema["additionalProperties"] is False:
        known = schema.get("properties", {})
        field = f"{field}.{next((name for name in instance if name not in known), '')}"
    return f"{field}: {error.message[:500]}", field
