"""Rate limits by caller and route, exact over all gateways: never more than the limit pass in a window, nor fewer
while more ask.

Requests that come while PostgreSQL counts the ones before are counted together with the next statement: so a gateway
has one such statement under way, however many requests there are, and a quiet one adds a round trip to a request. Who
was refused is refused here, unasked, until the window is over.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Literal

from msgspec import Struct, structs
from psycopg import OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests

from services.gateway.problems import Problem, Unavailable
from services.gateway.rate_windows import DAY_S, HOUR_S, MINUTE_S, Asked, Plan, RateTable, Taken
from taskloom import telemetry
from taskloom.views.reading import TooSlow

AWAY_S: Final = 1.0
"""After a failure PostgreSQL is left alone for so long, so that an outage does not make every request wait."""

REFUSED_KEPT: Final = 10_000
_FORGET_EVERY_S: Final = 3600.0
_OUTAGE: Final = (OperationalError, PoolTimeout, TooManyRequests, TooSlow, TimeoutError)

_refused = telemetry.counter("gateway_rate_refused", "Requests refused by a rate limit", ["window"])
_uncounted = telemetry.counter("gateway_rate_uncounted", "Requests let through since they could not be counted")
_log = telemetry.get_logger(__name__)

Window = Literal["minute", "hour", "day"]
_SECONDS: Final[dict[Window, int]] = {"minute": MINUTE_S, "hour": HOUR_S, "day": DAY_S}


class RateLimited(Problem):
    """Too many requests in a window."""

    status = 429

    def __init__(self, limit: int, window: Window, retry_after_s: int, headers: Mapping[str, str]) -> None:
        text = f"{limit} requests a {window} are allowed; try again in {retry_after_s} s"
        super().__init__("Rate limit exceeded", message=text, window=window)
        self._headers = {**headers, "Retry-After": str(retry_after_s)}

    @property
    def headers(self) -> dict[str, str]:
        return self._headers


class Passed(Struct, frozen=True):
    """A request that may go on; ``headers`` belong on its answer."""

    headers: Mapping[str, str] = {}


class _Full(Struct, frozen=True):
    """A window that is used up. ``until``: monotonic time at which it may be over, never later than it is."""

    plan: Plan
    window: Window
    taken: Taken
    until: float


class RateLimiter:
    """``fail_open``: what cannot be counted passes; else it is answered 503."""

    def __init__(self, table: RateTable, *, fail_open: bool) -> None:
        self._table = table
        self._fail_open = fail_open
        self._waiting: dict[str, tuple[Plan, list[asyncio.Future[Taken | None]]]] = {}
        self._counting: asyncio.Task[None] | None = None
        self._full: OrderedDict[str, _Full] = OrderedDict()
        self._away_until = 0.0

    async def take(self, subject: str, plan: Plan) -> Passed:
        """Counts one request. How many wait here is bounded by the requests in work (``limits.py``).

        Raises:
            RateLimited: a window of the subject is used up.
            Unavailable: it could not be counted, and what is not counted may not pass.
        """
        full = self._full.get(subject)
        if full is not None:
            if full.plan == plan and time.monotonic() < full.until:
                raise self._refusal(plan, full.window, full.taken)
            del self._full[subject]
        taken = await self._counted(subject, plan) if time.monotonic() >= self._away_until else None
        if taken is None:
            if not self._fail_open:
                raise Unavailable("the request cannot be counted now: PostgreSQL does not answer", retry_after_s=2)
            _uncounted.inc()
            return Passed()
        window = None if taken.given else used_up(plan, taken)
        if window is not None:
            raise self._refusal(plan, window, taken)
        return Passed(headers_of(plan, taken, shortest(plan)))

    async def run(self, stopping: asyncio.Event) -> None:
        """Takes old subjects out of the table, once an hour."""
        while not stopping.is_set():
            with suppress(*_OUTAGE):
                await self._table.forget_old()
            with suppress(TimeoutError):
                async with asyncio.timeout(_FORGET_EVERY_S):
                    await stopping.wait()

    async def _counted(self, subject: str, plan: Plan) -> Taken | None:
        """The count as it stood after this request; ``given`` is 1 or 0. None: it could not be counted."""
        future: asyncio.Future[Taken | None] = asyncio.get_running_loop().create_future()
        # A plan that changed just now holds from the next request on.
        self._waiting.setdefault(subject, (plan, []))[1].append(future)
        if self._counting is None:
            self._counting = asyncio.create_task(self._count())
        return await future

    async def _count(self) -> None:
        """Counts what waits until nothing does."""
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                began = time.monotonic()
                try:
                    found = await self._table.take(
                        {subject: Asked(len(futures), plan) for subject, (plan, futures) in sorted(waiting.items())}
                    )
                except Exception as error:  # noqa: BLE001 - whoever waits must be answered whatever went wrong
                    if not isinstance(error, _OUTAGE):
                        _log.error("requests cannot be counted", exc_info=error)
                    else:
                        _log.warning("requests cannot be counted", reason=str(error))
                    self._away_until = time.monotonic() + AWAY_S
                    found = {}
                for subject, (plan, futures) in waiting.items():
                    taken = found.get(subject)
                    if taken is not None and taken.given < len(futures):
                        self._note_full(subject, plan, taken, began)
                    _tell(futures, taken)
        finally:
            self._counting = None

    def _note_full(self, subject: str, plan: Plan, taken: Taken, began: float) -> None:
        window = used_up(plan, taken)
        if window is None:
            return
        # From before the question on: so this is over before PostgreSQL's window, never after it.
        self._full[subject] = _Full(plan, window, taken, began + _left(taken, window))
        if len(self._full) > REFUSED_KEPT:
            self._full.popitem(last=False)

    def _refusal(self, plan: Plan, window: Window, taken: Taken) -> RateLimited:
        _refused.labels(window).inc()
        limit = getattr(plan, window)
        end = _end(taken, window)
        return RateLimited(limit, window, max(1, round(end - time.time())), headers_of(plan, taken, window))


def _tell(futures: list["asyncio.Future[Taken | None]"], taken: Taken | None) -> None:
    """The first ones pass, each with the count as it was after it."""
    for place, future in enumerate(futures):
        if future.done():
            continue  # its client went away; it is counted all the same
        if taken is None:
            future.set_result(None)
            continue
        later = max(0, taken.given - place - 1)
        own = structs.replace(
            taken,
            given=int(place < taken.given),
            minute=taken.minute - later,
            hour=taken.hour - later,
            day=taken.day - later,
        )
        future.set_result(own)


def used_up(plan: Plan, taken: Taken) -> Window | None:
    """The longest window in which nothing is left."""
    for window in ("day", "hour", "minute"):
        limit = getattr(plan, window)
        if limit is not None and getattr(taken, window) >= limit:
            return window
    return None


def shortest(plan: Plan) -> Window:
    """The shortest window that has a limit: it is the one that a caller meets first."""
    limited: tuple[Window, ...] = ("minute", "hour")
    return next((window for window in limited if getattr(plan, window) is not None), "day")


def headers_of(plan: Plan, taken: Taken, window: Window) -> dict[str, str]:
    """Shannon's headers; those of a window without a limit are left out. ``window``: whose end is told."""
    found: dict[str, Any] = {}
    for name, each in (("Minute", "minute"), ("Hour", "hour")):
        limit = getattr(plan, each)
        if limit is not None:
            found[f"X-RateLimit-Limit-{name}"] = limit
            found[f"X-RateLimit-Remaining-{name}"] = max(0, limit - getattr(taken, each))
    found["X-RateLimit-Reset"] = int(_end(taken, window))
    return {name: str(value) for name, value in found.items()}


def _end(taken: Taken, window: Window) -> float:
    """When the window is over, in Unix seconds."""
    length = _SECONDS[window]
    return (taken.now // length + 1) * length


def _left(taken: Taken, window: Window) -> float:
    return _end(taken, window) - taken.now
