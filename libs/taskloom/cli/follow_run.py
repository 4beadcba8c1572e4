"""Follows a workflow's run on the terminal: its tree, redrawn as it goes; plain lines where nothing can be redrawn."""

import asyncio
import time
from contextlib import aclosing, nullcontext
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from taskloom.cli.run_tree import run_tree
from taskloom.cli.show import state_text
from taskloom.cli.waterfall import first_line
from taskloom.client import AsyncClient, NotFound, Run, Task

APPEARS_S: Final = 10.0
LOOK_S: Final = 0.1
REST: Final = 4
"""Times as long as a look took nothing is asked: the longer a run's history, the more a look costs the server."""


async def follow_run(client: AsyncClient, run_id: str, out: Console, *, redraw: bool = True) -> Task:
    """The run, once it has ended. It may be followed a moment before it is submitted. Without ``redraw`` it prints
    lines also on a terminal, so that something can be asked there meanwhile.

    Raises:
        NotFound: there is no such run, after 10 s.
        Conflict: the task is no workflow.
    """
    task = await appeared(client, run_id)
    lines, changed = _Lines(out), asyncio.Event()
    with Live(console=out, auto_refresh=False) if redraw and out.is_terminal else nullcontext() as live:

        def show(run: Run) -> None:
            if live is None:
                lines.take(run)
            else:
                live.update(run_tree(task, run), refresh=True)

        listening = asyncio.create_task(listen(client, run_id, changed))
        try:
            while not listening.done():
                await changed.wait()
                changed.clear()
                began = time.monotonic()
                show(await client.run(run_id))
                await asyncio.sleep(max(LOOK_S, REST * (time.monotonic() - began)))
            await listening
        finally:
            listening.cancel()
        run = await client.run(run_id)
        show(run)
        if live is None:
            out.print(run_tree(task, run))
    return await client.get(run_id)


async def appeared(client: AsyncClient, run_id: str) -> Task:
    until = time.monotonic() + APPEARS_S
    while True:
        try:
            return await client.get(run_id)
        except NotFound:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(LOOK_S)


async def listen(client: AsyncClient, run_id: str, changed: asyncio.Event) -> None:
    """Says that something changed, at each event and at the stream's end."""
    try:
        async with aclosing(client.stream(run_id)) as items:
            async for _ in items:
                changed.set()
    finally:
        changed.set()


class _Lines:
    """Prints each change of a step."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._began = time.monotonic()
        self._known: dict[str, str] = {}

    def take(self, run: Run) -> None:
        for step in run.steps:
            if self._known.get(step.path) == step.status or step.status == "ready":
                continue
            self._known[step.path] = step.status
            since = f"{time.monotonic() - self._began:6.1f} s  {step.path:<44} "
            told = Text.assemble(since, state_text(step.status), f"  {first_line(step.error)}".rstrip())
            self._out.print(told, soft_wrap=True)
