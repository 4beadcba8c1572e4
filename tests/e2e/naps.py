"""A function for ``python`` tasks that sleeps and often fails: imported by the executor of test_thousand_at_once.py."""

import asyncio
import random

from taskloom.kinds import current_context, function

FAILING = 0.2
"""Share of the attempts that fail."""

_arrived: dict[str, set[str]] = {}
_all_here: dict[str, asyncio.Event] = {}


class BadLuck(Exception):
    """This attempt was drawn to fail."""


@function(name="naps:nap")
async def nap(run: str, seed: int, together: int, seconds: float) -> int:
    """Sleeps ``seconds`` once ``together`` tasks of the run are here; a later attempt sleeps a tenth of that at once.

    Returns the attempt that succeeded.

    Raises:
        BadLuck: drawn by seed, task and attempt.
    """
    ctx = current_context()
    if ctx.attempt == 1:
        await _meet(run, ctx.task_id, together)
        await asyncio.sleep(seconds)
    else:
        await asyncio.sleep(seconds / 10)
    if random.Random(f"{seed}/{ctx.name}/{ctx.attempt}").random() < FAILING:
        raise BadLuck(f"attempt {ctx.attempt} was drawn to fail")
    return ctx.attempt


async def _meet(run: str, task_id: str, together: int) -> None:
    here, everybody = _arrived.setdefault(run, set()), _all_here.setdefault(run, asyncio.Event())
    here.add(task_id)
    if len(here) == together:
        everybody.set()
    await everybody.wait()
