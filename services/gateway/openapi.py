"""The OpenAPI document, read from the routes that are served: a route cannot be left out, nor described and not served.

Schemas come from the same msgspec structs that decode and encode, and so agree with the JSON Schemas of the Kafka
commands; Litestar's own generator would describe them a second time, in its own way.
"""

import re
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from services.gateway.docs import Answered, Doc
from services.gateway.paths import is_api
from services.gateway.scopes import scope_of

Json = dict[str, Any]
Schemas = dict[Any, Json]
"""By the type they describe."""

EXAMPLES: Final = Path(__file__).with_name("examples.json")
"""Answers by the name of their schema, as a system gave them; cut where they were long."""

_FAILURE: Final = "#/components/responses/{}"
_REF: Final = "#/components/schemas/{name}"
_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_CALLER: Final = {
    "X-Tenant-Id": "Whose tasks: for the role owner, and in open mode, where the default is default",
    "X-User-Id": "Who acts: for the roles owner and admin, and in open mode",
    "traceparent": "W3C trace context; the task's whole trace hangs below it",
}
_ERRORS: Final = {
    400: "Something in the request is wrong; field says what",
    401: "No key or token was sent, or none that is good",
    403: "The key or token lacks the scope or role, or the Origin or Host is not one that may use this gateway",
    404: "Unknown, or another tenant's",
    409: "The task's state, or another use of the id, does not allow it",
    410: "Retention took it out of the read tables; its events are there",
    413: "The body is larger than 40 MiB",
    415: "The body is in a media type that is not read here",
    429: "The read side is too far behind; Retry-After says when to come back",
    500: "A fault of the gateway; its log holds the details under the X-Trace-ID of the answer",
    501: "This is not offered; the text says what to use instead",
    503: "Kafka, PostgreSQL or the orchestrator does not answer, or too much is in work; come back after Retry-After",
}


_SECURITY: Final = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A JSON Web Token, or an API key"},
}


class Error(Struct, frozen=True):
    """Every answer of 400 and above. ``field`` is the path of what is wrong, where there is one."""

    error: str
    field: str | None = None


def document_of(app: Litestar) -> Json:
    """The document; made at the first question, once for all applications with these routes."""
    document: Json | None = app.opt.get("openapi")
    if document is None:
        document = app.opt["openapi"] = _build(app)
    return document


def _build(app: Litestar) -> Json:
    routes = [(path, handler, doc) for path, handler, doc in _documented(app)]
    types = list(dict.fromkeys(each for _, _, doc in routes for each in _types(doc)))
    # All at once: two structs of one name get longer names then, in the references too.
    made, components = msgspec.json.schema_components([*types, Error], ref_template=_REF)
    schemas = dict(zip([*types, Error], made, strict=True))
    paths: dict[str, Json] = {}
    for path, handler, doc in routes:
        for method in sorted(handler.http_methods):
            paths.setdefault(path, {})[method.lower()] = _operation(method, path, handler, doc, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Taskloom",
            "version": version("taskloom"),
            "description": "Durable tasks: every state change is an event, every task can be replayed.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {name: _without_tag(schema) for name, schema in sorted(components.items())},
            "responses": {_failure_name(status): _failure(status) for status in _ERRORS},
            "securitySchemes": _SECURITY,
        },
    }


def _without_tag(schema: Json) -> Json:
    """Commands bear their type on Kafka; over REST the route says it, and a body need not."""
    tag = schema.get("properties", {}).get("type", {}).get("enum", ("",))[0]
    if not isinstance(tag, str) or not tag.startswith("taskloom."):
        return schema
    required = [name for name in schema.get("required", ()) if name != "type"]
    return {**schema, "required": required}


def _documented(app: Litestar) -> Iterator[tuple[str, HTTPRouteHandler, Doc]]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            doc = handler.opt.get("doc")
            if isinstance(handler, HTTPRouteHandler) and isinstance(doc, Doc):
                yield re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path_format), handler, doc


def _types(doc: Doc) -> list[Any]:
    bodies = [doc.body, *(answered.body for answered in doc.answers.values())]
    return [body for body in bodies if body is not None]


