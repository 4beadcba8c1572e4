from collections.abc import Iterator
from typing import Any

import pytest

from taskloom import telemetry

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans() -> Iterator[Any]:
    yield telemetry.record_in_memory()
    telemetry.shutdown_tracing()


def test_while_tracing_is_off_a_span_hands_the_callers_context_on() -> None:
    assert not telemetry.enabled()
    with telemetry.span("decide", PARENT) as span:
        span.set(answer=42)
        assert span.traceparent == PARENT


def test_a_span_is_the_child_of_the_traceparent_that_came_in(spans: Any) -> None:
    with telemetry.span("decide", PARENT, kind="consumer", tasks=3) as span:
        assert telemetry.trace_id_of(span.traceparent) == telemetry.trace_id_of(PARENT)
        assert span.traceparent != PARENT
    (recorded,) = spans.get_finished_spans()
    assert f"{recorded.parent.span_id:016x}" == PARENT[36:52]
    assert (recorded.name, recorded.kind.name, dict(recorded.attributes)) == ("decide", "CONSUMER", {"tasks": 3})


def test_inner_spans_belong_to_the_outer_one(spans: Any) -> None:
    with telemetry.span("outer"), telemetry.span("inner"):
        pass
    inner, outer = spans.get_finished_spans()
    assert inner.parent.span_id == outer.context.span_id


def test_an_error_marks_the_span_and_goes_on(spans: Any) -> None:
    with pytest.raises(KeyError), telemetry.span("decide"):
        raise KeyError("x")
    (recorded,) = spans.get_finished_spans()
    assert not recorded.status.is_ok


def test_a_malformed_traceparent_begins_a_new_trace(spans: Any) -> None:
    with telemetry.span("decide", "nonsense") as span:
        assert len(telemetry.trace_id_of(span.traceparent)) == 32


def test_new_traceparents_are_valid_and_differ() -> None:
    one, other = telemetry.new_traceparent(), telemetry.new_traceparent()
    assert one != other
    assert len(one) == 55
    assert len(telemetry.trace_id_of(one)) == 32


def test_text_that_is_no_traceparent_has_no_trace_id() -> None:
    assert telemetry.trace_id_of("") == ""
    assert telemetry.trace_id_of("x" * 60) == ""
