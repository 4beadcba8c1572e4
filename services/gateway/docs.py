"""What the OpenAPI document says about a route; kept beside the route, in its ``opt``."""

from typing import Any

from msgspec import Struct


class Answered(Struct, frozen=True):
    """One status that a route answers with; ``body`` is a struct, ``media_type`` that of what is no JSON, "" when
    the answer has no body. ``also``: an example of each media type that it can have as well."""

    description: str
    body: Any = None
    example: Any = None
    media_type: str = "application/json"
    also: dict[str, Any] = {}


class Doc(Struct, frozen=True, kw_only=True):
    """``query``: struct of the query string. ``body``: struct of the request body, ``examples`` of it by name."""

    summary: str
    tag: str
    details: str = ""
    query: type[Struct] | None = None
    body: type[Struct] | None = None
    body_required: bool = True
    examples: dict[str, Any] = {}
    headers: dict[str, str] = {}
    answers: dict[int, Answered] = {}
    errors: tuple[int, ...] = ()

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Doc":
        """Itself: Litestar copies what a handler says once a layer, half of the time that an application takes."""
        return self


def documented(doc: Doc) -> dict[str, Any]:
    """The ``opt`` of a handler: what it says about itself."""
    return {"doc": doc}
