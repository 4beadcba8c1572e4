import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from litestar import Litestar

from services.gateway.server import HttpServer
from taskloom.domain.task import events as e
from taskloom.domain.values import OUTPUT_SEQ_SPAN, ErrorInfo, OutputSummary, TaskSpec, Usage
from taskloom.testing.eventually import eventually
from taskloom.wire.messages import OutputChunk
from tests.component.gateway.memory import MemorySystem

TASK = "t-1"
STARTED: list[e.TaskEvent] = [e.AttemptAssigned(1, "x", "i"), e.AttemptStarted(1, "x")]


def submitted(system: MemorySystem, *more: e.TaskEvent) -> None:
    system.record(TASK, [e.TaskSubmitted(TaskSpec("shell"), "hash"), e.TaskQueued(), *more])


def chunk(number: int, text: str, attempt: int = 1) -> OutputChunk:
    seq = (attempt - 1) * OUTPUT_SEQ_SPAN + number
    return OutputChunk(TASK, attempt, seq, "stdout", datetime.now(UTC), text)


def completed(last_seq: int) -> e.TaskCompleted:
    return e.TaskCompleted(1, result="ok", output=OutputSummary(last_seq, last_seq, 0))


def told(frames: list[ServerSentEvent]) -> list[str]:
    """Each frame in a word: an output's text, else the event's name."""
    return [json.loads(frame.data)["text"] if frame.event == "output" else frame.event for frame in frames]


class Reader:
    """An open stream; ``frames`` grows as they come."""

    def __init__(self) -> None:
        self.frames: list[ServerSentEvent] = []
        self.fault: Exception | None = None
        self.done = asyncio.Event()

    async def saw(self, *words: str) -> None:
        await eventually(lambda: told(self.frames)[-len(words) :] == list(words))


@asynccontextmanager
async def reading(server: HttpServer, **query: str) -> AsyncIterator[Reader]:
    reader = Reader()

    async def read() -> None:
        url = f"http://127.0.0.1:{server.port}/api/v1/stream/sse"
        async with httpx.AsyncClient() as client:
            try:
                async with aconnect_sse(client, "GET", url, params={"workflow_id": TASK, **query}) as source:
                    async for frame in source.aiter_sse():
                        reader.frames.append(frame)
            except httpx.HTTPError as fault:
                reader.fault = fault
        reader.done.set()

    task = asyncio.create_task(read())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def whole(server: HttpServer, **query: str) -> list[ServerSentEvent]:
    async with reading(server, **query) as reader:
        async with asyncio.timeout(10):
            await reader.done.wait()
        assert reader.fault is None
        return reader.frames


ALL = ["WORKFLOW_STARTED", "TASK_QUEUED", "ATTEMPT_ASSIGNED", "AGENT_STARTED", "a", "b", "WORKFLOW_COMPLETED", "done"]


async def test_an_ended_task_replays_whole_without_live_reading(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, *STARTED, completed(2))
    system.write(TASK, chunk(1, "a"))
    system.write(TASK, chunk(2, "b"))
    frames = await whole(server)
    assert told(frames) == ALL
    assert [frame.id for frame in frames] == ["1-0", "2-0", "3-0", "4-0", "4-1", "4-2", "5-2", "5-2-1"]
    assert frames[-1].data == "[DONE]"
    assert system.tail.starts == 0