def _operation(method: str, path: str, handler: HTTPRouteHandler, doc: Doc, schemas: Schemas) -> Json:
    operation: Json = {
        "operationId": f"{handler.handler_name}{_suffix(path) if len(handler.paths) > 1 else ''}",
        "summary": doc.summary,
        "tags": [doc.tag],
    }
    if doc.details:
        operation["description"] = doc.details
    operation["parameters"] = [*_path_parameters(path), *_query_parameters(doc), *_header_parameters(path, doc)]
    if doc.body is not None:
        content: Json = {"schema": schemas[doc.body]}
        if doc.examples:
            content["examples"] = {name: {"value": value} for name, value in doc.examples.items()}
        operation["requestBody"] = {"required": doc.body_required, "content": {"application/json": content}}
    answers = {str(status): _answer(answered, schemas) for status, answered in doc.answers.items()}
    scope = scope_of(method, path)
    if scope is not None:
        operation["security"] = [{"apiKey": [scope] if scope else []}, {"bearer": [scope] if scope else []}]
    errors = _errors_of(path, doc) if scope is None else [401, *_errors_of(path, doc)]
    failures = {str(status): {"$ref": _FAILURE.format(_failure_name(status))} for status in errors}
    operation["responses"] = dict(sorted({**failures, **answers}.items()))
    return operation


def _errors_of(path: str, doc: Doc) -> list[int]:
    """Those of the route, and those that any route of its sort can answer with."""
    errors = {*doc.errors, 403, 500, 503}
    if is_api(path):
        errors.add(400)
    if doc.body is not None:
        errors |= {400, 413}
    return sorted(errors)


def _failure_name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")


def _suffix(path: str) -> str:
    """Some things are served under two paths; operation ids are unique."""
    if path.startswith("/api/v1/agents/"):
        return "_of_agent"
    twice = {"/api/v1/openapi.json": "_v1", "/api/v1/auth/register": "_register", "/api/v1/auth/refresh": "_refresh"}
    return twice.get(path, "")


def _path_parameters(path: str) -> list[Json]:
    schema = {"type": "string", "pattern": r"^[A-Za-z0-9:_\-.]{1,128}$"}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in re.findall(r"\{(\w+)\}", path)]


def _query_parameters(doc: Doc) -> list[Json]:
    if doc.query is None:
        return []
    schema = msgspec.json.schema(doc.query)
    [described] = schema["$defs"].values()
    required = described.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            **({"description": of["description"]} if "description" in of else {}),
            "schema": {key: value for key, value in of.items() if key != "description"},
        }
        for name, of in described["properties"].items()
    ]


def _header_parameters(path: str, doc: Doc) -> list[Json]:
    headers = {**doc.headers, **(_CALLER if is_api(path) and doc.tag != "Operations" else {})}
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in headers.items()
    ]


def _answer(answered: Answered, schemas: Schemas) -> Json:
    content: Json = {}
    if answered.body is not None:
        content["schema"] = schemas[answered.body]
    if (example := answered.example if answered.example is not None else _usual_example(content)) is not None:
        content["example"] = example
    if not answered.media_type:
        return {"description": answered.description}
    also = {media_type: {"example": example} for media_type, example in answered.also.items()}
    return {"description": answered.description, "content": {answered.media_type: content, **also}}


def _usual_example(content: Json) -> Any:
    """That of the body's type, where the route has none of its own."""
    return _examples().get(content.get("schema", {}).get("$ref", "").rpartition("/")[2])


@cache
def _examples() -> Json:
    found: Json = msgspec.json.decode(EXAMPLES.read_bytes())
    return found


def _failure(status: int) -> Json:
    example: Json = {"error": f"{HTTPStatus(status).phrase.lower()}: what was wrong and what to do"}
    if status == HTTPStatus.BAD_REQUEST:
        example = {"error": "Expected `float` >= 1.0 - at `$.retry.factor`", "field": "retry.factor"}
    failure: Json = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": _ERROR, "example": example}},
    }
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        failure["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return failure
