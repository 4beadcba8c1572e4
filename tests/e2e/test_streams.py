"""Streams over HTTP, read by a known client (httpx-sse): whole, resumable anywhere, many at once, cut and gone on."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from httpx_sse import SSEError, aconnect_sse

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, Json, door

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

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


async def test_a_stream_goes_on_after_the_gateway_was_killed(running_system: RunningSystem, api: Api) -> None:
    lines = 400
    task_id = await api.submit(kind="shell", input={"cmd": f"for i in $(seq {lines}); do echo $i; sleep 0.02; done"})
    found: list[Frame] = []
    cuts = 0
    killed = 0
    while not found or found[-1][1] != "done":
        params, headers = {"workflow_id": task_id}, {"Last-Event-ID": found[-1][0]} if found else {}
        try:
            async with aconnect_sse(api.http, "GET", STREAM, params=params, headers=headers) as source:
                async for event in source.aiter_sse():
                    found.append((event.id, event.event, event.data))
                    if len(found) > 25 and not killed:
                        killed = running_system.kill_process("gateway")
        except (httpx.TransportError, SSEError):
            cuts += 1
            await running_system.wait_replaced("gateway", killed)

    assert cuts > 0, "the kill was not felt"
    assert outputs(found) == "".join(f"{n}\n" for n in range(1, lines + 1))
    versions = [int(frame[0].partition("-")[0]) for frame in found if frame[1] not in ("output", "done")]
    assert versions == list(range(1, len(versions) + 1))
    await running_system.wait_all_ready()


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
