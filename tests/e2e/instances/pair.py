"""Two of everything, keys asked for: two gateways, orchestrators, projections and executors over one store."""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import psycopg
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from taskloom.local.ports import free_ports
from taskloom.local.services import ServiceProcess
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.wire.recorded import unseal
from tests.e2e.support import Api, Json

SECRET: Final = "an-operator-s-secret-of-enough-characters"
KEY_CACHE_S: Final = 0.5
PER_HOUR: Final = 200
QUEUES_PER_HOUR: Final = 30
SETTINGS: Final = {
    "TASKLOOM_AUTH": "keys",
    "TASKLOOM_JWT_SECRET": SECRET,
    "TASKLOOM_KEY_CACHE_S": str(KEY_CACHE_S),
    "TASKLOOM_ORCHESTRATORS": "2",
    "TASKLOOM_PROJECTIONS": "2",
    "TASKLOOM_EXECUTORS": "2",
    "TASKLOOM_SESSION_TIMEOUT_S": "6",
    "TASKLOOM_RATE_PER_MINUTE": "0",
    "TASKLOOM_RATE_PER_HOUR": str(PER_HOUR),
    "TASKLOOM_RATE_ROUTES": json.dumps({"GET /api/v1/queues": {"hour": QUEUES_PER_HOUR}}),
    "TASKLOOM_QUOTAS": json.dumps({"green": {"open_tasks": 6, "parallel": 2}, "gold": {"tokens_per_day": 1}}),
}

STREAM: Final = "/api/v1/stream/sse"
SOCKET: Final = "/api/v1/stream/ws"
SHARDS: Final = 2
_SSE_NAMES: Final = {"error": "ERROR_OCCURRED", "thread.message.completed": "LLM_OUTPUT", "done": "STREAM_END"}
Told = tuple[str, str, int]
"""Task, type, seq."""


class Pair:
    """The system, whose own gateway is the first door, and the second door beside it."""

    def __init__(self, system: RunningSystem, second: ServiceProcess) -> None:
        self.system = system
        self.second = second

    @property
    def urls(self) -> tuple[str, str]:
        return self.system.url, self.second.url

    @asynccontextmanager
    async def doors(self, key: str) -> AsyncIterator[tuple[Api, Api]]:
        """Both gateways as whoever has this key or token sees them."""
        headers = {"Authorization": f"Bearer {key}"}
        first, second = (
            httpx.AsyncClient(base_url=url, timeout=40, trust_env=False, headers=headers) for url in self.urls
        )
        async with first, second:
            yield Api(first), Api(second)

    async def key(self, tenant: str, user: str = "", **fields: Any) -> Json:
        """A new key of a new user, as it was issued; both gateways know it."""
        wish = {"name": "of a test", "user_id": user or f"u-{uuid.uuid4().hex[:8]}", **fields}
        async with self.doors(token(tenant)) as (api, _):
            answer = await api.http.post("/api/v1/auth/api-keys", json=wish)
        assert answer.status_code == 201, answer.text
        issued: Json = answer.json()
        async with self.doors(issued["api_key"]) as apis:
            for api in apis:
                await eventually(partial(self.status, api, 404))
        return issued

    async def status(self, api: Api, wanted: int) -> bool:
        """Whether a read that is not counted is answered so."""
        answer = await api.http.get("/api/v1/tasks/nothing")
        return answer.status_code == wanted

    def facts(self, stream_id: str) -> list[Any]:
        """The stored events of one task or entity, whose own ids no gateway shows."""
        with psycopg.connect(self.system.dsn) as connection:
            found = [
                row
                for shard in range(SHARDS)
                for row in connection.execute(
                    f"SELECT state FROM events_{shard} WHERE originator_id = %s ORDER BY originator_version",
                    (stream_id,),
                )
            ]
        return [unseal(bytes(state)).event for (state,) in found]


async def hour_has(seconds: float) -> None:
    """Returns when the window has so many seconds left."""
    await eventually(lambda: 3600 - time.time() % 3600 > seconds, seconds + 1)


async def turns(apis: Sequence[Api], number: int, path: str, **query: Any) -> list[httpx.Response]:
    """So many GETs at once, to one gateway after the other."""
    wanted = [apis[n % len(apis)].http.get(f"/api/v1{path}", params=query) for n in range(number)]
    return list(await asyncio.gather(*wanted))


def token(tenant: str, user: str = "boss", role: str = "owner") -> str:
    """What an issuer with the operator's secret would sign."""
    claims = {"iss": "shannon-platform", "sub": user, "tenant_id": tenant, "role": role}
    return jwt.encode({**claims, "exp": datetime.now(UTC) + timedelta(hours=1)}, SECRET, "HS256")


