"""What the server offers, by its own OpenAPI document: this API names routes that only newer servers have."""

import re
from typing import Any, Final

from taskloom.client.asynchronous import AsyncClient
from taskloom.client.calls import Call
from taskloom.client.tasks.errors import NotOffered

_PARAMETER: Final = re.compile(r"\{[^}]*\}")


class Offered:
    """Routes are written as ``POST /api/v1/tasks/{id}/retry``; the parameter's name does not matter."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._known: dict[str, frozenset[str]] = {}

    async def has(self, route: str, parameter: str = "") -> bool:
        """Whether the server has this route, and takes this query parameter there."""
        found = self._known.get(_same(route))
        if found is None or (parameter and parameter not in found):
            # Looked up again, since the server may have been renewed meanwhile.
            self._known = _routes(await self._client.call(Call(dict, "/openapi.json")))
            found = self._known.get(_same(route))
        return found is not None and (not parameter or parameter in found)

    async def require(self, wish: str, route: str) -> None:
        """
        Raises:
            NotOffered: the server has no such route.
        """
        if not await self.has(route):
            raise NotOffered(wish, route)


def _routes(document: dict[str, Any]) -> dict[str, frozenset[str]]:
    return {
        _same(f"{method} {path}"): frozenset(each.get("name", "") for each in operation.get("parameters", ()))
        for path, operations in document.get("paths", {}).items()
        for method, operation in operations.items()
        if isinstance(operation, dict)
    }


def _same(route: str) -> str:
    method, _, path = route.partition(" ")
    return f"{method.upper()} {_PARAMETER.sub('{}', path)}"
