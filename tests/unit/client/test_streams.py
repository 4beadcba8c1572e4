"""Streams that are cut are resumed where they were, for a bounded time."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from taskloom.client import AsyncClient, Busy, Client, NotEnded, NotFound, StreamItem, Unreachable

URL = "http://taskloom.test"


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Bytes, and then the connection breaks when ``cut``."""

    def __init__(self, content: bytes, cut: bool) -> None:
        self._content, self._cut = content, cut

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        if self._cut:
            raise httpx.ReadError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


class Server:
    """Each request gets the next of the answers; the last one is repeated."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, tuple):
            status, body = answer
            return httpx.Response(status, json=body)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=answer)

    def items(self, **options: Any) -> list[StreamItem]:
        with Client(URL, transport=httpx.MockTransport(self)) as client:
            return list(client.stream("t1", **options))

    async def items_async(self, **options: Any) -> list[StreamItem]:
        async with AsyncClient(URL, transport=httpx.MockTransport(self)) as client:
            return [item async for item in client.stream("t1", **options)]

    @property
    def resumed_after(self) -> list[str]:
        return [request.headers.get("last-event-id", "") for request in self.requests]


def frames(*ids: str, cut: bool = False, done: bool = False) -> Body:
    text = ": workflow t1\n\n"
    text += "".join(f'id: {name}\nevent: PROGRESS\ndata: {{"message":"at {name}"}}\n\n' for name in ids)
    text += "id: 9-9\nevent: done\ndata: [DONE]\n\n" if done else ": ping\n\n"
    return Body(text.encode(), cut)


CUT_THEN_WHOLE = (frames("1-0", "2-0", cut=True), frames("3-0"), frames("3-4", done=True))


def test_cut_stream_goes_on_after_the_last_id_without_gap_or_double() -> None:
    server = Server(*CUT_THEN_WHOLE)

    assert [item.id for item in server.items()] == ["1-0", "2-0", "3-0", "3-4"]
    assert server.resumed_after == ["", "2-0", "3-0"]


async def test_cut_stream_of_the_asynchronous_client_goes_on_too() -> None:
    server = Server(*CUT_THEN_WHOLE)

    assert [item.id for item in await server.items_async()] == ["1-0", "2-0", "3-0", "3-4"]
    assert server.resumed_after == ["", "2-0", "3-0"]


def test_reader_may_begin_after_an_id_it_has() -> None:
    server = Server(frames(done=True))

    assert server.items(last_event_id="5-7", types="output") == []
    assert server.resumed_after == ["5-7"]
    assert server.requests[0].url.params["types"] == "output,STREAM_END"


def test_server_that_is_busy_is_asked_again() -> None:
    server = Server((503, {"error": "too many streams"}), frames("1-0", done=True))

    assert [item.message for item in server.items()] == ["at 1-0"]


def test_server_that_stays_busy_is_given_up_with_its_own_words() -> None:
    with pytest.raises(Busy, match="too many streams"):
        Server((503, {"error": "too many streams"})).items(patience_s=0.1)


def test_server_that_went_away_is_given_up_after_a_while() -> None:
    server = Server(frames("1-0"), httpx.ConnectError("refused"))

    with pytest.raises(Unreachable, match="refused"):
        server.items(patience_s=0.2)

    assert server.resumed_after[-1] == "1-0"
    assert len(server.requests) >= 3


def test_server_that_never_was_there_is_not_waited_for() -> None:
    server = Server(httpx.ConnectError("refused"))

    with pytest.raises(Unreachable, match="make up"):
        server.items()

    assert len(server.requests) == 1


async def test_unknown_task_is_told_at_once() -> None:
    server = Server((404, {"error": "Task not found"}))

    with pytest.raises(NotFound, match="Task not found"):
        await server.items_async()

    assert len(server.requests) == 1


async def test_waiting_too_long_is_an_error_of_its_own() -> None:
    server = Server(frames("1-0"))

    async with AsyncClient(URL, transport=httpx.MockTransport(server)) as client:
        with pytest.raises(NotEnded, match=r"t1 has not ended after 0\.05 s"):
            await client.wait("t1", timeout_s=0.05)


def test_names_of_the_stream_are_those_of_the_list_of_events() -> None:
    text = (
        'id: 1-0\nevent: workflow.cancelling\ndata: {"message":"Cancelling"}\n\nid: 2-0\nevent: done\ndata: [DONE]\n\n'
    )

    [item] = Server(Body(text.encode(), cut=False)).items()

    assert (item.type, item.message, item.is_output) == ("WORKFLOW_CANCELLING", "Cancelling", False)
