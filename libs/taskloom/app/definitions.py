"""Stores an app's workflows on a server, so that others start them by id: ``POST /api/v1/workflows/{id}/execute``."""

from typing import Any, Final

from taskloom.app.app import App
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.calls import Call
from taskloom.client.tasks.offered import Offered

ROUTE: Final = "PUT /api/v1/workflows/{id}"


async def register_definitions(client: AsyncClient, app: App) -> dict[str, int]:
    """The revision under which each workflow is stored, by its id. A definition that is stored already stays as it is.

    Raises:
        NotOffered: the server cannot store workflows.
        Invalid: the server finds fault with a definition; names the field.
        TraceError: a workflow's function does what a description cannot.
    """
    await Offered(client).require("store workflows", ROUTE)
    revisions: dict[str, int] = {}
    for definition in app.definitions():
        call: Call[dict[str, Any]] = Call(
            dict, f"/api/v1/workflows/{definition['id']}", "PUT", body={"definition": definition}
        )
        revisions[definition["id"]] = int((await client.call(call))["revision"])
    return revisions
