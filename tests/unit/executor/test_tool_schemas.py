"""Arguments against schemas that servers send, which may be anything."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from services.executor.tools.builtin import TOOLS
from services.executor.tools.results import MAX_RESULT_BYTES, cut, value_of
from services.executor.tools.schemas import check_arguments, fits, plain
from taskloom.kinds import TaskError

EVIL = {"type": "string", "pattern": "^(a+)+$"}


def test_a_pattern_that_takes_for_ever_is_never_tried() -> None:
    schema = {
        "type": "object",
        "properties": {"pattern": EVIL, "b": {"type": "array", "items": EVIL}, "c": {"enum": [{"pattern": "kept"}]}},
        "patternProperties": {"^(a+)+$": {"type": "integer"}},
        "$defs": {"pattern": {"type": "string"}},
    }
    text = "a" * 64 + "!"
    check_arguments(schema, {"pattern": text, "b": [text]})
    cleaned = plain(schema)
    assert cleaned["properties"] == {
        "pattern": {"type": "string"},
        "b": {"type": "array", "items": {"type": "string"}},
        "c": {"enum": [{"pattern": "kept"}]},
    }
    assert "patternProperties" not in cleaned
    assert cleaned["$defs"] == {"pattern": {"type": "string"}}


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({"a": {"secret": "x"}}, "input.args.a"),
        ({"a": [{"b": {"secret": "x"}}]}, "input.args.a[0].b"),
        ({"n": "text"}, "input.args.n"),
        ({"list": [1, "text"]}, "input.args.list[1]"),
        ({"other": 1}, "input.args.other"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(args: dict[str, Any], field: str) -> None:
    numbers = {"type": "array", "items": {"type": "number"}}
    properties = {"n": {"type": "number"}, "list": numbers, "a": {}}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    with pytest.raises(TaskError) as caught:
        check_arguments(schema, args)
    assert caught.value.type == "invalid_arguments"
    assert caught.value.details == {"field": field}


def test_an_argument_that_is_called_secret_is_an_argument() -> None:
    check_arguments({"type": "object"}, {"secret": "of the house", "a": {"secret": "x", "more": 1}})


@pytest.mark.parametrize("schema", [{"type": 7}, {"$ref": "https://elsewhere.example/"}, {"$ref": "#"}, {}])
def test_a_schema_that_is_none_refuses_nothing(schema: dict[str, Any]) -> None:
    check_arguments(schema, {"a": 1})


def test_schemas_have_a_bound_and_ours_are_within() -> None:
    assert not fits({"description": "x" * 70_000})
    assert not fits([])
    assert fits({})
    for _, schema in TOOLS.values():
        assert fits(schema)
    check_arguments(TOOLS["shell"][1], {"cmd": "true"})
    with pytest.raises(TaskError):
        check_arguments(TOOLS["sql"][1], {"query": "SELECT 1", "max_rows": 0})


def test_structured_content_comes_before_text_and_text_before_blocks() -> None:
    text = SimpleNamespace(type="text", text="a")
    image = SimpleNamespace(type="image", model_dump=lambda **_: {"type": "image", "data": "AA=="})
    assert value_of(SimpleNamespace(structured_content={"a": 1}, content=[text])) == {"a": 1}
    assert value_of(SimpleNamespace(structured_content={"result": [1]}, content=[text])) == [1]
    assert value_of(SimpleNamespace(structured_content={"result": 1, "a": 1}, content=[])) == {"result": 1, "a": 1}
    assert value_of(SimpleNamespace(structured_content=None, content=[text, text])) == "a\na"
    assert value_of(SimpleNamespace(structured_content=None, content=[image])) == [{"type": "image", "data": "AA=="}]


@pytest.mark.parametrize("value", ["x" * 5_000_000, "\x01" * 4_000_000, ["é" * 3_000_000]])
def test_a_long_result_is_cut_and_says_so(value: Any) -> None:
    kept, truncated = cut(value)
    assert truncated
    assert "[cut here" in kept
    assert len(msgspec.json.encode(kept)) <= MAX_RESULT_BYTES
    assert cut(["short"]) == (["short"], False)