async def test_a_live_task_is_told_as_it_happens_and_ends(server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    async with reading(server) as reader:
        await reader.saw("TASK_QUEUED")
        await eventually(lambda: system.tail.started)
        system.record(TASK, STARTED)
        system.write(TASK, chunk(1, "a"), stored=False)
        await reader.saw("AGENT_STARTED", "a")
        system.write(TASK, chunk(2, "b"), stored=False)
        system.record(TASK, [completed(2)])
        await reader.done.wait()
    assert told(reader.frames) == ALL


@pytest.mark.parametrize("cut", range(8))
async def test_resuming_after_any_frame_has_no_gap_and_no_double(
    server: HttpServer, system: MemorySystem, cut: int
) -> None:
    submitted(system, *STARTED, completed(2))
    system.write(TASK, chunk(1, "a"))
    system.write(TASK, chunk(2, "b"))
    frames = await whole(server)
    again = await whole(server, last_event_id=frames[cut].id)
    expected = frames[cut + 1 :] or frames[-1:]
    assert [(frame.id, frame.data) for frame in again] == [(frame.id, frame.data) for frame in expected]


async def test_a_browser_that_had_done_is_told_by_204_that_there_is_no_more(
    server: HttpServer, system: MemorySystem
) -> None:
    """An EventSource comes back after every end of a stream, with the last id as header, until it gets 204."""
    submitted(system, *STARTED, completed(0))
    ids = [frame.id for frame in await whole(server)]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:

        async def status(last: str, **query: str) -> int:
            params = {"workflow_id": TASK, **query}
            answer = await client.get("/api/v1/stream/sse", params=params, headers={"Last-Event-ID": last})
            return answer.status_code

        assert await status(ids[-1]) == 204
        assert [await status(each) for each in ids[:-1]] == [200] * (len(ids) - 1)
        assert await status(ids[-2], types="done") == 200
        # Who does not want to hear of the end comes back with the id of what was sent last.
        assert await status(ids[-2], types="WORKFLOW_COMPLETED") == 204
        assert await status(ids[0], types="WORKFLOW_STARTED") == 200, "what came after it was not looked at"
        assert await status(ids[-1], last_event_id=ids[-1]) == 200, "who says it in the query is told done again"
        system.record(TASK, [e.TaskRetried("again"), e.TaskQueued("retried"), e.TaskCancelled()])
        assert await status(ids[-1]) == 200


async def test_the_end_waits_for_output_that_is_on_its_way(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, *STARTED, completed(2))
    system.write(TASK, chunk(1, "a"))
    async with reading(server) as reader:
        await reader.saw("a")
        await asyncio.sleep(0.1)
        assert told(reader.frames)[-1] == "a"
        system.write(TASK, chunk(2, "b"), live=False)
        await reader.done.wait()
    assert told(reader.frames) == ALL


async def test_events_between_history_and_live_are_not_missed(server: HttpServer, system: MemorySystem) -> None:
    """Recorded after the history was read and before live reading began: published to nobody."""
    submitted(system)
    system.tail.on_start = lambda: (system.record(TASK, STARTED, live=False), None)[1]
    async with reading(server) as reader:
        await reader.saw("AGENT_STARTED")
        system.write(TASK, chunk(1, "a"))
        system.write(TASK, chunk(2, "b"))
        system.record(TASK, [completed(2)])
        await reader.done.wait()
    assert told(reader.frames) == ALL


async def test_a_gap_in_live_events_is_filled_from_the_store(server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    async with reading(server) as reader:
        await reader.saw("TASK_QUEUED")
        await eventually(lambda: system.tail.started)
        system.record(TASK, STARTED[:1], live=False)
        system.record(TASK, STARTED[1:])
        await reader.saw("ATTEMPT_ASSIGNED", "AGENT_STARTED")


async def test_a_gap_in_live_output_is_filled_from_the_table(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, *STARTED)
    async with reading(server) as reader:
        await reader.saw("AGENT_STARTED")
        await eventually(lambda: system.tail.started)
        system.write(TASK, chunk(1, "a"), live=False)
        system.write(TASK, chunk(2, "b"))
        await reader.saw("a", "b")


async def test_repeated_live_records_are_shown_once(server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    async with reading(server) as reader:
        await reader.saw("TASK_QUEUED")
        await eventually(lambda: system.tail.started)
        for _ in range(2):
            for recorded in system.streams[TASK]:
                system.tail.publish("taskloom.events", TASK, recorded.body)
        system.record(TASK, STARTED)
        await reader.saw("AGENT_STARTED")
    assert told(reader.frames) == ALL[:4]


async def test_output_of_a_second_attempt_follows_the_first_ones(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, *STARTED)
    async with reading(server) as reader:
        await reader.saw("AGENT_STARTED")
        await eventually(lambda: system.tail.started)
        system.write(TASK, chunk(1, "a"))
        failed = e.AttemptFailed(1, ErrorInfo("x", "y"), output=OutputSummary(1, 1, 1))
        system.write(TASK, chunk(1, "b", attempt=2))
        system.record(TASK, [failed, e.TaskQueued("retry"), e.AttemptAssigned(2, "x", "i"), e.AttemptStarted(2, "x")])
        await reader.saw("a", "error", "TASK_QUEUED", "ATTEMPT_ASSIGNED", "AGENT_STARTED", "b")


async def test_a_slow_reader_goes_back_to_the_store(app: Litestar, server: HttpServer, system: MemorySystem) -> None:
    submitted(system, *STARTED)
    async with reading(server) as reader:
        await reader.saw("AGENT_STARTED")
        await eventually(lambda: system.tail.started)
        for number in range(1, 3001):  # three times a subscription's buffer in one go
            system.write(TASK, chunk(number, str(number)))
        system.record(TASK, [completed(3000)])
        async with asyncio.timeout(20):
            await reader.done.wait()
    assert told(reader.frames)[4:-2] == [str(number) for number in range(1, 3001)]


async def test_types_filter_in_both_spellings(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, e.PauseRequested(), e.TaskPaused(), e.CancelRequested(), e.TaskCancelled())
    for types in ("WORKFLOW_PAUSED,STREAM_END", "workflow.paused,done"):
        assert told(await whole(server, types=types)) == ["workflow.paused", "done"]
    assert told(await whole(server, types="WORKFLOW_PAUSED")) == ["workflow.paused"]


async def test_a_query_streams_its_answer_in_pieces(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, *STARTED, e.TaskCompleted(1, "hi there", output=OutputSummary(1, 1, 8), usage=Usage(model="m")))
    system.write(TASK, OutputChunk(TASK, 1, 1, "message", datetime.now(UTC), "hi \u2028there"))
    frames = await whole(server)
    assert [frame.event for frame in frames][-4:] == [
        "thread.message.delta",
        "thread.message.completed",
        "WORKFLOW_COMPLETED",
        "done",
    ]
    delta: dict[str, Any] = json.loads(frames[-4].data)
    assert delta["delta"] == delta["message"] == "hi \u2028there"
    assert all(frame.data.isascii() for frame in frames)


async def test_silence_brings_pings(server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    url = f"http://127.0.0.1:{server.port}/api/v1/stream/sse?workflow_id={TASK}"
    async with httpx.AsyncClient() as client, client.stream("GET", url) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line == ": ping":
                return
    raise AssertionError("the stream ended without a ping")


async def test_a_draining_gateway_cuts_streams(app: Litestar, server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    async with reading(server) as reader:
        await reader.saw("TASK_QUEUED")
        await app.state["gateway"].streams.close()
        async with asyncio.timeout(60):
            await reader.done.wait()
    assert isinstance(reader.fault, httpx.RemoteProtocolError)


async def test_who_comes_back_while_nothing_can_be_read_is_cut_and_who_comes_first_is_refused(
    app: Litestar, server: HttpServer, system: MemorySystem
) -> None:
    """An EventSource that meets a 503 gives up for good; one that is cut tries again, after the time it is told."""
    submitted(system)
    await app.state["gateway"].streams.close()
    url = f"http://127.0.0.1:{server.port}/api/v1/stream/sse?workflow_id={TASK}"
    async with httpx.AsyncClient() as client:
        first = await client.get(url)
        assert (first.status_code, first.headers["retry-after"]) == (503, "1")
        async with client.stream("GET", url, headers={"Last-Event-ID": "2-0"}) as again:
            assert (again.status_code, again.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            lines = again.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in lines:
                    pass


async def test_a_reader_that_left_is_let_go(app: Litestar, server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    limits = app.state["gateway"].limits
    async with reading(server) as reader:
        await reader.saw("TASK_QUEUED")
        assert limits.streams == 1
    await eventually(lambda: limits.streams == 0)


async def test_another_tenants_stream_is_404(server: HttpServer, system: MemorySystem) -> None:
    system.record(TASK, [e.TaskSubmitted(TaskSpec("shell"), "hash")], tenant_id="red")
    base = f"http://127.0.0.1:{server.port}/api/v1/stream/sse"
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{base}?workflow_id={TASK}")).status_code == 404
        assert (await client.get(f"{base}?workflow_id=unknown")).status_code == 404
        assert (await client.get(base)).json()["field"] == "workflow_id"
        wrong = await client.get(f"{base}?workflow_id={TASK}&last_event_id=yesterday")
        assert wrong.json()["field"] == "last_event_id"


async def test_the_tasks_own_stream_leads_to_the_stream(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/tasks/a/stream?types=done&last_event_id=3-0")
    assert answer.status_code == 307
    assert answer.headers["Location"] == "/api/v1/stream/sse?workflow_id=a&types=done&last_event_id=3-0"


FAILED: list[e.TaskEvent] = [
    e.AttemptFailed(1, ErrorInfo("ValueError", "boom")),
    e.TaskFailed(ErrorInfo("ValueError", "boom"), 1),
]
SECOND: list[e.TaskEvent] = [
    e.TaskRetried("mended"),
    e.TaskQueued("retried"),
    e.AttemptAssigned(2, "ex-1", "i"),
    e.AttemptStarted(2, "ex-1"),
    e.TaskCompleted(2, usage=Usage(model="m")),
]


async def test_a_stream_ends_with_the_end_and_a_later_one_goes_on_after_a_retry(
    server: HttpServer, system: MemorySystem
) -> None:
    submitted(system, *STARTED, *FAILED)
    before = await whole(server)
    assert told(before)[-2:] == ["WORKFLOW_FAILED", "done"]
    system.record(TASK, SECOND)
    after = await whole(server)
    assert told(after)[: len(before) - 1] == told(before)[:-1]
    assert told(after)[len(before) - 1 : len(before) + 1] == ["TASK_RETRIED", "TASK_QUEUED"]
    assert told(after).count("done") == 1
    resumed = await whole(server, last_event_id=str(before[-1].id))
    assert [frame.id for frame in resumed] == [frame.id for frame in after[len(before) - 1 :]]
    for cut in range(len(after)):
        again = await whole(server, last_event_id=after[cut].id)
        expected = after[cut + 1 :] or after[-1:]
        assert [(frame.id, frame.data) for frame in again] == [(frame.id, frame.data) for frame in expected]
