"""Streams over HTTP, read by known clients (httpx-sse, npm's eventsource, Shannon's SDK): whole, resumable anywhere,
many at once, cut and gone on."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from httpx_sse import SSEError, aconnect_sse
from shannon import AsyncShannonClient

from taskloom.testing.processes import RunningSystem
from tests.clients.node import Node
from tests.e2e.support import Api, Json, door

pytestmark = pytest.mark.e2e

STREAM = "/api/v1/stream/sse"
TALKATIVE: Json = {
    "kind": "shell",
    "input": {"cmd": "for i in $(seq 30); do echo $i; sleep 0.03; done; exit 4"},
    "retry": {"max_attempts": 2, "initial_s": 0.1},
}
Frame = tuple[str, str, str]
"""Id, event name, data."""


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


async def frames(
    api: Api, task_id: str, after: str = "", *, by_query: bool = False, limit: int = 0, **query: str
) -> list[Frame]:
    """Frames until the stream ends, or until there are ``limit`` of them."""
    headers = {"Last-Event-ID": after} if after and not by_query else {}
    params = {"workflow_id": task_id, **query} | ({"last_event_id": after} if after and by_query else {})
    found: list[Frame] = []
    async with aconnect_sse(api.http, "GET", STREAM, params=params, headers=headers) as source:
        async for event in source.aiter_sse():
            found.append((event.id, event.event, event.data))
            if len(found) == limit:
                break
    return found


def outputs(found: list[Frame]) -> str:
    return "".join(json.loads(data)["text"] for _, name, data in found if name == "output")


async def test_a_stream_can_be_resumed_at_every_frame_without_gap_or_double(api: Api) -> None:
    task_id = await api.submit(**TALKATIVE)
    live = await frames(api, task_id)
    whole = await frames(api, task_id)

    assert (live[-1][1:], live[-2][1]) == (("done", "[DONE]"), "WORKFLOW_FAILED")
    assert outputs(live) == outputs(whole) == "".join(f"{n}\n" for n in range(1, 31)) * 2
    assert [frame[1] for frame in live if frame[1] != "output"] == [name for _, name, _ in whole if name != "output"]
    versions = [int(frame[0].partition("-")[0]) for frame in live if frame[1] not in ("output", "done")]
    assert versions == list(range(1, len(versions) + 1))
    assert len({frame[0] for frame in whole}) == len(whole), "two frames have the same id"
    for place, (last_id, _, _) in enumerate(whole):
        by_query = place % 2 == 0 or place == len(whole) - 1
        rest = await frames(api, task_id, last_id, by_query=by_query)
        assert rest == (whole[place + 1 :] or whole[-1:]), f"resumed after frame {place}, {last_id}"


async def test_a_live_stream_can_be_left_and_resumed_again_and_again(api: Api) -> None:
    task_id = await api.submit(**TALKATIVE)
    found: list[Frame] = []
    while not found or found[-1][1] != "done":
        found += await frames(api, task_id, found[-1][0] if found else "", limit=3)

    assert found == sorted(found, key=lambda frame: tuple(map(int, frame[0].split("-"))))
    assert outputs(found) == "".join(f"{n}\n" for n in range(1, 31)) * 2
    stored = [event["type"] for event in await api.events(task_id)]
    told = [frame[1] for frame in found if frame[1] != "output"]
    assert [{"error": "ERROR_OCCURRED", "done": "STREAM_END"}.get(name, name) for name in told] == stored


EVENTSOURCE = Path(__file__).parents[1] / "clients" / "eventsource.ts"
NAMES = (
    "WORKFLOW_STARTED,TASK_QUEUED,ATTEMPT_ASSIGNED,AGENT_STARTED,OUTPUT_STARTED,output,WORKFLOW_COMPLETED,error,done"
)


async def by_httpx_sse(system: RunningSystem, api: Api, task_id: str, hurt: Callable[[int], None]) -> list[Frame]:
    """Comes back with the last id after a cut, as the standard asks of clients."""
    found: list[Frame] = []
    while not found or found[-1][1] != "done":
        params, headers = {"workflow_id": task_id}, {"Last-Event-ID": found[-1][0]} if found else {}
        try:
            async with aconnect_sse(api.http, "GET", STREAM, params=params, headers=headers) as source:
                async for event in source.aiter_sse():
                    found.append((event.id, event.event, event.data))
                    hurt(len(found))
        except (httpx.TransportError, SSEError):
            await system.wait_all_ready()
    return found


async def by_eventsource(node: Node, url: str) -> tuple[list[Frame], int]:
    """The npm package, which comes back by itself; frames and how often it was cut."""
    met = [json.loads(line) for line in (await node.run(EVENTSOURCE, url, NAMES, timeout_s=90)).splitlines()]
    frames = [(each["id"], each["name"], each["data"]) for each in met if each["met"] == "event"]
    assert frames[-1][1] == "done", f"it gave up: {met[-1]}"
    return frames, sum(each["met"] == "cut" for each in met)


async def by_shannon(url: str, task_id: str) -> tuple[list[str], str]:
    """Types and all messages of output, by Shannon's SDK, which comes back by itself too."""
    async with AsyncShannonClient(base_url=url, api_key="unused") as client:
        found = [event async for event in client.stream(task_id, max_retries=20)]
    return [event.type for event in found], "".join(event.message for event in found if event.type == "output")


