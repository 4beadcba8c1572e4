"""``taskloom steps``: the steps of a workflow's run, drawn as a tree."""

import asyncio
from typing import Annotated

import typer

from taskloom.cli.follow_run import follow_run
from taskloom.cli.remote import HERE, Json, TaskArgument, Url, answer, connected, exit_for
from taskloom.cli.run_tree import run_tree
from taskloom.cli.show import console, print_json
from taskloom.client import AsyncClient, Task, calls


def command(
    task: TaskArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Redraw it until the run has ended.")] = False,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Draw a workflow's steps, and how each of them is; with --follow exit 1 when it did not complete."""
    if as_json:
        answer(url, calls.run(task), True, print_json)
        return
    if follow:
        exit_for(asyncio.run(_follow(task, url)))
        return
    with connected(url) as client:
        console().print(run_tree(client.get(task), client.run(task)))


async def _follow(task_id: str, url: str) -> Task:
    async with AsyncClient(url) as client:
        return await follow_run(client, task_id, console())
