"""Streams of many tasks, and what happens to streams when their gateway drains while another one goes on."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from shannon import AsyncShannonClient
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from taskloom.local.services import ServiceProcess
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, Json, door, further_gateway

pytestmark = pytest.mark.e2e

STREAM = "/api/v1/stream/sse"
TALKATIVE: Json = {"kind": "shell", "input": {"cmd": "for i in $(seq 60); do echo $i; sleep 0.05; done"}}
Told = tuple[str, str, int]
"""Task, type, seq."""


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


@pytest.fixture
async def further(running_system: RunningSystem, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    async with further_gateway(running_system, tmp_path, f"gateway-{uuid.uuid4().hex[:8]}") as gateway:
        yield gateway


class Reader:
    """Reads a stream of many tasks from one gateway, then from another; keeps the last id."""

    def __init__(self, **query: str) -> None:
        self.query = query
        self.told: list[Told] = []
        self.last_id = ""
        self.opened = asyncio.Event()

    async def read(self, url: str, until: str = "") -> None:
        """Until the stream is cut, which raises, or all of the ends in ``until`` were told."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        frame: dict[str, str] = {}
        async with (
            httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=headers) as client,
            client.stream("GET", STREAM, params=self.query) as answer,
        ):
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    frame[name] = value
                    continue
                self.last_id = frame.get("id", self.last_id)
                self.opened.set()
                if "data" in frame:
                    data = json.loads(frame["data"])
                    self.told.append((data["workflow_id"], frame["event"], data["seq"]))
                    if until and data["workflow_id"] == until and frame["event"] == "WORKFLOW_COMPLETED":
                        return
                frame = {}


async def stored(api: Api, task_ids: list[str]) -> list[Told]:
    """What a stream of these tasks has to tell."""
    names = {"STREAM_END": "", "ERROR_OCCURRED": "error", "LLM_OUTPUT": "thread.message.completed"}
    return [
        (task_id, name, event["seq"])
        for task_id in task_ids
        for event in await api.events(task_id)
        if (name := names.get(event["type"], event["type"]))
    ]


async def test_a_drained_gateways_readers_go_on_at_another_without_gap_or_double(
    running_system: RunningSystem, further: ServiceProcess, api: Api
) -> None:
    session = f"s-{uuid.uuid4().hex[:8]}"
    by_session, by_tag = Reader(session_id=session), Reader(tag=session)
    first = [await api.submit(kind="echo", session_id=session, tags=[session]) for _ in range(3)]
    by_tag.query["last_event_id"] = "0"
    reading = [asyncio.create_task(reader.read(further.url)) for reader in (by_session, by_tag)]
    await asyncio.gather(by_session.opened.wait(), by_tag.opened.wait())
    talking = await api.submit(**TALKATIVE, session_id=session, tags=[session])
    await api.until(talking, "running")
    socket_url = further.url.replace("http", "ws") + f"/api/v1/stream/ws?workflow_id={talking}"
    async with connect(socket_url, proxy=None) as socket:
        message = json.loads(await socket.recv())
        assert await further.stop(15.0)
        with suppress(ConnectionClosed):  # which code it was comes below
            async for text in socket:
                message = json.loads(text)
        assert socket.close_code == 1012
    cuts = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(cut) for cut in cuts] == [httpx.RemoteProtocolError] * 2, "cut, not finished"

    await api.submit(kind="echo", session_id=f"{session}-other", tags=["other"])
    last = await api.submit(kind="echo", session_id=session, tags=[session], depends_on=[talking])
    await asyncio.gather(*(reader.read(running_system.url, until=last) for reader in (by_session, by_tag)))
    expected = await stored(api, [*first, talking, last])
    for reader in (by_session, by_tag):
        assert sorted(reader.told) == sorted(expected)

    socket_url = running_system.url.replace("http", "ws") + f"/api/v1/stream/ws?workflow_id={talking}"
    async with connect(f"{socket_url}&last_event_id={message['stream_id']}", proxy=None) as socket:
        rest = [json.loads(message) async for message in socket]
        assert socket.close_code == 1000
    assert rest[-1]["type"] == "STREAM_END"
    assert message["stream_id"] not in [each["stream_id"] for each in rest]


async def test_the_sdks_stream_goes_on_by_itself_after_its_gateway_was_restarted(
    further: ServiceProcess, api: Api
) -> None:
    task_id = await api.submit(**TALKATIVE)
    seen: list[Any] = []
    async with AsyncShannonClient(base_url=further.url, api_key="unused") as client:
        async for event in client.stream(task_id):
            seen.append(event)
            if len(seen) == 10:
                assert await further.stop(15.0)
                await further.start()
    assert seen[-1].type == "done"
    output = [event.message for event in seen if event.type == "output"]
    assert "".join(output) == "".join(f"{n}\n" for n in range(1, 61))
    told = [event.seq for event in seen if event.type not in ("output", "done")]
    assert told == list(range(1, len(told) + 1))


async def test_a_stream_of_one_tenant_is_silent_about_another(running_system: RunningSystem, api: Api) -> None:
    tag = f"t-{uuid.uuid4().hex[:8]}"
    async with door(running_system, "red") as red:
        theirs = await red.submit(kind="echo", tags=[tag], session_id=tag)
        await red.ended(theirs)
        mine = await api.submit(kind="echo", tags=[tag], session_id=tag)
        for query in ({"tag": tag}, {"session_id": tag}, {"all": "true"}):
            reader = Reader(**query, last_event_id="0")
            await reader.read(running_system.url, until=mine)
            assert theirs not in {task_id for task_id, _, _ in reader.told}
            assert {name for task_id, name, _ in reader.told if task_id == mine} >= {"WORKFLOW_STARTED"}
