"""An attempt's span lies between its directive and its reports."""

import pytest

from taskloom import telemetry
from taskloom.wire.commands import decode_command
from tests.component.executor.test_attempts import Room

TRACE = "0af7651916cd43dd8448eb211c80319c"
ASKED = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.mark.parametrize("kind", ["echo", "sleep"])
async def test_the_end_of_an_attempt_is_reported_under_its_span(kind: str) -> None:
    spans = telemetry.record_in_memory("executor")
    try:
        room = Room()
        room.order("t", kind, {"seconds": 0}, traceparent=ASKED)
        await room.until("t", "Completed")
        await room.close()
        (span,) = spans.get_finished_spans()
    finally:
        telemetry.shutdown_tracing()
    assert span.context is not None
    assert span.parent is not None
    assert span.attributes is not None
    assert format(span.context.trace_id, "032x") == TRACE
    assert format(span.parent.span_id, "016x") == "b7ad6b7169203331"
    assert span.attributes["task_id"] == "t"
    records = [record for call in room.kafka.calls for record in call]
    ends = [
        decode_command(record.key, record.value, record.headers, fallback_id="none").attributes for record in records
    ]
    assert ends[-1].traceparent.split("-")[1:3] == [TRACE, format(span.context.span_id, "016x")]
