"""Nodelink's calls as a client of a running system sees them."""

import asyncio
import json
from typing import Final

import httpx
from httpx_sse import aconnect_sse
from msgspec import Struct

from tests.e2e.support import Json

AGENT: Final = "executor-1"


class Event(Struct, frozen=True):
    """One event of a stream."""

    id: str
    body: Json

    @property
    def data(self) -> Json:
        found: Json = self.body["event_response"]["result"]["data"]
        return found

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Stream and text of each line of output in it."""
        return [(self.data["type"], line) for line in self.data["output"].splitlines()]


async def shell(http: httpx.AsyncClient, cmd: str, timeout: float = 60, agent_id: str = AGENT, **more: object) -> str:
    """Id of a task that was made."""
    body = {"agent_id": agent_id, "cmd": cmd, "timeout": timeout, **more}
    answer = await http.post("/tasks/shell", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


async def stream(
    http: httpx.AsyncClient, task_id: str, after: str = "", limit: int = 0, timeout_s: float = 60.0
) -> list[Event]:
    """Events until the stream ends, or until there are ``limit`` of them."""
    found: list[Event] = []
    headers = {"Last-Event-ID": after} if after else {}
    async with asyncio.timeout(timeout_s):
        async with aconnect_sse(http, "GET", "/stream", params={"ref": task_id}, headers=headers) as source:
            async for event in source.aiter_sse():
                assert event.event == "response"
                found.append(Event(event.id, json.loads(event.data)))
                if len(found) == limit:
                    break
    return found


def whole(events: list[Event]) -> str:
    return "".join(event.data["output"] for event in events)


def check(events: list[Event]) -> Json:
    """The last event, of a stream without gap or double, whose two shapes agree."""
    sequences = [event.data["sequence"] for event in events]
    assert sequences == list(range(1, len(events) + 1)), sequences
    assert [event.body["isFinal"] for event in events] == [False] * (len(events) - 1) + [True]
    for event in events:
        data, body = event.data, event.body
        assert body["taskId"] == body["event_response"]["event_ref"]
        assert data["is_final"] == body["isFinal"]
        if "shellExecute" in body:
            assert body["shellExecute"][data["type"]] == data["output"]
            assert body["shellExecute"]["exitCode"] == data["exit_code"]
    return events[-1].body
