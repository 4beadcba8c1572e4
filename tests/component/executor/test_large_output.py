"""Output without end: it passes in bounded memory, and what is over the limit is dropped, marked and counted."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import psutil
import pytest

from services.executor.attempt import Tools
from services.executor.attempts import Attempts
from services.executor.kinds.shell import Shell
from services.executor.outbox import Outbox
from services.executor.processes import Guardian
from services.executor.reports import Reporter
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.commands import ReportCompleted
from taskloom.domain.task.directives import RunAttempt
from taskloom.testing.eventually import eventually
from taskloom.wire.commands import decode_command
from taskloom.wire.messages import OutputChunk

MB = 1_000_000
LIMIT = 8 * MB


class Kafka:
    """Keeps the reports and counts the output."""

    def __init__(self) -> None:
        self.ends: list[Any] = []
        self.kept = 0
        self.marks: list[str] = []

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await asyncio.sleep(0)
        for record in records:
            if record.topic == "commands":
                self.ends.append(decode_command(record.key, record.value, record.headers, fallback_id="x").command)
                continue
            chunk = msgspec.json.decode(record.value or b"", type=OutputChunk)
            if chunk.stream == "log":
                self.marks.append(chunk.text)
            else:
                self.kept += len(chunk.data or chunk.text.encode())


@pytest.mark.parametrize(
    ("size", "limit"),
    [
        (64 * MB, LIMIT),
        pytest.param(1_000 * MB, LIMIT, marks=[pytest.mark.chaos, pytest.mark.timeout(300)]),
        pytest.param(1_000 * MB, 0, marks=[pytest.mark.chaos, pytest.mark.timeout(300)]),
    ],
)
async def test_output_passes_in_bounded_memory(size: int, limit: int) -> None:
    kafka, guardian = Kafka(), Guardian()
    reports = Outbox(kafka, name="reports", max_records=100, max_bytes=10**8)
    outputs = Outbox(kafka, name="outputs", max_records=1000, max_bytes=16 * MB)
    reporter = Reporter(reports, topic="commands", partitions=4, executor_id="x")
    values: Any = None
    tools = Tools(reporter, outputs, "outputs", 4, guardian, 1.0, max_output_bytes=limit)
    attempts = Attempts(tools, {"shell": Shell()}, values, slots=1, prefetch=0)
    senders = [asyncio.create_task(box.run()) for box in (reports, outputs)]
    own = psutil.Process()
    before = peak = own.memory_info().rss
    others = set(own.children(recursive=True))  # A broker of other tests, for one.
    attempts.handle(RunAttempt("t", 1, "x", "i", "shell", {"cmd": f"yes 'grün' | head -c {size}"}))

    def over() -> bool:
        nonlocal peak
        helpers = set(own.children(recursive=True)) - others
        peak = max(peak, own.memory_info().rss)
        assert all(_rss(helper) < 80 * MB for helper in helpers)
        return not attempts.live()

    await eventually(over, timeout_s=240, interval_s=0.05)
    [done] = [each for each in kafka.ends if isinstance(each, ReportCompleted)]
    assert done.response["stdout_bytes"] == size
    assert peak - before < 100 * MB
    if limit:
        assert limit - 4 <= kafka.kept <= limit
        assert kafka.kept + done.output.dropped_bytes == size
        assert len(kafka.marks) == 1
    else:
        assert (kafka.kept, done.output.dropped_bytes, kafka.marks) == (size, 0, [])
    await guardian.close()
    for box in (reports, outputs):
        box.close()
    await asyncio.gather(*senders)


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
