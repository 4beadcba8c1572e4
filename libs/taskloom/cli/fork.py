"""``taskloom fork``."""

import json
from typing import Annotated, Any

import typer

from taskloom.cli.remote import HERE, Json, TaskArgument, Url, answer
from taskloom.cli.show import console, state_text
from taskloom.client import fork_calls
from taskloom.client.fork_calls import Forked
from taskloom.errors import TaskloomError


def command(
    task: TaskArgument,
    at: Annotated[int | None, typer.Option(help="Event number it branches off; the newest without it.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="As input.cmd=date: JSON or text, null removes."),
    ] = None,
    new_id: Annotated[str, typer.Option("--task-id", help="Id of the new task.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Make a new task of this one as it was, with changes; a workflow keeps what it had completed by then."""
    overrides: dict[str, Any] = {}
    for change in changes or []:
        _put(overrides, change)
    answer(url, fork_calls.fork(task, at, overrides, new_id=new_id), as_json, _show)


def _put(overrides: dict[str, Any], change: str) -> None:
    path, found, text = change.partition("=")
    if not found or not all(path.split(".")):
        raise TaskloomError(f"--set {change!r}: write PATH=VALUE, for example input.cmd=date")
    *above, last = path.split(".")
    for name in above:
        overrides = overrides.setdefault(name, {})
        if not isinstance(overrides, dict):
            raise TaskloomError(f"--set {change!r}: {name} is set to a value already")
    try:
        overrides[last] = json.loads(text)
    except ValueError:
        overrides[last] = text


def _show(forked: Forked) -> None:
    console().print(f"{forked.task_id}, forked from {forked.forked_from}, is", state_text(forked.state))
