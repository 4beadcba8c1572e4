from typing import Any

import pytest

from taskloom.contracts.compatible import faults

Json = dict[str, Any]


def fields(required: list[str] | None = None, **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required or []}


TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
INTEGER: Json = {"type": "integer"}
NULL: Json = {"type": "null"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (fields(a=TEXT), fields(a=TEXT, b=TEXT)),
        (fields(["a"], a=TEXT), fields(a=TEXT)),
        (fields(a=INTEGER), fields(a=NUMBER)),
        (fields(a=TEXT), fields(a={"anyOf": [TEXT, NULL]})),
        (fields(a={"enum": ["x"]}), fields(a={"enum": ["x", "y"]})),
        (fields(a={**NUMBER, "maximum": 5}), fields(a={**NUMBER, "maximum": 9})),
        (fields(a={**NUMBER, "minimum": 5}), fields(a=NUMBER)),
        (fields(a=TEXT), fields(a={})),
        (
            {"$ref": "#/$defs/T", "$defs": {"T": fields(a=TEXT, next={"$ref": "#/$defs/T"})}},
            {"$ref": "#/$defs/U", "$defs": {"U": fields(a=TEXT, b=TEXT, next={"$ref": "#/$defs/U"})}},
        ),
    ],
)
def test_what_takes_more_is_compatible(old: Json, new: Json) -> None:
    assert faults(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (fields(a=TEXT), fields(), "$.a: field removed"),
        (fields(a=TEXT), fields(["b"], a=TEXT, b=TEXT), "$.b: new field is required"),
        (fields(a=TEXT), fields(["a"], a=TEXT), "$.a: field became required"),
        (fields(a=NUMBER), fields(a=INTEGER), "$.a: type integer, number narrowed to integer"),
        (fields(a=TEXT), fields(a=INTEGER), "$.a: type string narrowed to integer"),
        (fields(a={}), fields(a=TEXT), "$.a: any type was taken, now string"),
        (fields(a={"anyOf": [TEXT, NULL]}), fields(a=TEXT), "$.a: type null narrowed to string"),
        (fields(a={"enum": ["x", "y"]}), fields(a={"enum": ["x"]}), "$.a: no longer takes 'y'"),
        (fields(a=TEXT), fields(a={**TEXT, "enum": ["x"]}), "$.a: no longer takes any value"),
        (fields(a={**NUMBER, "maximum": 9}), fields(a={**NUMBER, "maximum": 5}), "$.a: maximum lowered to 5"),
        (fields(a=NUMBER), fields(a={**NUMBER, "minimum": 5}), "$.a: minimum raised to 5"),
        (fields(a=TEXT), fields(a={**TEXT, "pattern": "^x$"}), "$.a: pattern changed to '^x$'"),
        (fields(a=TEXT), {**fields(a=TEXT), "additionalProperties": False}, "$: other fields are no longer taken"),
        (
            fields(a={"type": "array", "items": NUMBER}),
            fields(a={"type": "array", "items": INTEGER}),
            "$.a[]: type integer, number narrowed to integer",
        ),
        (
            fields(a={"type": "object", "additionalProperties": TEXT}),
            fields(a={"type": "object", "additionalProperties": INTEGER}),
            "$.a[]: type string narrowed to integer",
        ),
        (
            {"properties": {"t": {"$ref": "#/$defs/T"}}, "$defs": {"T": fields(a=TEXT)}},
            {"properties": {"t": {"$ref": "#/$defs/T"}}, "$defs": {"T": fields()}},
            "$.t.a: field removed",
        ),
    ],
)
def test_what_takes_less_is_named(old: Json, new: Json, fault: str) -> None:
    assert faults(old, new) == [fault]
