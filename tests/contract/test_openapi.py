"""contracts/openapi.json: every operation says what it takes and gives, with examples that fit.

An answer's example is the route's own (``Answered``), or that of its type in services/gateway/examples.json.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from services.gateway.openapi import EXAMPLES

Json = dict[str, Any]
FILE: Final = Path(__file__).parents[2] / "contracts" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> Json:
    return dict(json.loads(FILE.read_bytes()))


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def faults_of(document: Json, schema: Json, value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return [error.message for error in validator.iter_errors(value)]


def test_every_operation_has_an_id_a_tag_a_summary_and_errors_of_one_shape(document: Json) -> None:
    error = {"$ref": "#/components/schemas/Error"}
    for name, operation in operations(document):
        assert operation["operationId"], name
        assert operation["summary"], name
        assert operation["tags"], name
        for status, answer in operation["responses"].items():
            if "$ref" in answer:
                answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                assert answer["content"]["application/json"]["schema"] == error, (name, status)
            elif int(status) >= 400:
                content = answer["content"]["application/json"]
                assert content.get("schema") == error or "example" in content, (name, status)


def test_every_body_has_examples_that_fit_its_schema(document: Json) -> None:
    for name, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            examples = content.get("examples", {})
            assert examples, f"{name}: its body has no example"
            for label, example in examples.items():
                assert faults_of(document, content["schema"], example["value"]) == [], (name, label)


def test_every_example_of_an_answer_fits_its_schema(document: Json) -> None:
    answers = [*document["components"]["responses"].items()]
    answers += [
        (f"{name} {status}", answer)
        for name, operation in operations(document)
        for status, answer in operation["responses"].items()
        if "$ref" not in answer
    ]
    checked = 0
    for name, answer in answers:
        for content in answer.get("content", {}).values():
            if "example" in content and "schema" in content:
                assert faults_of(document, content["schema"], content["example"]) == [], name
                checked += 1
    assert checked > 100


def test_every_answer_has_an_example_and_every_operation_the_errors_of_its_sort(document: Json) -> None:
    without, used = [], set()
    for name, operation in operations(document):
        answers = operation["responses"]
        for status, answer in answers.items():
            for kind, content in answer.get("content", {}).items():
                if "example" not in content and kind not in ("text/html", "*/*"):
                    without.append(f"{name} {status} {kind}")
                used.add(content.get("schema", {}).get("$ref", "").rpartition("/")[2])
        assert {"403", "500", "503"} <= answers.keys(), name
        assert "/api/v1/" not in name or "400" in answers, name
        assert "requestBody" not in operation or {"400", "413"} <= answers.keys(), name
        assert not operation.get("security") or "401" in answers, name
        good = any(status < "400" for status in answers)
        assert good or answers.keys() & {"426", "501"}, f"{name} never succeeds, and says not why"
    assert without == []
    assert set(json.loads(EXAMPLES.read_bytes())) - used == set(), "examples that nothing shows"
