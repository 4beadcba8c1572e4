"""Two of each service, and one after another is killed, stopped or frozen while clients go on: what is promised of
requests with a key, streams and schedules holds all the time. The short form: tests/e2e/instances/test_restarted.py."""

import asyncio
import itertools
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Final

import httpx
import psycopg
import pytest

from taskloom.local.jars import ensure_jars
from taskloom.testing.eventually import eventually
from tests.chaos.workload import check_history, stored_histories, verify
from tests.conftest import running
from tests.e2e.instances.pair import Follower, Pair, Room, Told, started, stored, token
from tests.e2e.instances.ticking import Ticking
from tests.e2e.support import TASKS, Api, Json

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PARTITIONS = 8
SESSION_TIMEOUT_S = 6.0
AT_ONCE = 4
LINES = 60
TALKATIVE: Json = {"kind": "shell", "input": {"cmd": f"for i in $(seq {LINES}); do echo $i; sleep 0.1; done"}}
FURTHER = {
    "TASKLOOM_RATE_PER_HOUR": "0",
    "TASKLOOM_LOST_AFTER_S": "6",
    "TASKLOOM_BEAT_S": "1.5",
    "TASKLOOM_HEARTBEAT_S": "1",
    "TASKLOOM_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    ensure_jars()
    yield from started(tmp_path_factory.mktemp("pair"), running, **FURTHER)


class Client:
    """A tenant's work: each submission goes to both gateways at once, under one key, until both have answered."""

    def __init__(self, pair: Pair, tenant: str, folder: Path) -> None:
        self.room = Room(folder)
        self.pair = pair
        self.tenant = tenant
        self.name = f"s-{uuid.uuid4().hex[:8]}"
        self.key = token(tenant, f"u-{uuid.uuid4().hex[:8]}")
        self.sent: dict[str, str] = {}
        self.talking: dict[str, Follower] = {}
        self.followers = [
            Follower(self.key, session_id=self.name),
            Follower(self.key, socket=True, tag=self.name, last_event_id="0"),
            Follower(self.key, all="true", last_event_id="0"),
        ]

    async def run(self, stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group, self.pair.doors(self.key) as apis:
            first, second = self.pair.urls
            turns = ([first, second], [second, first], [first, second])
            following = [group.create_task(each.hop(urls)) for each, urls in zip(self.followers, turns, strict=True)]
            workers = [group.create_task(self._work(apis, stopping)) for _ in range(AT_ONCE)]
            talkers = [group.create_task(self._talk(apis, stopping)) for _ in range(2)]
            visitor = group.create_task(self._visit(apis, stopping))
            await asyncio.gather(*workers, *talkers, visitor)
            wanted = await self._all_told(apis)
            for each in self.followers:
                await eventually(partial(self._has_told, each, len(wanted)), 30.0)
            for task in following:
                task.cancel()
        for each in self.followers:
            assert sorted(self._own(each)) == wanted, f"{self.tenant}: {each.query}"
            assert len(set(each.told)) == len(each.told), f"{self.tenant}: told twice"
            for task_id in self.sent.values():
                assert each.seqs(task_id) == sorted(each.seqs(task_id))

    def _own(self, follower: Follower) -> list[Told]:
        """What it told of this client's tasks; the tenant has others, those of its schedules."""
        ids = set(self.sent.values())
        return [told for told in follower.told if told[0] in ids]

    def _has_told(self, follower: Follower, number: int) -> bool:
        return len(self._own(follower)) >= number

    async def _work(self, apis: tuple[Api, Api], stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            key = uuid.uuid4().hex
            body = {"kind": "echo", "input": {"key": key}, "session_id": self.name, "tags": [self.name]}
            both = await asyncio.gather(*(self._sent(api, key, body) for api in apis))
            assert len(set(both)) == 1, "one key, two tasks"
            self.sent[key] = both[0]
            await asyncio.sleep(0.1)

    async def _visit(self, apis: tuple[Api, Api], stopping: asyncio.Event) -> None:
        """Tasks of which one may run at a time, two more of them sent before the last ones are through."""
        visits: list[str] = []
        while not stopping.is_set():
            for api in (*apis, *apis):
                key = uuid.uuid4().hex
                body = {**self.room.visit(), "session_id": self.name, "tags": [self.name]}
                self.sent[key] = await self._sent(api, key, body)
                visits.append(self.sent[key])
            for visit in visits[-4:-2]:
                await eventually(partial(self._has_ended, apis, visit), 60.0, 0.1)

    async def _has_ended(self, apis: tuple[Api, Api], task_id: str) -> bool:
        """On a gateway that can be reached."""
        for api in apis:
            try:
                return bool((await api.task(task_id))["state"] == "completed")
            except (httpx.TransportError, AssertionError):
                continue
        return False

    async def _sent(self, api: Api, key: str, body: Json) -> str:
        """Id of the task, as this gateway sees it."""

        async def taken() -> str | None:
            try:
                answer = await api.http.post(TASKS, json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                return None
            assert answer.status_code in (200, 429, 503), answer.text
            return str(answer.json()["task_id"]) if answer.status_code == 200 else None

        return await eventually(taken, 90.0, 0.2) or ""

    async def _talk(self, apis: tuple[Api, Api], stopping: asyncio.Event) -> None:
        """One task after another that writes for six seconds, read from both gateways in turn, line by line."""
        for socket in itertools.cycle([False, True]):
            if stopping.is_set():
                return
            key = uuid.uuid4().hex
            body = {**TALKATIVE, "executor_id": "executor-2", "session_id": self.name, "tags": [self.name]}
            task_id = self.sent[key] = await self._sent(apis[socket], key, body)
            follower = self.talking[task_id] = Follower(self.key, socket=socket, workflow_id=task_id)
            async with asyncio.timeout(120):
                await follower.hop(self.pair.urls[:: -1 if socket else 1])

    async def _all_told(self, apis: tuple[Api, Api]) -> list[Told]:
        """What streams have to tell, once all has ended."""
        ids = list(self.sent.values())
        for number, task_id in enumerate(ids):
            assert (await apis[number % 2].ended(task_id, 60))["state"] == "completed"
        for task_id, follower in self.talking.items():
            assert follower.text == "".join(f"{n}\n" for n in range(1, LINES + 1)), f"{task_id}: {follower.text!r}"
            of_task = await stored(apis[0], [task_id])
            assert follower.seqs(task_id) == sorted(seq for _, _, seq in of_task)
        return await stored(apis[1], ids)

    async def check(self) -> None:
        """On both gateways and in the store there is one task for each key, which ended once."""
        histories = stored_histories(self.pair.system.dsn, "task-%")
        async with self.pair.doors(self.key) as apis:
            for api in apis:
                assert (await api.get("/tasks", session_id=self.name))["total_count"] == len(self.sent)
                for key in list(self.sent)[:: max(1, len(self.sent) // 20)]:
                    other = await api.http.post(TASKS, json={"kind": "sleep"}, headers={"Idempotency-Key": key})
                    assert (other.status_code, key in other.text) == (409, True)
        assert len(set(self.sent.values())) == len(self.sent)
        self.room.check()
        for task_id in self.sent.values():
            check_history(task_id, histories[task_id], "completed")


async def replaced(pair: Pair, *names: str, by: Signals = SIGKILL) -> None:
    pids = {name: pair.system.kill_process(name, by) for name in names}
    for name, pid in pids.items():
        await pair.system.wait_replaced(name, pid, 90)


async def one_orchestrator_is_stopped_and_the_other_killed(pair: Pair) -> None:
    stopped = pair.system.kill_process("orchestrator-1", SIGTERM)
    await replaced(pair, "orchestrator-2")
    await pair.system.wait_replaced("orchestrator-1", stopped, 90)


async def an_orchestrator_is_frozen_until_another_has_its_partitions(pair: Pair) -> None:
    before, pid = epochs(pair), pair.system.kill_process("orchestrator-1", SIGSTOP)
    await eventually(lambda: epochs(pair) >= before + PARTITIONS // 2, 60.0, 0.2)
    pair.system.kill_process("orchestrator-1", SIGCONT)
    assert pair.system.pids["orchestrator-1"] == pid
    await pair.system.wait_all_ready(60)


async def a_gateway_drains_and_the_other_is_killed(pair: Pair) -> None:
    assert await pair.second.stop(15.0), "it drained in time"
    await pair.second.start()
    await replaced(pair, "gateway")


async def a_projection_is_killed_and_the_other_stopped(pair: Pair) -> None:
    await replaced(pair, "projection-1")
    await replaced(pair, "projection-2", by=SIGTERM)


async def an_executor_is_killed(pair: Pair) -> None:
    await replaced(pair, "executor-1")


async def one_of_each_is_killed_at_once(pair: Pair) -> None:
    pair.second.kill()
    await asyncio.gather(replaced(pair, "orchestrator-2", "projection-2", "executor-1"), pair.second.start())


DISTURBANCES: Final = (
    one_orchestrator_is_stopped_and_the_other_killed,
    a_gateway_drains_and_the_other_is_killed,
    a_projection_is_killed_and_the_other_stopped,
    an_orchestrator_is_frozen_until_another_has_its_partitions,
    an_executor_is_killed,
    one_of_each_is_killed_at_once,
)


def epochs(pair: Pair) -> int:
    """Rises by one with each partition that an orchestrator takes over."""
    with psycopg.connect(pair.system.dsn) as connection:
        [(total,)] = connection.execute("SELECT sum(epoch) FROM partition_offsets")
    return int(total)


async def test_what_is_promised_holds_while_each_of_them_dies(pair: Pair, tmp_path: Path) -> None:
    for tenant in ("north", "south"):
        (tmp_path / tenant).mkdir()
    clients = [Client(pair, tenant, tmp_path / tenant) for tenant in ("north", "south")]
    clocks = [Ticking(pair, tenant) for tenant in ("north", "south")]
    stopping = asyncio.Event()
    for clock in clocks:
        await clock.begin(once=60)
    working = [asyncio.create_task(client.run(stopping)) for client in clients]
    try:
        for disturb in DISTURBANCES:
            enough = [len(client.sent) + 30 for client in clients]
            await disturb(pair)
            await eventually(partial(have_sent, clients, enough), 60.0, 0.2)
            assert not [each for each in working if each.done()], "a client gave up"
        stopping.set()
        await asyncio.gather(*working)
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    for client in clients:
        await client.check()
    for clock in clocks:
        await clock.check()
    await verify(pair.system)


def have_sent(clients: Sequence[Client], wanted: Sequence[int]) -> bool:
    return all(len(client.sent) >= number for client, number in zip(clients, wanted, strict=True))
