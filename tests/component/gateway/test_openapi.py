"""The OpenAPI document: valid, complete, and its examples are what the routes take and give."""

from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from openapi_spec_validator import validate

from services.gateway.docs import Doc
from services.gateway.openapi import document_of

Json = dict[str, Any]


@pytest.fixture
def document(app: Litestar) -> Json:
    return dict(msgspec.json.decode(msgspec.json.encode(document_of(app))))


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
