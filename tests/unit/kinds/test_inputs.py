"""Inputs of the built-in kinds."""

from typing import Any

import jsonschema
import pytest

from taskloom.kinds import InvalidInput, schema, validate

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("shell", {}, "input.cmd"),
    ("shell", {"cmd": 3}, "input.cmd"),
    ("shell", {"cmd": ""}, "input.cmd"),
    ("shell", {"cmd": "ls", "dir": "/"}, "input.dir"),
    ("shell", {"cmd": "ls", "env": {"A": 1}}, "input.env[...]"),
    ("shell", {"cmd": "ls", "limits": {"cpu_s": 0}}, "input.limits.cpu_s"),
    ("shell", {"cmd": "ls", "limits": {"cores": 1}}, "input.limits.cores"),
    ("sleep", {"seconds": -1}, "input.seconds"),
    ("sleep", {"seconds": "1"}, "input.seconds"),
    ("echo", {"fail_times": -1}, "input.fail_times"),
    ("python", {"function": "os.system"}, "input.function"),
    ("python", {"function": "m:f", "args": {}}, "input.args"),
    ("http", {"url": "ftp://host/"}, "input.url"),
    ("http", {"url": "http://host/", "method": "get"}, "input.method"),
    ("http", {"url": "http://host/", "json": {}, "body": ""}, "input.body"),
]


@pytest.mark.parametrize(("kind", "given", "field"), WRONG)
def test_a_wrong_input_names_its_field(kind: str, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(kind, given)
    assert caught.value.field == field
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("shell", {"cmd": "ls", "env": {"A": "1"}, "cwd": "/", "stdin": "x", "limits": {"cpu_s": 1, "memory_mb": 64}}),
        ("sleep", {"seconds": 0}),
        ("echo", {"anything": [1, {"goes": True}], "fail_times": 2}),
        ("python", {"function": "my.module:Class.method", "args": [1], "kwargs": {"a": None}}),
        ("http", {"url": "https://host/path?q=1", "method": "POST", "json": None, "expect_status": [200, 404]}),
        ("goal", {"of": "another handler"}),
    ],
)
def test_a_right_input_passes_and_fits_its_schema(kind: str, given: dict[str, Any]) -> None:
    validate(kind, given)
    described = schema(kind)
    if described is not None:
        jsonschema.validate(given, described)


def test_the_context_of_a_query_is_checked_as_far_as_it_is_read() -> None:
    validate("query", {}, {"sleep_seconds": 2, "role": "anything"})
    with pytest.raises(InvalidInput) as caught:
        validate("query", {}, {"sleep_seconds": "long"})
    assert caught.value.field == "context.sleep_seconds"
