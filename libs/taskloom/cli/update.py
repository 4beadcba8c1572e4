"""``taskloom update``."""

from typing import Annotated, Any

import typer

from taskloom.cli.controlling import show_state
from taskloom.cli.remote import HERE, Json, TaskArgument, Url, answer
from taskloom.client import calls
from taskloom.client.submission import TaskChanges
from taskloom.errors import TaskloomError

NONE = "none"


def command(
    task: TaskArgument,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    priority: Annotated[str | None, typer.Option(help="1 to 5, or low, normal, high, urgent, critical.")] = None,
    executor: Annotated[str | None, typer.Option(help="It has to run there; none frees it.")] = None,
    deadline: Annotated[str | None, typer.Option(help="RFC 3339 time, or none.")] = None,
    queue: Annotated[str | None, typer.Option(help="Where it waits.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All its tags from now on; once for each.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="KEY= removes the key.")] = None,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Change a task: what is not named stays."""
    named: dict[str, Any] = {"name": name, "description": description, "queue": queue, "tags": tag}
    if priority is not None:
        named["priority"] = int(priority) if priority.isdigit() else priority
    changes: dict[str, Any] = {field: value for field, value in named.items() if value is not None}
    for field, value in (("assigned_to", executor), ("deadline", deadline)):
        if value is not None:
            changes[field] = None if value == NONE else value
    if metadata:
        changes["metadata"] = _pairs(metadata)
    if not changes:
        raise TaskloomError("name what shall change, for example --priority high")
    answer(url, calls.update(task, TaskChanges(**changes)), as_json, show_state)  # type: ignore[typeddict-item]


def _pairs(texts: list[str]) -> dict[str, str | None]:
    for text in texts:
        if "=" not in text:
            raise TaskloomError(f"--metadata {text!r}: write KEY=VALUE, or KEY= to remove it")
    return {key: value or None for key, _, value in (text.partition("=") for text in texts)}
