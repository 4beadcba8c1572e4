from contextlib import ExitStack

import pytest

from services.gateway.limits import Limits
from services.gateway.problems import TooLarge, TooMany, Unavailable

MB = 1024 * 1024


def limits(lag_ms: float | None = 0.0) -> Limits:
    return Limits(
        max_requests=2,
        max_body_bytes=4 * MB,
        max_bodies_bytes=6 * MB,
        max_streams=1,
        max_lag_s=60.0,
        lag_ms=lambda: lag_ms,
    )


def test_requests_above_the_limit_are_told_to_come_back_and_places_are_given_back() -> None:
    bounded = limits()
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(bounded.request({}))
        with pytest.raises(Unavailable) as refused, bounded.request({}):
            pass
        assert refused.value.headers == {"Retry-After": "1"}
    with bounded.request({}):
        pass


def test_large_bodies_together_are_bounded() -> None:
    bounded, large = limits(), {b"content-length": str(4 * MB).encode()}
    with bounded.request(large):
        with pytest.raises(Unavailable), bounded.request(large):
            pass
        with bounded.request({b"content-length": b"100"}):
            pass
    with bounded.request(large):
        pass


def test_a_body_of_unknown_length_counts_as_the_largest() -> None:
    bounded, chunked = limits(), {b"transfer-encoding": b"chunked"}
    with bounded.request(chunked), pytest.raises(Unavailable), bounded.request(chunked):
        pass


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge), limits().request({b"content-length": str(4 * MB + 1).encode()}):
        pass


def test_streams_are_bounded() -> None:
    bounded = limits()
    with bounded.stream(), pytest.raises(Unavailable), bounded.stream():
        pass
    assert bounded.streams == 0


@pytest.mark.parametrize("lag_ms", [None, 0.0, 60_000.0])
def test_submissions_are_admitted_up_to_the_lag_limit(lag_ms: float | None) -> None:
    limits(lag_ms).admit_submission()


def test_submissions_above_the_lag_limit_are_told_to_come_back() -> None:
    with pytest.raises(TooMany) as refused:
        limits(100_000.0).admit_submission()
    assert refused.value.headers == {"Retry-After": "10"}
