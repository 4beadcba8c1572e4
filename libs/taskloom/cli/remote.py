"""What the verbs that talk to a running server share: their options, the connection, and exit codes."""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import typer

from taskloom.cli import completing
from taskloom.cli.show import print_json
from taskloom.client import Client, Task
from taskloom.client.calls import Call
from taskloom.client.connection import DEFAULT_URL, URL_VARIABLE

T = TypeVar("T")

NOT_COMPLETED: Final = 1
NOT_ENDED: Final = 3

Url = Annotated[str, typer.Option("--url", envvar=URL_VARIABLE, help="Address of the server.")]
Json = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON, for scripts.")]
TaskArgument = Annotated[
    str,
    typer.Argument(metavar="TASK", help="Id of the task.", show_default=False, autocompletion=completing.tasks),
]
Reason = Annotated[str, typer.Option(help="Kept in the task's history.")]
AsOf = Annotated[str, typer.Option(metavar="VERSION|TIME", help="As it was at an event's number or an RFC 3339 time.")]
HERE: Final = DEFAULT_URL


PATIENCE_S: Final = 5.0
"""Somebody waits at the terminal: a server that has too much to do is asked again for so long only."""


def connected(url: str) -> Client:
    return Client(url, patience_s=PATIENCE_S)


def answer(url: str, call: Call[T], as_json: bool, show: Callable[[T], Any]) -> T:
    """Makes the call and prints its answer: as the server's JSON, or as ``show`` does."""
    with connected(url) as client:
        content = client.raw(call)
    found = call.read(content)
    if as_json:
        print_json(content)
    else:
        show(found)
    return found


def exit_for(task: Task) -> None:
    """Ends the program with 1 unless the task completed."""
    if not task.completed:
        raise typer.Exit(NOT_COMPLETED)