async def read_by_all_while(
    system: RunningSystem, api: Api, node: Node, hurt: Callable[[int], None], *, lines: int
) -> None:
    """Three known clients read a task's stream from its first event on, and none has a gap or a double."""
    command = f"for i in $(seq {lines}); do echo $i; sleep 0.02; done"
    task_id = await api.submit(kind="shell", input={"cmd": command})
    url = f"{system.url}{STREAM}?workflow_id={task_id}"
    found, (browser, cuts), (types, output) = await asyncio.gather(
        by_httpx_sse(system, api, task_id, hurt), by_eventsource(node, url), by_shannon(system.url, task_id)
    )
    assert outputs(found) == outputs(browser) == output == "".join(f"{n}\n" for n in range(1, lines + 1))
    assert cuts > 0, "the kill was not felt"
    for each in (found, browser):
        versions = [int(frame[0].partition("-")[0]) for frame in each if frame[1] not in ("output", "done")]
        assert versions == list(range(1, len(versions) + 1))
        assert each[-1][1:] == ("done", "[DONE]")
    assert [name for name in types if name != "output"] == [frame[1] for frame in browser if frame[1] != "output"]
    await system.wait_all_ready()


async def test_streams_go_on_by_themselves_after_the_gateway_was_killed(
    running_system: RunningSystem, api: Api, node: Node
) -> None:
    killed = 0

    def kill_once(frames: int) -> None:
        nonlocal killed
        if frames > 40 and not killed:
            killed = running_system.kill_process("gateway")

    await read_by_all_while(running_system, api, node, kill_once, lines=200)


@pytest.mark.chaos
async def test_streams_go_on_by_themselves_however_often_the_gateway_drains_or_dies(
    running_system: RunningSystem, api: Api, node: Node
) -> None:
    at = {60: signal.SIGTERM, 160: signal.SIGKILL, 260: signal.SIGTERM}

    def hurt(frames: int) -> None:
        if signum := at.pop(frames, None):
            running_system.kill_process("gateway", signum)

    await read_by_all_while(running_system, api, node, hurt, lines=400)
    assert not at


async def test_a_browsers_client_that_does_not_close_at_done_is_stopped_by_the_server(api: Api, node: Node) -> None:
    task_id = await api.submit(kind="echo")
    said = await node.run(EVENTSOURCE, f"{api.http.base_url}{STREAM}?workflow_id={task_id}", NAMES, "--keep")
    met = [json.loads(line) for line in said.splitlines()]
    names = [each["name"] for each in met if each["met"] == "event"]
    assert (names[0], names[-2:], names.count("done")) == ("WORKFLOW_STARTED", ["WORKFLOW_COMPLETED", "done"], 1)
    assert (met[-1]["met"], met[-1]["status"]) == ("cut", 204)


async def test_50_readers_of_one_task_all_get_the_same(running_system: RunningSystem, api: Api) -> None:
    async with httpx.AsyncClient(
        base_url=running_system.url, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=60)
    ) as http:
        task_id = await api.submit(**TALKATIVE)
        found = await asyncio.gather(*(frames(Api(http), task_id) for _ in range(50)))

    expected = "".join(f"{n}\n" for n in range(1, 31)) * 2
    assert {outputs(each) for each in found} == {expected}
    told = {tuple(name for _, name, _ in each if name != "output") for each in found}
    assert len(told) == 1, "readers were told different stories"


async def test_types_are_chosen_in_both_spellings(api: Api) -> None:
    task_id = await api.submit(kind="echo", run_at="2099-01-01T00:00:00Z")
    for verb in ("pause", "resume", "cancel"):
        await api.control(task_id, verb)
    await api.ended(task_id)

    wanted = ["workflow.paused", "workflow.cancelled", "done"]
    for spelling in ("workflow.paused,workflow.cancelled,done", "WORKFLOW_PAUSED, WORKFLOW_CANCELLED, STREAM_END"):
        assert [name for _, name, _ in await frames(api, task_id, types=spelling)] == wanted
    only = await frames(api, task_id, types="WORKFLOW_PAUSED")
    assert [name for _, name, _ in only] == ["workflow.paused"], "and it ends, although its end is hidden"


async def test_a_query_streams_its_answer_piece_by_piece_before_the_whole(api: Api) -> None:
    task_id = await api.submit(query="one two three", context={"sleep_seconds": 0.5})
    found = await frames(api, task_id)
    names = [name for _, name, _ in found]
    pieces = [json.loads(data)["delta"] for _, name, data in found if name == "thread.message.delta"]
    [whole] = [json.loads(data)["response"] for _, name, data in found if name == "thread.message.completed"]

    assert "".join(pieces) == whole
    assert len(pieces) > 1
    assert names[-3:] == ["thread.message.completed", "WORKFLOW_COMPLETED", "done"]


@pytest.mark.parametrize("last_id", ["abc", "1-x", "-1"])
async def test_a_wrong_resume_id_is_refused_in_the_query_and_ignored_in_the_header(api: Api, last_id: str) -> None:
    task_id = await api.submit(kind="echo")
    await api.ended(task_id)
    refused = await api.http.get(STREAM, params={"workflow_id": task_id, "last_event_id": last_id})

    assert (refused.status_code, refused.json()["field"]) == (400, "last_event_id")
    assert (await frames(api, task_id, last_id))[0][1] == "WORKFLOW_STARTED"


async def test_a_stream_of_an_unknown_task_is_404_at_once(api: Api) -> None:
    assert (await api.http.get(STREAM, params={"workflow_id": "unknown"})).status_code == 404
    missing = await api.http.get(STREAM)
    assert (missing.status_code, missing.json()["field"]) == (400, "workflow_id")
