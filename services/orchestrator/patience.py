"""Calls of the store that are tried again for as long as it takes."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog

from taskloom.store.errors import StoreUnavailable

LONGEST_PAUSE_S = 2.0

T = TypeVar("T")
_log = structlog.get_logger(__name__)


async def patiently(what: str, action: Callable[[], T]) -> T:
    """Result of a store call, tried again for as long as PostgreSQL is away: nothing else could be done meanwhile."""
    pause_s = 0.1
    while True:
        try:
            return await asyncio.to_thread(action)
        except StoreUnavailable as error:
            _log.warning("PostgreSQL is away, trying again", what=what, error=str(error), pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
