"""Errors are cut to size before they are reported, and nothing else of them changes."""

from services.executor.reports import MAX_DETAILS_BYTES, MAX_MESSAGE_CHARS, bounded
from taskloom.domain.values import ErrorInfo


def test_an_error_that_fits_is_reported_as_it_is_its_fault_included() -> None:
    error = ErrorInfo("docker_unavailable", "away", True, {"a": 1}, fault=True)
    assert bounded(error) == error


def test_what_is_too_long_is_cut_and_what_is_no_json_left_out() -> None:
    error = bounded(ErrorInfo("x" * 300, "y" * 10_000, False, {"z": "z" * MAX_DETAILS_BYTES}, fault=True))
    assert (len(error.type), len(error.message)) == (256, MAX_MESSAGE_CHARS)
    assert (error.retryable, error.fault, list(error.details)) == (False, True, ["left_out"])
    assert list(bounded(ErrorInfo("t", "m", True, {"z": object()})).details) == ["left_out"]
