"""Schemas of agents: what is left of them is never stricter, and never takes long."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from taskloom.kinds import InvalidInput
from taskloom.kinds.offers import offer_of
from taskloom.kinds.plain_schemas import MAX_NODES, plain
from taskloom.kinds.schemas import MAX_SCHEMA_BYTES, Schemas
from taskloom.wire.messages import ExecutorHeartbeat
from tests.unit.kinds.test_schemas import LINES

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def beat(schema: Any, tenant_id: str = "acme", kind: str = "pack", name: str = "acme:a") -> ExecutorHeartbeat:
    return ExecutorHeartbeat(name, "i", "ready", NOW, (kind,), schemas={kind: schema}, tenant_id=tenant_id)


def of(schema: Any) -> dict[str, Any]:
    return plain({"k": schema})["k"]


def test_what_a_typed_function_announces_is_checked_as_before() -> None:
    schemas = Schemas([beat(of(LINES))], NOW)
    schemas.check("pack", {"lines": [{"count": 1}], "note": "x"})
    for value, field in (
        ({}, "input.lines"),
        ({"lines": [{"count": 1}, {"count": 0}]}, "input.lines[1].count"),
        ({"lines": [{}]}, "input.lines[0].count"),
        ({"lines": [], "nte": "x"}, "input.nte"),
    ):
        with pytest.raises(InvalidInput) as refused:
            schemas.check("pack", value)
        assert refused.value.field == field


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"type": "string", "pattern": "(a+)+$", "format": "regex"}, {"type": "string"}),
        ({"patternProperties": {"(a+)+$": False}, "additionalProperties": False}, {}),
        ({"not": {}, "if": {}, "else": False, "contains": False, "uniqueItems": True, "multipleOf": 1e-300}, {}),
        ({"oneOf": [True, {"type": "null"}]}, {"allOf": [{"anyOf": [True, {"type": "null"}]}]}),
        ({"$ref": "https://example.com/x"}, {}),
        ({"$ref": "#"}, {}),
        ({"properties": {"a": {"$id": "x", "$ref": "#/$defs/y"}}, "$defs": {"y": False}}, {"properties": {"a": {}}}),
        ({"items": [{"type": "null"}], "allOf": 3, "properties": 7}, {"items": {}}),
        ({"prefixItems": 3, "items": False}, {}),
        (
            {"$ref": "#/$defs/a", "title": "t", "$defs": {"a": {"type": "object"}}},
            {"title": "t", "allOf": [{"type": "object"}]},
        ),
    ],
)
def test_what_may_take_long_is_left_out_and_nothing_gets_stricter(schema: Any, left: Any) -> None:
    assert of(schema) == left


def _doubling(levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{levels}": {"type": "null"}}}


EVIL: list[Any] = [
    _doubling(60),
    {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}},
    {
        "properties": {f"p{n}": {"enum": [n]} for n in range(400)},
        "additionalProperties": {"anyOf": [{"const": 1}] * 90},
    },
    {"additionalProperties": {"items": {"anyOf": [{"type": "null"}] * 400}}},
    {"anyOf": [{"required": [f"p{n}"]} for n in range(400)]},
]


@pytest.mark.parametrize("schema", EVIL)
def test_no_schema_of_an_agent_holds_anybody_up(schema: Any) -> None:
    schemas = Schemas([beat(each) for each in plain({"k": schema}).values()], NOW)
    values: list[dict[str, Any]] = [
        {"a": [0] * 100_000},
        {f"p{n}": {"deep": [[[n]]]} for n in range(3_000)},
        {"a": "x" * 10_000_000},
        {"a": [{} for _ in range(100)]},
    ]
    began = time.process_time()
    for value in values:
        try:
            schemas.check("pack", value)
        except InvalidInput:
            continue
    assert time.process_time() - began < 10.0


def test_a_schema_is_bounded_before_and_after() -> None:
    assert plain({"k": {"description": "x" * MAX_SCHEMA_BYTES}}) == {}
    many = of(_doubling(60))
    assert str(many).count("anyOf") <= MAX_NODES


_NAMES = st.sampled_from(["a", "b"])
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "ab"]))
_VALUES = st.recursive(_SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(_NAMES, each), max_leaves=6)
_TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
_SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.booleans(), st.fixed_dictionaries({}, optional={"type": _TYPES, "minimum": st.integers(-2, 2),
              "const": _SCALARS, "maxLength": st.integers(0, 2), "minItems": st.integers(0, 2), "pattern": _NAMES,
              "required": st.lists(_NAMES, unique=True), "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b", "#"])})),
    lambda each: st.fixed_dictionaries({}, optional={"properties": st.dictionaries(_NAMES, each), "items": each,
        "additionalProperties": each, "patternProperties": st.dictionaries(_NAMES, each), "not": each, "if": each,
        "then": each, "anyOf": st.lists(each, min_size=1, max_size=3), "oneOf": st.lists(each, min_size=1, max_size=3),
        "allOf": st.lists(each, min_size=1, max_size=2), "prefixItems": st.lists(each, min_size=1, max_size=2)}),
    max_leaves=6,
)  # fmt: skip


def _refers(schema: Any, *places: str) -> bool:
    within = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return (isinstance(schema, dict) and schema.get("$ref") in places) or any(_refers(each, *places) for each in within)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(_SCHEMAS.filter(lambda each: isinstance(each, dict)), _SCHEMAS, _VALUES)
def test_whatever_fits_a_schema_fits_what_is_left_of_it(schema: Any, definition: Any, value: Any) -> None:
    # A reference back to where it stands never ends in jsonschema, or breaks the Rust below it.
    assume(not _refers(definition, "#", "#/$defs/a") and not _refers(schema, "#"))
    schema = {**schema, "$defs": {"a": definition, "b": {"type": "object"}}}
    fits = Draft202012Validator(schema).is_valid(value)
    assert not fits or Draft202012Validator(of(schema)).is_valid(value)


def test_agents_schemas_count_beside_those_of_executors_for_their_tenant_alone() -> None:
    wide, narrow = {"required": ["wide"]}, {"required": ["narrow"]}
    offer = offer_of([beat(wide, "", name="x"), beat(narrow), beat(narrow, "red", "own", "red:a")], NOW)
    offer.of("acme").schemas.check("pack", {"narrow": 1})
    offer.of("acme").schemas.check("pack", {"wide": 1})
    for tenant_id in ("red", "default"):
        with pytest.raises(InvalidInput):
            offer.of(tenant_id).schemas.check("pack", {"narrow": 1})
    with pytest.raises(InvalidInput):
        offer.of("red").schemas.check("own", {})
    offer.of("acme").schemas.check("own", {})
    assert (offer.of("red").kinds, offer.of("blue").kinds) == (frozenset({"pack", "own"}), frozenset({"pack"}))
