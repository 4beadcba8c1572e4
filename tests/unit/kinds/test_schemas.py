"""Inputs against the schemas that executors announce."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskloom.kinds import InvalidInput
from taskloom.kinds.schemas import MAX_ALL_BYTES, MAX_SCHEMA_BYTES, Schemas, announced
from taskloom.wire.messages import ExecutorHeartbeat

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINES: dict[str, Any] = {
    "type": "object",
    "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}}, "note": {"type": "string"}},
    "required": ["lines"],
    "additionalProperties": False,
    "$defs": {
        "Line": {
            "type": "object",
            "properties": {"count": {"type": "integer", "minimum": 1}},
            "required": ["count"],
        }
    },
}


def beat(name: str, schema: Any = None, *, kind: str = "shop.pack", age_s: float = 0.0, status: Any = "ready") -> Any:
    schemas = {} if schema is None else {kind: schema}
    return ExecutorHeartbeat(name, "i", status, NOW - timedelta(seconds=age_s), (kind,), schemas=schemas)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "input.lines"),
        ({"lines": 3}, "input.lines"),
        ({"lines": [{"count": 1}, {"count": 0}]}, "input.lines[1].count"),
        ({"lines": [{}]}, "input.lines[0].count"),
        ({"lines": [], "nte": "x"}, "input.nte"),
    ],
)
def test_a_wrong_input_is_refused_with_the_path_of_its_field(value: dict[str, Any], field: str) -> None:
    schemas = Schemas([beat("a", LINES)], NOW)
    schemas.check("shop.pack", {"lines": [{"count": 2}]})
    schemas.check("other", value)
    with pytest.raises(InvalidInput) as refused:
        schemas.check("shop.pack", value)
    assert refused.value.field == field
    assert refused.value.message.startswith(f"{field}: ")


def test_during_a_change_an_input_may_fit_either_schema_and_dead_executors_do_not_count() -> None:
    older = {"type": "object", "required": ["older"]}
    both = Schemas([beat("a", LINES), beat("b", older)], NOW)
    both.check("shop.pack", {"older": 1})
    both.check("shop.pack", {"lines": []})
    for gone in (beat("b", older, age_s=60), beat("b", older, status="stopped")):
        with pytest.raises(InvalidInput):
            Schemas([beat("a", LINES), gone], NOW).check("shop.pack", {"older": 1})
        with pytest.raises(InvalidInput):
            Schemas([gone], NOW).check("shop.pack", {"lines": []})


def test_what_one_executor_takes_unchecked_is_not_checked_at_the_door() -> None:
    Schemas([beat("a", LINES), beat("b")], NOW).check("shop.pack", {})


@pytest.mark.parametrize(
    "schema", [{"type": 7}, {"$ref": "http://127.0.0.1:1/x"}, {"$ref": "#/$defs/absent"}, {"$ref": "#"}]
)
def test_a_schema_that_cannot_be_used_refuses_nothing(schema: dict[str, Any]) -> None:
    Schemas([beat("a", schema)], NOW).check("shop.pack", {"any": 1})


def test_schemas_of_a_heartbeat_are_bounded_one_by_one_and_together() -> None:
    small = {"description": "x" * 1000}
    middle = {"description": "x" * (MAX_SCHEMA_BYTES - 100)}
    large = {"description": "x" * MAX_SCHEMA_BYTES}
    chosen = announced({"large": large, **{f"m{n}": middle for n in range(9)}, "small": small})
    assert {"small", "m0"} <= chosen.keys()
    assert "large" not in chosen
    assert len(chosen) == 1 + (MAX_ALL_BYTES - 1100) // (MAX_SCHEMA_BYTES - 80)
