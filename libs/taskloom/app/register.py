"""An app's workflows, stored at the server: others can then run them by their ids, over REST or as child steps."""

from taskloom.app.app import App
from taskloom.client import Client
from taskloom.client.workflow_answers import SavedWorkflow


def register_definitions(client: Client, app: App) -> list[SavedWorkflow]:
    """Stores each workflow of the app under its own id; one that is the newest revision already stays it.

    Raises:
        TraceError: a workflow's function does what a description cannot.
        ClientError: the server cannot be reached, or refused one; those before it are stored.
    """
    return [client.workflows.save(definition, definition["id"]) for definition in app.definitions()]
