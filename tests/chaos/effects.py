"""What a step does to the world, for ``python`` tasks: a file for each attempt, which no second one may make."""

import asyncio
import os
from pathlib import Path

from taskloom.kinds import TaskError, current_context, function


@function(name="effects:apply")
async def apply(directory: str, seconds: float) -> dict[str, dict[str, str]]:
    """Leaves ``<task id>.<attempt>`` in the directory and takes a while. The result names the task in a variable.

    Raises:
        TaskError: this attempt has left its file before (``applied_twice``, not retryable).
    """
    ctx = current_context()
    try:
        os.close(os.open(Path(directory) / f"{ctx.task_id}.{ctx.attempt}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        message = f"attempt {ctx.attempt} of {ctx.task_id} runs a second time"
        raise TaskError("applied_twice", message, retryable=False) from None
    await asyncio.sleep(seconds)
    return {"variables": {"last": ctx.task_id}}
