import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from litestar import Litestar
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus

from services.gateway.server import HttpServer
from taskloom.domain.task import events as e
from taskloom.domain.values import OutputSummary, TaskSpec, Usage
from taskloom.testing.eventually import eventually
from taskloom.wire.messages import OutputChunk
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.test_streams import STARTED, TASK, chunk, completed, submitted


def socket_of(server: HttpServer, origin: str | None = None, **query: str) -> connect:
    return connect(
        f"ws://127.0.0.1:{server.port}/api/v1/stream/ws?{urlencode({'workflow_id': TASK, **query})}",
        origin=origin,  # type: ignore[arg-type]
        proxy=None,
    )


async def messages(socket: ClientConnection) -> list[dict[str, Any]]:
    return [json.loads(message) async for message in socket]


async def whole(server: HttpServer, **query: str) -> list[dict[str, Any]]:
    async with socket_of(server, **query) as socket:
        return await messages(socket)


def types(found: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in found]


async def test_messages_are_event_objects_with_internal_names_and_the_end_closes(
    server: HttpServer, system: MemorySystem
) -> None:
    submitted(system, e.PauseRequested(), e.TaskPaused(), e.CancelRequested(), e.TaskCancelled())
    async with socket_of(server) as socket:
        found = await messages(socket)
        assert socket.close_code == 1000
    assert types(found)[-4:] == ["WORKFLOW_PAUSED", "WORKFLOW_CANCELLING", "WORKFLOW_CANCELLED", "STREAM_END"]
    assert {message["workflow_id"] for message in found} == {TASK}
    assert [message["seq"] for message in found] == list(range(1, len(found) + 1))
    assert found[0]["payload"]["spec"]["kind"] == "shell"


async def test_a_live_task_is_told_with_its_output(server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    async with socket_of(server) as socket:
        assert json.loads(await socket.recv())["type"] == "WORKFLOW_STARTED"
        await eventually(lambda: system.tail.started)
        system.record(TASK, STARTED)
        system.write(TASK, chunk(1, "a"), stored=False)
        system.record(TASK, [completed(1)])
        found = await messages(socket)
    assert types(found)[-3:] == ["output", "WORKFLOW_COMPLETED", "STREAM_END"]
    assert found[-3]["text"] == "a"


async def test_the_sdk_sees_the_text_of_an_answer_and_of_its_pieces(server: HttpServer, system: MemorySystem) -> None:
    answer = e.TaskCompleted(1, "hi there", output=OutputSummary(1, 1, 8), usage=Usage(model="m"))
    submitted(system, *STARTED, answer)
    system.write(TASK, OutputChunk(TASK, 1, 1, "message", datetime.now(UTC), "hi there"))
    found = await whole(server)
    assert types(found)[-4:] == ["LLM_PARTIAL", "LLM_OUTPUT", "WORKFLOW_COMPLETED", "STREAM_END"]
    assert [message["message"] for message in found[-4:-2]] == ["hi there", "hi there"]


async def test_resuming_after_any_message_has_no_gap_and_no_double(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, *STARTED, completed(2))
    system.write(TASK, chunk(1, "a"))
    system.write(TASK, chunk(2, "b"))
    found = await whole(server)
    for place, message in enumerate(found):
        assert await whole(server, last_event_id=message["stream_id"]) == (found[place + 1 :] or found[-1:])


async def test_types_filter_in_both_spellings(server: HttpServer, system: MemorySystem) -> None:
    submitted(system, e.PauseRequested(), e.TaskPaused(), e.CancelRequested(), e.TaskCancelled())
    for chosen in ("WORKFLOW_PAUSED,STREAM_END", "workflow.paused,done"):
        assert types(await whole(server, types=chosen)) == ["WORKFLOW_PAUSED", "STREAM_END"]


async def test_what_cannot_be_streamed_is_refused_before_the_socket_opens(
    server: HttpServer, system: MemorySystem
) -> None:
    system.record(TASK, [e.TaskSubmitted(TaskSpec("shell"), "hash")], tenant_id="red")
    for query, status in (
        ({"workflow_id": TASK}, 404),
        ({"workflow_id": "unknown"}, 404),
        ({"workflow_id": "a b"}, 400),
        ({"last_event_id": "yesterday"}, 400),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await whole(server, **query)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["error"]


async def test_a_page_of_another_site_opens_no_socket(server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    with pytest.raises(InvalidStatus) as refused:
        async with socket_of(server, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    async with socket_of(server, origin="http://localhost:3000") as socket:
        assert await socket.recv()


async def test_a_draining_gateway_says_come_back(app: Litestar, server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    async with socket_of(server) as socket:
        await socket.recv()
        await app.state["gateway"].streams.close()
        with pytest.raises(ConnectionClosed) as closed:
            await messages(socket)
    assert not isinstance(closed.value, ConnectionClosedOK)
    assert socket.close_code == 1012


async def test_a_reader_that_left_is_let_go(app: Litestar, server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    limits = app.state["gateway"].limits
    async with socket_of(server) as socket:
        await socket.recv()
        assert limits.streams == 1
    await eventually(lambda: limits.streams == 0)


async def test_a_reader_that_talks_too_much_is_dropped(app: Litestar, server: HttpServer, system: MemorySystem) -> None:
    submitted(system)
    async with socket_of(server) as socket:
        await socket.send("x" * 513)
        with pytest.raises(ConnectionClosed):
            await messages(socket)
    assert socket.close_code == 1009


async def test_without_an_upgrade_the_route_says_what_it_wants(client: Any) -> None:
    answer = await client.get("/api/v1/stream/ws", params={"workflow_id": TASK})
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
