"""``taskloom list``: tasks, newest first."""

from typing import Annotated

import typer

from taskloom.cli import completing
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.task_view import show_page
from taskloom.client import calls
from taskloom.client.submission import ChosenTasks
from taskloom.errors import TaskloomError


def command(
    status: Annotated[str, typer.Option(help="QUEUED, RUNNING, COMPLETED, …; several with commas.")] = "",
    kind: Annotated[str, typer.Option(help="Of this kind.", autocompletion=completing.kinds)] = "",
    queue: Annotated[str, typer.Option(help="In this queue.", autocompletion=completing.queues)] = "",
    session: Annotated[str, typer.Option(help="In this session.", autocompletion=completing.sessions)] = "",
    tag: Annotated[str, typer.Option(help="With this tag.")] = "",
    text: Annotated[str, typer.Option(help="With this text in query or error.")] = "",
    error_type: Annotated[str, typer.Option(help="Failed with an error of this type, say quarantined.")] = "",
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="With this metadata.")] = None,
    workflow: Annotated[str, typer.Option(help="Of this workflow's steps.", autocompletion=completing.tasks)] = "",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    cursor: Annotated[str, typer.Option(help="Go on where the last page ended.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List tasks, newest first."""
    chosen: ChosenTasks = {"status": status, "kind": kind, "queue": queue, "session_id": session}
    chosen |= {"tag": tag, "q": text, "error_type": error_type, "limit": limit, "cursor": cursor}
    chosen["workflow_id"] = workflow
    answer(url, calls.list_tasks(chosen, _pairs(metadata or [])), as_json, show_page)


def _pairs(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise TaskloomError(f"--metadata {text!r}: write KEY=VALUE")
    return dict(text.split("=", 1) for text in texts)
