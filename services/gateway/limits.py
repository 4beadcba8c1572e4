"""What is in work at once is bounded; what comes above is told when to come back, never queued without end."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from services.gateway.problems import TooLarge, TooMany, Unavailable
from taskloom import telemetry

SMALL_BODY_BYTES: Final = 64 * 1024
"""Bodies up to this size are bounded by the number of requests alone."""

_in_work = telemetry.gauge("gateway_requests_in_work", "Requests in work now, streams left out")
_open_streams = telemetry.gauge("gateway_streams_open", "Event streams open now")
_turned_away = telemetry.counter("gateway_turned_away", "Requests refused by a limit", ["limit"])


class Limits:
    """Counts requests, their large bodies and streams; ``lag_ms`` gives the read side's lag, None while unknown."""

    def __init__(
        self,
        *,
        max_requests: int,
        max_body_bytes: int,
        max_bodies_bytes: int,
        max_streams: int,
        max_lag_s: float,
        lag_ms: Callable[[], float | None],
    ) -> None:
        self._max_requests = max_requests
        self._max_body_bytes = max_body_bytes
        self._max_bodies_bytes = max_bodies_bytes
        self._max_streams = max_streams
        self._max_lag_s = max_lag_s
        self._lag_ms = lag_ms
        self._requests = 0
        self._bodies_bytes = 0
        self._streams = 0

    @contextmanager
    def request(self, headers: Mapping[bytes, bytes]) -> Iterator[None]:
        """Holds a place for a request with these headers.

        Raises:
            TooLarge: its announced body is over the limit.
            Unavailable: no place is free.
        """
        weight = self._weight(headers)
        if self._requests >= self._max_requests:
            raise self._full("requests", f"{self._max_requests} requests are in work")
        if weight and self._bodies_bytes + weight > self._max_bodies_bytes and self._bodies_bytes:
            raise self._full("bodies", f"{self._bodies_bytes} bytes of request bodies are in work")
        self._requests += 1
        self._bodies_bytes += weight
        _in_work.set(self._requests)
        try:
            yield
        finally:
            self._requests -= 1
            self._bodies_bytes -= weight
            _in_work.set(self._requests)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Holds a place for a stream.

        Raises:
            Unavailable: no place is free.
        """
        if self._streams >= self._max_streams:
            raise self._full("streams", f"{self._max_streams} streams are open")
        self._streams += 1
        _open_streams.set(self._streams)
        try:
            yield
        finally:
            self._streams -= 1
            _open_streams.set(self._streams)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._streams

    def admit_submission(self) -> None:
        """Raises:
        TooMany: the read side is so far behind that new tasks would not be seen in time.
        """
        lag_ms = self._lag_ms()
        if lag_ms is not None and lag_ms > self._max_lag_s * 1000:
            _turned_away.labels("lag").inc()
            raise TooMany(
                f"the read side is {lag_ms / 1000:.0f} s behind, {self._max_lag_s:g} s are allowed; submit again later",
                retry_after_s=max(1, min(30, int(lag_ms / 10_000))),
            )

    def _weight(self, headers: Mapping[bytes, bytes]) -> int:
        if b"transfer-encoding" in headers:
            return self._max_body_bytes
        try:
            announced = int(headers.get(b"content-length", b"0"))
        except ValueError:
            return 0  # the HTTP parser answers this one
        if announced > self._max_body_bytes:
            raise TooLarge(f"the body has {announced} bytes, {self._max_body_bytes} are allowed")
        return announced if announced > SMALL_BODY_BYTES else 0

    def _full(self, limit: str, text: str) -> Unavailable:
        _turned_away.labels(limit).inc()
        return Unavailable(f"{text}; try again in a moment", retry_after_s=1)
