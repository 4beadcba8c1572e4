import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar
from websockets.asyncio.client import connect

from services.gateway.log import EventLog
from services.gateway.places import at_positions
from services.gateway.server import HttpServer
from taskloom.domain.task import events as e
from taskloom.domain.values import TaskSpec, Usage
from taskloom.testing.eventually import eventually
from tests.component.gateway.memory import MemorySystem

ANSWER = e.TaskCompleted(1, "hi", usage=Usage(model="m"))
Frame = tuple[str, str, dict[str, Any]]
"""Id, event name, data."""


def submit(system: MemorySystem, task_id: str, *more: e.TaskEvent, tenant: str = "default", **spec: Any) -> None:
    made = TaskSpec(spec.pop("kind", "shell"), tenant_id=tenant, **spec)
    system.record(task_id, [e.TaskSubmitted(made, "hash"), e.TaskQueued(), *more], tenant_id=tenant)


class Reader:
    """An open stream: its frames with data, and the last id, those of frames without data too."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.last_id = ""
        self.opened = asyncio.Event()
        self.fault: Exception | None = None

    async def has(self, number: int) -> None:
        await eventually(lambda: len(self.frames) == number)

    async def heard(self, told: str) -> None:
        await eventually(lambda: told in self.told())

    async def saw(self, *told: str) -> None:
        """Returns when these came, each as ``task type``, and nothing else."""
        await eventually(lambda: len(self.frames) >= len(told))
        assert self.told() == list(told)

    def told(self) -> list[str]:
        return [f"{data['workflow_id']} {name}" for _, name, data in self.frames]

    async def read(self, server: HttpServer, tenant: str, query: dict[str, str], block: asyncio.Event | None) -> None:
        url = f"http://127.0.0.1:{server.port}/api/v1/stream/sse"
        frame: dict[str, str] = {}
        try:
            async with (
                httpx.AsyncClient(timeout=20, headers={"X-Tenant-Id": tenant}) as client,
                client.stream("GET", url, params=query) as answer,
            ):
                assert answer.status_code == 200, await answer.aread()
                async for line in answer.aiter_lines():
                    name, _, value = line.partition(": ")
                    if line:
                        frame[name] = value
                        continue
                    self.last_id = frame.get("id", self.last_id)
                    if "data" in frame:
                        self.frames.append((frame["id"], frame["event"], json.loads(frame["data"])))
                    frame = {}
                    self.opened.set()
                    if block is not None:
                        await block.wait()
        except httpx.HTTPError as fault:
            self.fault = fault


@asynccontextmanager
async def reading(
    server: HttpServer, tenant: str = "default", block: Any = None, **query: str
) -> AsyncIterator[Reader]:
    reader = Reader()
    task = asyncio.create_task(reader.read(server, tenant, query, block))
    try:
        opened = asyncio.create_task(reader.opened.wait())
        await asyncio.wait({task, opened}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if task.done():
            task.result()
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_sessions_stream_tells_its_tasks_from_the_beginning_and_those_to_come(
    server: HttpServer, system: MemorySystem
) -> None:
    submit(system, "a", ANSWER, session_id="s-1")
    submit(system, "b", session_id="s-2")
    async with reading(server, session_id="s-1") as reader:
        await reader.saw("a WORKFLOW_STARTED", "a TASK_QUEUED", "a thread.message.completed", "a WORKFLOW_COMPLETED")
        submit(system, "c", session_id="s-1")
        submit(system, "d", session_id="s-2")
        system.record("b", [e.TaskCancelled()])
        system.record("c", [e.TaskCancelled()])
        await eventually(lambda: len(reader.frames) == 7)
        assert reader.told()[4:] == ["c WORKFLOW_STARTED", "c TASK_QUEUED", "c workflow.cancelled"]


async def test_a_session_that_does_not_exist_yet_is_awaited(server: HttpServer, system: MemorySystem) -> None:
    async with reading(server, session_id="s-1") as reader:
        submit(system, "a", session_id="s-1")
        await reader.saw("a WORKFLOW_STARTED", "a TASK_QUEUED")


async def test_a_tenants_stream_begins_now_and_goes_on_after_every_end(
    server: HttpServer, system: MemorySystem
) -> None:
    submit(system, "old")
    async with reading(server, all="true") as reader:
        submit(system, "a", ANSWER)
        system.record("old", [e.TaskCancelled()])
        submit(system, "b", e.TaskCancelled())
        await eventually(lambda: len(reader.frames) == 8)
        assert "done" not in [name for _, name, _ in reader.frames]
        for task_id, types in (
            ("a", ["WORKFLOW_STARTED", "TASK_QUEUED", "thread.message.completed", "WORKFLOW_COMPLETED"]),
            ("old", ["workflow.cancelled"]),
            ("b", ["WORKFLOW_STARTED", "TASK_QUEUED", "workflow.cancelled"]),
        ):
            assert [name for _, name, data in reader.frames if data["workflow_id"] == task_id] == types


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"kind": "http"}, ["a", "b"]),
        ({"queue": "slow"}, ["b"]),
        ({"tag": "night"}, ["b", "c"]),
        ({"session_id": "s-1", "last_event_id": "0"}, ["c"]),
        ({"kind": "http", "tag": "night"}, ["b"]),
        ({"kind": "none"}, []),
    ],
)
async def test_filters_choose_tasks_by_what_was_submitted(
    server: HttpServer, system: MemorySystem, query: dict[str, str], expected: list[str]
) -> None:
    submit(system, "a", kind="http")
    submit(system, "b", kind="http", queue="slow", tags=("day", "night"))
    submit(system, "c", session_id="s-1", tags=("night",))
    async with reading(server, **{"last_event_id": "0", **query}) as reader:
        for task_id in "abc":
            system.record(task_id, [e.TaskCancelled()])
        submit(system, "last", kind=query.get("kind", "shell"), queue=query.get("queue", "default"),
               session_id=query.get("session_id", ""), tags=(query.get("tag", ""),))  # fmt: skip
        await eventually(lambda: "last TASK_QUEUED" in reader.told())
        found = reader.told()
    for task_id in "abc":
        whole = [f"{task_id} {name}" for name in ("WORKFLOW_STARTED", "TASK_QUEUED", "workflow.cancelled")]
        assert [each for each in found if each.startswith(f"{task_id} ")] == (whole if task_id in expected else [])


async def test_a_status_chooses_the_events_that_lead_to_it(server: HttpServer, system: MemorySystem) -> None:
    async with reading(server, status="failed,CANCELED") as reader:
        submit(system, "a", e.TaskCancelled())
        submit(system, "b", ANSWER)
        submit(system, "c", e.PauseRequested(), e.TaskPaused(), e.CancelRequested(), e.TaskCancelled())
        await eventually(lambda: len(reader.frames) == 2)
        assert sorted(reader.told()) == ["a workflow.cancelled", "c workflow.cancelled"]


async def test_types_are_chosen_in_both_spellings(server: HttpServer, system: MemorySystem) -> None:
    submit(system, "a", ANSWER)
    submit(system, "b", e.TaskCancelled())
    for types in ("LLM_OUTPUT,WORKFLOW_CANCELLED", "thread.message.completed,workflow.cancelled"):
        async with reading(server, all="true", last_event_id="0", types=types) as reader:
            await reader.has(2)
            assert sorted(reader.told()) == ["a thread.message.completed", "b workflow.cancelled"]


async def test_resuming_after_any_frame_has_no_gap_and_no_double(server: HttpServer, system: MemorySystem) -> None:
    for number in range(4):
        submit(system, f"t-{number}", ANSWER if number % 2 else e.TaskCancelled())
        submit(system, f"foreign-{number}", tenant="red")
    total = 4 * 3 + 2
    async with reading(server, all="true", last_event_id="0") as reader:
        await eventually(lambda: len(reader.frames) == total)
    assert len({frame_id for frame_id, _, _ in reader.frames}) == total, "two frames have the same id"
    for place, (frame_id, _, _) in enumerate(reader.frames):
        async with reading(server, all="true", last_event_id=frame_id) as rest:
            marker = f"marker-{place}"
            submit(system, marker)
            await rest.heard(f"{marker} TASK_QUEUED")
        expected = [(name, data["workflow_id"]) for _, name, data in reader.frames[place + 1 :]]
        found = [(name, data["workflow_id"]) for _, name, data in rest.frames if "marker" not in data["workflow_id"]]
        assert sorted(found) == sorted(expected)


async def test_a_quiet_stream_tells_from_where_to_come_back(server: HttpServer, system: MemorySystem) -> None:
    async with reading(server, all="true") as reader:
        began = reader.last_id
        submit(system, "a", tenant="red")
        await eventually(lambda: reader.last_id != began)
        assert reader.frames == []
    submit(system, "b")
    async with reading(server, all="true", last_event_id=reader.last_id) as again:
        await again.saw("b WORKFLOW_STARTED", "b TASK_QUEUED")


async def test_a_stream_begins_with_what_happened_since_a_time(server: HttpServer, system: MemorySystem) -> None:
    submit(system, "a")
    await asyncio.sleep(0.01)
    at = datetime.now(UTC)
    submit(system, "b")
    async with reading(server, all="true", since=at.isoformat()) as reader:
        await reader.saw("b WORKFLOW_STARTED", "b TASK_QUEUED")
    async with reading(server, all="true", since=(at - timedelta(hours=1)).isoformat()) as reader:
        await eventually(lambda: len(reader.frames) == 4)


async def test_a_reader_behind_what_is_kept_reads_the_store_and_misses_nothing(
    app: Litestar, server: HttpServer, system: MemorySystem
) -> None:
    streams = app.state["gateway"].streams
    streams._log = EventLog(system, most_events=20, poll_s=0.01)
    let_go = asyncio.Event()
    async with reading(server, all="true", block=let_go) as slow, reading(server, all="true") as quick:
        tasks = [f"t-{number}" for number in range(3000)]
        for task_id in tasks:
            submit(system, task_id, metadata={"padding": "x" * 2000})  # more than the sockets' buffers hold
        await eventually(lambda: len(quick.frames) == 6000)
        assert len(slow.frames) < 6000
        let_go.set()
        await eventually(lambda: len(slow.frames) == 6000)
    for reader in (slow, quick):
        assert sorted(reader.told()) == sorted(
            f"{t} {name}" for t in tasks for name in ("WORKFLOW_STARTED", "TASK_QUEUED")
        )
    assert system.log_reads > 0
    kept = [len(newest._all) for newest in streams._log._newest]
    assert all(number <= 20 for number in kept)


async def test_no_tenant_sees_anothers_events_whatever_it_asks_for(server: HttpServer, system: MemorySystem) -> None:
    """The foreign tenant's name stands in an own task's data, and an own one's in foreign data."""
    submit(system, "mine", tenant="blue", session_id="s", context={"tenant_id": "red"}, tags=("t",))
    submit(system, "theirs", tenant="red", session_id="s", context={"tenant_id": "blue"}, tags=("t",))
    for query in ({"all": "true"}, {"session_id": "s"}, {"tag": "t"}, {"kind": "shell"}, {"status": "queued"}):
        async with reading(server, "blue", last_event_id="0", **query) as reader:
            system.record("theirs", [e.TaskQueued("retry")], tenant_id="red")
            marker = f"marker-{next(iter(query))}"
            submit(system, marker, tenant="blue", session_id="s", tags=("t",))
            await reader.heard(f"{marker} TASK_QUEUED")
        assert {told.split()[0] for told in reader.told() if "marker" not in told} == {"mine"}
        assert "theirs" not in json.dumps([data for _, _, data in reader.frames])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "workflow_id"),
        ({"types": "done"}, "workflow_id"),
        ({"all": "true", "last_event_id": "p0:1,p1:1"}, "last_event_id"),
        ({"all": "true", "last_event_id": "at-AAAA"}, "last_event_id"),
        ({"all": "true", "last_event_id": "5-1"}, "last_event_id"),
        ({"all": "true", "since": "yesterday"}, "since"),
        ({"status": "LOST"}, "status"),
        ({"kind": "echo", "q": "text"}, "q"),
        ({"kind": "echo", "metadata.team": "a"}, "metadata.team"),
        ({"workflow_id": "a", "session_id": "s"}, "session_id"),
        ({"workflow_id": "a", "kind": "echo"}, "kind"),
    ],
)
async def test_what_cannot_be_streamed_is_refused(client: httpx.AsyncClient, query: dict[str, str], field: str) -> None:
    answer = await client.get("/api/v1/stream/sse", params=query)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_what_is_no_id_in_the_header_is_ignored_and_a_place_in_the_future_is_now(
    app: Litestar, server: HttpServer, system: MemorySystem
) -> None:
    submit(system, "old")
    ids = app.state["gateway"].streams._ids
    future = ids.text("default", at_positions([10**15] * 2))
    for last_id in ("5-1", future):
        url = f"http://127.0.0.1:{server.port}/api/v1/stream/sse?all=true"
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", url, headers={"last-event-id": last_id}) as answer,
        ):
            lines = answer.aiter_lines()
            ends = [await system.log_end(shard) for shard in range(2)]
            frame = [await anext(lines) for _ in range(3)]
            assert frame[2] == ""
            assert ids.read("default", frame[1].removeprefix("id: ")) == at_positions(ends)