def started(home: Path, run: Any, **further: str) -> Iterator[Pair]:
    """``run`` keeps a process running, as ``tests.conftest.running`` does. ``further``: settings beside the usual."""
    settings = SETTINGS | further
    system = RunningSystem(home / "system", settings)
    for _ in run(system):
        [port] = free_ports(1)
        own = {
            "TASKLOOM_INSTANCE": "gateway-second",
            "TASKLOOM_HTTP_PORT": str(port),
            "TASKLOOM_KAFKA_BOOTSTRAP": system.bootstrap,
            "TASKLOOM_DATABASE_DSN": system.dsn,
            "TASKLOOM_TOPIC_PREFIX": str(system.run["topic_prefix"]),
        }
        second = ServiceProcess("gateway", "gateway-second", port=port, logs=home, environment=settings | own)
        yield from (Pair(system, second) for _ in run(second))


class Follower:
    """Reads one stream from one gateway after another, over SSE or a WebSocket, and keeps the last id."""

    def __init__(self, key: str, *, socket: bool = False, **query: str) -> None:
        self.key = key
        self.query = query
        self.socket = socket
        self.told: list[Told] = []
        self.text = ""
        self.last_id = ""
        self.ended = False
        self.cut: Exception | None = None
        self.opened = asyncio.Event()

    async def read(self, url: str) -> None:
        """Until the stream ends, or is cut: ``cut`` then says how."""
        self.cut = None
        self.opened.clear()
        try:
            await (self._read_socket(url) if self.socket else self._read_frames(url))
        except (httpx.TransportError, WebSocketException, OSError) as cut:
            self.cut = cut

    async def hop(self, urls: Sequence[str]) -> None:
        """Reads from one gateway after the other until the stream ends; one that is not there is passed over."""
        for url in itertools.cycle(urls):
            await self.read(url)
            if self.ended:
                return
            await asyncio.sleep(0.05)

    def told_of(self, number: int) -> bool:
        return len(self.told) >= number

    def seqs(self, task_id: str) -> list[int]:
        """Of its events, in the order in which they came."""
        return [seq for each, kind, seq in self.told if each == task_id and kind not in ("output", "STREAM_END")]

    async def _read_frames(self, url: str) -> None:
        headers = {"X-API-Key": self.key} | ({"Last-Event-ID": self.last_id} if self.last_id else {})
        frame: dict[str, str] = {}
        async with (
            httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=headers) as client,
            client.stream("GET", STREAM, params=self.query) as answer,
        ):
            if answer.status_code == 503:
                raise httpx.ReadError("the gateway is starting or stopping")
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    frame[name] = value
                    continue
                self.last_id = frame.get("id", self.last_id)
                if frame.get("data") == "[DONE]":
                    self.ended = True
                elif "data" in frame:
                    self._note(_SSE_NAMES.get(frame["event"], frame["event"]), json.loads(frame["data"]))
                frame = {}
                self.opened.set()

    async def _read_socket(self, url: str) -> None:
        query = {**self.query, **({"last_event_id": self.last_id} if self.last_id else {})}
        address = f"{url.replace('http', 'ws')}{SOCKET}?{httpx.QueryParams(query)}"
        async with connect(address, proxy=None, additional_headers={"X-API-Key": self.key}) as socket:
            self.opened.set()
            async for text in socket:
                message = json.loads(text)
                self.last_id = message["stream_id"]
                if message["type"] == "STREAM_END":
                    self.ended = True
                elif message["type"] != "PING":
                    self._note(message["type"], message)

    def _note(self, kind: str, data: Json) -> None:
        self.told.append((data["workflow_id"], kind, data["seq"]))
        self.text += data.get("text", "")


@asynccontextmanager
async def followed(url: str, *followers: Follower) -> AsyncIterator[list["asyncio.Task[None]"]]:
    """Each reads there; the block begins once all streams are open, and ends what is still open after it."""
    reading = [asyncio.create_task(each.read(url)) for each in followers]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(each.opened.wait() for each in followers))
        yield reading
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def stored(api: Api, task_ids: list[str]) -> list[Told]:
    """What a stream of these tasks has to tell, in any order."""
    told: list[Told] = []
    for task_id in task_ids:
        events = await api.events(task_id)
        told += [(task_id, event["type"], event["seq"]) for event in events if event["type"] != "STREAM_END"]
    return sorted(told)


class Room:
    """Something that one task at a time may be in, on one executor that nobody kills; each looks if it is alone."""

    def __init__(self, folder: Path) -> None:
        self._held, self._clash = folder / "held", folder / "clash"

    def visit(self) -> Json:
        """A submission."""
        cmd = f"mkdir {self._held} || echo clash >> {self._clash}; sleep 0.05; rmdir {self._held}"
        alone = {"key": "room", "limit": 1}
        return {"kind": "shell", "input": {"cmd": cmd}, "concurrency": alone, "executor_id": "executor-2"}

    def check(self) -> None:
        assert not self._clash.exists(), "two were in it at once"
