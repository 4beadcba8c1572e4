"""``taskloom timeline``: a task's history, drawn."""

from typing import Annotated

import typer

from taskloom.cli.remote import HERE, AsOf, Json, TaskArgument, Url, answer, connected
from taskloom.cli.show import console, print_json
from taskloom.cli.waterfall import waterfall
from taskloom.client import calls


def command(
    task: TaskArgument,
    full: Annotated[bool, typer.Option("--full", help="Also signs of life and first outputs.")] = False,
    as_of: AsOf = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Draw a task's history: each event with its time since the start, and a bar until the next one."""
    if as_json:
        answer(url, calls.timeline(task, full=full, as_of=as_of), True, print_json)
        return
    with connected(url) as client:
        out = console()
        out.print(waterfall(client.events(task, as_of=as_of), every=full, width=out.width))