async def test_an_id_that_another_tenant_was_given_is_refused_wherever_it_stands(
    client: httpx.AsyncClient, server: HttpServer, system: MemorySystem
) -> None:
    submit(system, "a", tenant="red")
    async with reading(server, "red", all="true", last_event_id="0") as reader:
        await reader.has(2)
    url, theirs = "/api/v1/stream/sse?all=true", {"X-Tenant-Id": "blue"}
    by_header = await client.get(url, headers={**theirs, "Last-Event-ID": reader.last_id})
    by_query = await client.get(f"{url}&last_event_id={reader.last_id}", headers=theirs)
    assert by_header.status_code == by_query.status_code == 400
    assert by_header.json() == by_query.json()


async def test_ids_do_not_tell_whether_anything_happens_elsewhere(server: HttpServer, system: MemorySystem) -> None:
    async def ids_of(tenant: str) -> list[str]:
        found = []
        for _ in range(3):
            async with reading(server, tenant, all="true") as reader:
                found.append(reader.last_id)
        return found

    submit(system, "a", tenant="red")
    quiet = await ids_of("blue")
    for number in range(20):
        submit(system, f"b-{number}", tenant="red")
    assert len({*quiet, *await ids_of("blue")}) == 6, "no id comes twice, whether something happened between or not"


