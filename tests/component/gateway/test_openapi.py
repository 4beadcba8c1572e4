"""The OpenAPI document: valid, complete, and its examples are what the routes take and give."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from openapi_spec_validator import validate

from services.gateway.docs import Doc
from services.gateway.openapi import EXAMPLES, document_of

Json = dict[str, Any]


@pytest.fixture
def document(app: Litestar) -> Json:
    return dict(msgspec.json.decode(msgspec.json.encode(document_of(app))))


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def faults_of(document: Json, schema: Json, value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return [error.message for error in validator.iter_errors(value)]


def test_the_document_is_valid_openapi(document: Json) -> None:
    validate(document)


def test_every_http_handler_says_what_it_does(app: Litestar) -> None:
    handlers = [each for route in app.routes for each in getattr(route, "route_handlers", ())]
    silent = [
        handler.handler_name
        for handler in handlers
        if isinstance(handler, HTTPRouteHandler)
        and handler.http_methods != {"OPTIONS"}
        and not isinstance(handler.opt.get("doc"), Doc)
    ]
    assert silent == []
    assert len(handlers) > 70


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
        assert any(status < "400" for status in answers) or operation["tags"] == ["Not offered"] or "501" in answers, (
            name
        )
    assert without == []
    assert set(msgspec.json.decode(EXAMPLES.read_bytes())) - used == set(), "examples that nothing shows"


def test_no_two_schemas_share_a_name(document: Json) -> None:
    """msgspec tells two structs of one name apart by their modules: clients would see our insides."""
    assert [name for name in document["components"]["schemas"] if "." in name] == []


async def test_the_docs_page_and_its_files_come_from_here(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http" not in page.text.replace("http-equiv", "")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon-32x32.png"):
        assert f"/docs/{name}" in page.text
        assert (await client.get(f"/docs/{name}")).status_code == 200
    assert (await client.get("/docs/swagger-ui-bundle.js.map")).json() == {"error": "the docs page has no such file"}
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/api/v1/tasks", b"{", 400, "$"),
        ("POST", "/api/v1/tasks", b"[" * 400 + b"]" * 400, 400, "$"),
        ("POST", "/api/v1/tasks", b"\xff", 400, "$"),
        ("POST", "/api/v1/tasks", b'{"kind": "echo", "priority": "soon"}', 400, "priority"),
        ("GET", "/api/v1/tasks?limit=x", b"", 400, "limit"),
        ("GET", "/api/v1/tasks/none", b"", 404, None),
        ("GET", "/nothing/here", b"", 404, None),
        ("PUT", "/api/v1/tasks", b"", 405, None),
        ("GET", "/v1/models", b"", 501, None),
    ],
)
async def test_errors_have_one_shape(
    client: httpx.AsyncClient, method: str, path: str, body: bytes, status: int, field: str | None
) -> None:
    answer = await client.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert isinstance(told["error"], str)
    assert told.get("field") == field
    if status == 405:
        assert "POST" in answer.headers["allow"]


async def test_a_body_over_the_limit_is_refused_in_the_same_shape(client: httpx.AsyncClient) -> None:
    async def pieces() -> Any:
        for _ in range(41):
            yield b" " * 1024 * 1024

    for content, headers in ((b" ", {"content-length": str(10**9)}), (pieces(), {})):
        answer = await client.post("/api/v1/tasks", content=content, headers=headers)
        assert (answer.status_code, [*answer.json()]) == (413, ["error"])
