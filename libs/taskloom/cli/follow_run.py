"""Follows a workflow's run on the terminal: its tree, redrawn at each event; plain lines where there is no terminal."""

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
LOOK_S: Final = 0.05


async def follow_run(client: AsyncClient, run_id: str, out: Console) -> Task:
    """The run, once it has ended. It may be followed a moment before it is submitted.

    Raises:
        NotFound: there is no such run, after 10 s.
        Conflict: the task is no workflow.
    """
    task = await _appeared(client, run_id)
    lines = _Lines(out)
    with Live(console=out, auto_refresh=False) if out.is_terminal else nullcontext() as live:
        async with aclosing(client.stream(run_id)) as items:
            async for _ in items:
                run = await client.run(run_id)
                if live is None:
                    lines.take(run)
                else:
                    live.update(run_tree(task, run), refresh=True)
        run, task = await client.run(run_id), await client.get(run_id)
        if live is None:
            lines.take(run)
            out.print(run_tree(task, run))
        else:
            live.update(run_tree(task, run), refresh=True)
    return task


async def _appeared(client: AsyncClient, run_id: str) -> Task:
    until = time.monotonic() + APPEARS_S
    while True:
        try:
            return await client.get(run_id)
        except NotFound:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(LOOK_S)


class _Lines:
    """Prints each change of a step, where nothing can be redrawn."""

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
            self._out.print(
                Text.assemble(since, state_text(step.status), f"  {first_line(step.error)}".rstrip()), soft_wrap=True
            )