def without_id(message: dict[str, Any]) -> dict[str, Any]:
    """The same event; it has another id each time it is told."""
    return {name: value for name, value in message.items() if name != "stream_id"}


async def test_a_websocket_tells_the_same_and_its_ids_go_on_in_it(server: HttpServer, system: MemorySystem) -> None:
    submit(system, "a", ANSWER, session_id="s")
    url = f"ws://127.0.0.1:{server.port}/api/v1/stream/ws?session_id=s"
    async with connect(url, proxy=None) as socket:
        found = [json.loads(await socket.recv()) for _ in range(5)]
    assert [message["type"] for message in found] == [
        *("PING", "WORKFLOW_STARTED", "TASK_QUEUED", "LLM_OUTPUT", "WORKFLOW_COMPLETED")
    ]
    for place, message in enumerate(found[:-1]):
        async with connect(f"{url}&last_event_id={message['stream_id']}", proxy=None) as socket:
            again = [json.loads(await socket.recv()) for _ in range(5 - place)]
        assert list(map(without_id, again[1:])) == list(map(without_id, found[place + 1 :]))


async def test_a_draining_gateway_cuts_them_and_they_go_on_elsewhere(
    app: Litestar, server: HttpServer, system: MemorySystem
) -> None:
    async with reading(server, all="true") as reader:
        submit(system, "a")
        await reader.saw("a WORKFLOW_STARTED", "a TASK_QUEUED")
        await app.state["gateway"].streams.close()
        await eventually(lambda: reader.fault is not None)
    assert isinstance(reader.fault, httpx.RemoteProtocolError)
