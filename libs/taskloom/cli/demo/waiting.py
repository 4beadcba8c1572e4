"""Waiting for a condition, with a limit that says what was waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from taskloom.errors import TaskloomError

T = TypeVar("T")

LOOK_EVERY_S: Final = 0.05


class DemoFailed(TaskloomError):
    """The demo cannot go on."""


async def until(probe: Callable[[], Awaitable[T]], what: str, within_s: float = 30.0) -> T:
    """The first truthy value of ``probe``.

    Raises:
        DemoFailed: there was none in time; says ``what`` did not happen.
    """
    deadline = time.monotonic() + within_s
    while not (value := await probe()):
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(LOOK_EVERY_S)
    return value
