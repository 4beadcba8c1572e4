"""``taskloom output``: what a task wrote, as it wrote it."""

import sys
from typing import Annotated

import typer

from taskloom.cli.remote import HERE, Json, TaskArgument, Url, connected
from taskloom.cli.show import print_json
from taskloom.client import Client

FOLLOWED = "output,LLM_PARTIAL"


def command(
    task: TaskArgument,
    stream: Annotated[str, typer.Option(help="Only of stdout, stderr, message, log; several with commas.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task's end.")] = False,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Write a task's output to stdout, byte for byte; what it wrote to stderr goes to stderr."""
    streams = [name.strip() for name in stream.split(",") if name.strip()]
    with connected(url) as client:
        if follow and not as_json:
            _follow(client, task, streams)
            return
        chunks = client.output(task, streams=streams)
        if as_json:
            print_json(list(chunks))
            return
        for chunk in chunks:
            write(chunk.stream, chunk.data)


def _follow(client: Client, task: str, streams: list[str]) -> None:
    for item in client.stream(task, types=FOLLOWED):
        if not streams or item.stream in streams:
            write(item.stream, item.output)


def write(stream: str, data: bytes) -> None:
    """To stderr what went to stderr, to stdout everything else; at once."""
    target = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
    target.write(data)
    target.flush()
