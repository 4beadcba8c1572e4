"""The page that shows the OpenAPI document, with Swagger UI's own files: nothing comes from another host."""

from functools import cache
from pathlib import Path
from typing import Final

from litestar import get
from litestar.params import FromPath
from litestar.types import ASGIApp
from swagger_ui_bundle import swagger_ui_path

from services.gateway.answers import Answer
from services.gateway.context import AnyRequest
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound

_FILES: Final = {
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "favicon-32x32.png": b"image/png",
}
_PAGE: Final = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Taskloom API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = b"""SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, docExpansion: "none",
  displayOperationId: true, filter: true, tryItOutEnabled: true, validatorUrl: null
});
"""
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def _answer(body: bytes, kind: bytes, *, keep: bool = False) -> Answer:
    headers = [(b"content-type", kind), (b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff")]
    return Answer(200, body, [*headers, (b"cache-control", b"max-age=86400" if keep else b"no-cache")])


@cache
def _read(name: str) -> bytes:
    return Path(swagger_ui_path, name).read_bytes()


@get(
    "/docs",
    opt=documented(
        Doc(
            summary="The API as a page for people",
            tag="Operations",
            answers={200: Answered("Swagger UI over /openapi.json", media_type="text/html")},
        )
    ),
)
async def docs_page(request: AnyRequest) -> ASGIApp:
    return _answer(_PAGE, b"text/html; charset=utf-8")


@get(
    "/docs/{name:str}",
    opt=documented(
        Doc(
            summary="A file of the docs page",
            tag="Operations",
            answers={200: Answered("The file", media_type="*/*")},
            errors=(404,),
        )
    ),
)
async def docs_file(request: AnyRequest, name: FromPath[str]) -> ASGIApp:
    if name == "start.js":
        return _answer(_START, b"text/javascript; charset=utf-8")
    if name not in _FILES:
        raise NotFound("the docs page has no such file")
    return _answer(_read(name), _FILES[name], keep=True)


HANDLERS: Final = [docs_page, docs_file]
