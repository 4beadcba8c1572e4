"""Stores an app's workflows on a server, so that others start them by id: ``POST /api/v1/workflows/{id}/execute``."""

from taskloom.app.app import App
from taskloom.client.asynchronous import AsyncClient


async def register_definitions(client: AsyncClient, app: App) -> dict[str, int]:
    """The revision under which each workflow is stored, by its id. A definition that is stored already stays as it is.

    Raises:
        Invalid: the server finds fault with a definition; names the field.
        TraceError: a workflow's function does what a description cannot.
    """
    return {
        definition["id"]: (await client.workflows.save(definition, definition["id"])).revision
        for definition in app.definitions()
    }
