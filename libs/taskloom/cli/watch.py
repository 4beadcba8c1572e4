"""``taskloom watch``: follows a task until its end."""

from typing import Annotated

import typer
from rich.text import Text

from taskloom.cli.output import write
from taskloom.cli.remote import HERE, TaskArgument, Url, connected, exit_for
from taskloom.cli.show import console, state_text
from taskloom.cli.waterfall import first_line
from taskloom.client import Client, Followed, StreamItem, Task


def command(
    task: TaskArgument,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the task's own output.")] = False,
    url: Url = HERE,
) -> None:
    """Follow a task's events and output until its end; exit 1 when it did not complete."""
    with connected(url) as client:
        exit_for(watch(client, task, quiet=quiet))


def watch(client: Client, task_id: str, *, quiet: bool = False) -> Task:
    """Shows the task's events on stderr and its output where the task wrote it; returns it when it has ended."""
    out, followed = console(stderr=True), Followed()
    for item in client.stream(task_id):
        followed.take(item)
        if item.is_output:
            write(item.stream, item.output)
        elif not quiet:
            out.print(_line(item, followed))
    return client.get(task_id)


def _line(item: StreamItem, followed: Followed) -> Text:
    since_s = 0.0
    if followed.began_at and followed.changed_at:
        since_s = (followed.changed_at - followed.began_at).total_seconds()
    return Text.assemble(
        (f"+{since_s:8.3f} s  ", "dim"),
        state_text(followed.state),
        " " * (12 - len(followed.state)),
        first_line(item.message),
    )
