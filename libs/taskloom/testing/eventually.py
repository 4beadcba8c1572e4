"""Waiting for a condition, never for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(probe: Callable[[], Awaitable[T]], timeout_s: float = 60.0, interval_s: float = 0.05) -> T: ...


@overload
async def eventually(probe: Callable[[], T], timeout_s: float = 60.0, interval_s: float = 0.05) -> T: ...


async def eventually(probe: Callable[[], Any], timeout_s: float = 60.0, interval_s: float = 0.05) -> Any:
    """The first truthy value of ``probe``, which is asked every ``interval_s`` seconds; it may be a coroutine function.

    An AssertionError of the probe counts as "not yet", so a probe can be a group of asserts that ends with True.

    Raises:
        AssertionError: nothing truthy within ``timeout_s``; names the probe and its last value.
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            value = probe()
            result = await value if inspect.isawaitable(value) else value
            if result:
                return result
            last = repr(result)
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{getattr(probe, '__qualname__', probe)} was not met within {timeout_s:g} s; last: {last}"
            )
        await asyncio.sleep(interval_s)
