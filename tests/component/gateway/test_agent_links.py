"""Links of agents over a real WebSocket: who is let in, what passes, who is cut off; Kafka and the tables in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.gateway.app import create_app
from services.gateway.parts import Parts
from services.gateway.server import HttpServer
from services.gateway.settings import GatewaySettings
from taskloom.domain.task.commands import ReportCompleted, ReportStarted, SubmitTask
from taskloom.domain.task.directives import RunAttempt, StopAttempt
from taskloom.domain.task.events import AttemptAssigned, AttemptLost, AttemptStarted, TaskEvent
from taskloom.domain.task.submission import WEBHOOK_KIND, WEBHOOK_QUEUE
from taskloom.keys import DEV_TOKENS
from taskloom.testing.eventually import eventually
from taskloom.views.executors.query import Executor
from taskloom.wire import link as wire
from taskloom.wire.claims import claim
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type, decode_command
from taskloom.wire.messages import LiveAttempt, OutputChunk
from tests.component.gateway.access import settings_with_keys
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.memory_links import TOPICS, LinkKafka, Machine
from tests.component.gateway.memory_secrets import MemorySecrets

TOKEN = DEV_TOKENS["agent1"]


class Room:
    """A gateway with links, and a client of its REST side."""

    def __init__(self, system: MemorySystem, kafka: LinkKafka, settings: GatewaySettings) -> None:
        self.system, self.kafka, self.sealed = system, kafka, MemorySecrets()
        around = (system, system, system, system, system, system.tail)
        parts = Parts(settings, *around, links=kafka.parts, sealed=self.sealed)
        self.app = create_app(parts)
        self.server = HttpServer(self.app, "127.0.0.1", 0, drain_s=1.0)
        self.links = self.app.state["gateway"].links

    @property
    def port(self) -> int:
        return self.server.port

    async def machine(self, agent_id: str = "agent1", token: str = TOKEN, **how: Any) -> Machine:
        incarnation = how.pop("incarnation", "i-1")
        return await Machine(self.port, agent_id, token, incarnation=incarnation).open(**how)

    async def enrolled(self, agent_id: str, tenant: str = "default") -> str:
        url, headers = f"http://127.0.0.1:{self.port}", {"X-Tenant-Id": tenant}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
            answer = await client.post(f"/api/v1/agents/{agent_id}/token")
            assert answer.status_code == 201, answer.text
            return str(answer.json()["token"])

    async def task(
        self, task_id: str, executor_id: str, tenant: str = "default", attempt: int = 1, **given: Any
    ) -> None:
        """A task whose attempts up to this one were given to the executor; those before it were lost."""
        command = SubmitTask(task_id=task_id, **(given or {"query": "q"}))
        attributes = Attributes(id=task_id, type=command_type(command), source="test", tenant_id=tenant)
        await self.system.send([Envelope(task_id, command, attributes)])
        for number in range(1, attempt + 1):
            history: list[TaskEvent] = [
                AttemptAssigned(number, executor_id, "i-1"),
                AttemptStarted(number, executor_id),
            ]
            if number < attempt:
                history.append(AttemptLost(number, executor_id, "gone"))
            self.system.record(task_id, history, tenant_id=tenant)

    def reports(self) -> list[Any]:
        return [
            decode_command(record.key, record.value, record.headers, fallback_id="none")
            for record in self.kafka.records.get(TOPICS.commands, [])
        ]

    def chunks(self) -> list[OutputChunk]:
        found = self.kafka.records.get(TOPICS.outputs, [])
        return [msgspec.json.decode(record.value or b"", type=OutputChunk) for record in found]


async def opened(settings: GatewaySettings) -> AsyncIterator[Room]:
    room = Room(MemorySystem(), LinkKafka(), settings)
    await room.server.start()
    yield room
    room.kafka.away = False
    await room.links.close()
    await room.server.stop()


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async for each in opened(GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.5, key_cache_s=300, instance="g")):
        yield each


def started(executor_id: str = "agent1", attempt: int = 1) -> ReportStarted:
    return ReportStarted(attempt, executor_id, 7)


async def test_an_agent_registers_as_an_executor_in_the_gateways_words(room: Room) -> None:
    token = await room.enrolled("builder", "acme")
    machine = await room.machine("builder", token, beat=False)
    machine.skew = timedelta(hours=1)
    pattern = {"type": "string", "pattern": "(a+)+$"}
    schemas = {"echo": {"type": "object", "properties": {"a": pattern}}, "other": {"type": "object"}}
    await machine.beat(
        slots=3, tenant_id="other", epoch=99, schemas=schemas, kinds=("echo", WEBHOOK_KIND), queues=("a", WEBHOOK_QUEUE)
    )
    [beat] = await eventually(room.kafka.heartbeats) or []
    assert (beat.executor_id, beat.tenant_id, beat.agent_id) == ("acme:builder", "acme", "builder")
    assert (beat.incarnation, beat.epoch, beat.gateway, beat.slots) == ("i-1", machine.epoch, "g", 3)
    now = datetime.now(UTC)
    assert beat.schemas == {"echo": {"type": "object", "properties": {"a": {"type": "string"}}}}
    assert (beat.kinds, beat.queues) == (("echo",), ("a",))
    assert beat.started_at is not None
    assert max(abs(now - beat.at), abs(now - beat.started_at)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("agent_id", "token"), [("agent1", "secret_token2"), ("agent3", TOKEN), ("agent1", "at_" + "0" * 64), ("", TOKEN)]
)
async def test_a_wrong_token_is_no_way_in(room: Room, agent_id: str, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await room.machine(agent_id, token)
    assert refused.value.response.status_code == 401


async def test_an_agent_that_was_just_enrolled_comes_back_while_the_read_side_is_behind(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(_hashes: Sequence[str]) -> list[Any]:
        return []

    with monkeypatch.context() as behind:
        behind.setattr(room.system, "agents_by_token", not_yet)
        for _ in range(2):
            with pytest.raises(InvalidStatus) as told:
                await room.machine()
            assert told.value.response.status_code == 503, "a 401 would be the last word"
    await room.machine()


async def test_development_tokens_are_worth_nothing_where_keys_are_asked_for() -> None:
    async for room in opened(settings_with_keys()):
        with pytest.raises(InvalidStatus) as refused:
            await room.machine()
        assert refused.value.response.status_code == 401


async def test_orders_come_with_their_offsets_and_only_those_of_the_process_that_is_linked(room: Room) -> None:
    machine = await room.machine()
    room.kafka.order("agent1", RunAttempt("other", 1, "agent1", "i-0", "shell"))
    room.kafka.order("agent2", RunAttempt("other", 1, "agent2", "i-1", "shell"))
    room.kafka.order("agent1", RunAttempt("t", 1, "agent1", "i-1", "shell"))
    order = await machine.hear()
    assert isinstance(order, wire.Order)
    assert (order.directive.task_id, order.offset > machine.epoch) == ("t", True)


async def test_orders_given_while_the_agent_was_away_come_when_it_is_back(room: Room) -> None:
    first = await room.machine()
    room.kafka.order("agent1", RunAttempt("t", 1, "agent1", "i-1", "shell"))
    got = await first.hear()
    assert isinstance(got, wire.Order)
    await first.socket.close()
    room.kafka.order("agent1", StopAttempt("t", 1, "agent1", "i-1"))
    room.kafka.order("agent1", StopAttempt("u", 1, "agent1", "i-0"))
    second = await room.machine(after=got.offset)
    room.kafka.order("agent1", StopAttempt("v", 1, "agent1", "i-1"))
    orders = [await second.hear(), await second.hear()]
    assert [(type(each.directive), each.directive.task_id) for each in orders if isinstance(each, wire.Order)] == [
        (StopAttempt, "t"),
        (StopAttempt, "v"),
    ]


async def test_what_was_lost_while_the_agent_was_away_does_not_begin_any_more(room: Room) -> None:
    await room.task("moved", "agent1", attempt=2)
    machine = await room.machine()
    await machine.socket.close()
    for attempt in (1, 2):
        room.kafka.order("agent1", RunAttempt("moved", attempt, "agent1", "i-1", "shell"))
    machine = await room.machine(after=machine.epoch)
    order = await machine.hear()
    assert isinstance(order, wire.Order)
    assert order.directive.attempt == 2


async def test_a_large_value_comes_in_the_order_itself(room: Room) -> None:
    machine = await room.machine()
    digest = await room.system.put(b'{"cmd": "long"}')
    room.kafka.order("agent1", RunAttempt("t", 1, "agent1", "i-1", "shell", claim(digest, 15)))
    order = await machine.hear()
    assert isinstance(order, wire.Order)
    assert isinstance(order.directive, RunAttempt)
    assert order.directive.input == {"cmd": "long"}


async def test_a_push_is_acknowledged_when_kafka_has_it_and_not_before(room: Room) -> None:
    await room.task("t", "agent1")
    machine = await room.machine()
    await eventually(room.kafka.heartbeats)
    room.kafka.away = True
    await machine.push(1, "reports", ("t", "t/1/started", started()))
    with pytest.raises(TimeoutError):
        await machine.hear(0.3)
    room.kafka.away = False
    assert await machine.hear() == wire.Ack(1)
    [envelope] = room.reports()
    assert (envelope.task_id, envelope.command, envelope.attributes.id) == ("t", started(), "t/1/started")
    assert (envelope.attributes.tenant_id, envelope.attributes.source) == ("default", "agent1")


async def test_pushes_that_wait_for_kafka_go_to_it_together_and_each_is_acknowledged(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.links.relay.LOOK_S", 0.1)
    await room.task("t", "agent1")
    machine = await room.machine()
    room.kafka.away = True
    await machine.push(1, "reports", ("t", "t/1/started", started()))
    for seq in range(2, 2 + wire.PUSHES_AT_ONCE - 1):
        await machine.push(seq, "reports", ("t", f"t/1/{seq}", started()), ("nobodys", "nobodys/1/x", started()))
    room.kafka.away = False
    acks = [await machine.hear() for _ in range(wire.PUSHES_AT_ONCE)]
    assert acks == [wire.Ack(1), *(wire.Ack(seq, refused=1) for seq in range(2, 5))]
    assert [each.attributes.id for each in room.reports()] == ["t/1/started", "t/1/2", "t/1/3", "t/1/4"]


async def test_an_agent_reports_as_itself_about_its_tenants_tasks_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.links.relay.LOOK_S", 0.1)
    await room.task("mine", "agent1")
    await room.task("theirs", "agent1", tenant="red")
    machine = await room.machine()
    foreign = "0" * 64
    await machine.push(
        1,
        "reports",
        ("mine", "mine/1/started", started("agent2")),
        ("mine", "theirs/1/started", started()),
        ("theirs", "theirs/1/started", started()),
        ("nobodys", "nobodys/1/started", started()),
        ("mine", "mine/1/cancel", {"type": "taskloom.task.cancel.v1"}),
        ("mine", "mine/1/completed", ReportCompleted(1, "agent1", response=claim(foreign, 9))),
        ("mine", "mine/1/started", started()),
    )
    assert await machine.hear() == wire.Ack(1, refused=6)
    assert [envelope.attributes.id for envelope in room.reports()] == ["mine/1/started"]


async def test_a_large_result_may_refer_to_what_the_tenants_agents_have_stored(room: Room) -> None:
    await room.task("t", "agent1")
    machine = await room.machine()
    headers = {"x-agent-id": "agent1", "authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{room.port}", trust_env=False) as client:
        stored = await client.post(wire.VALUES_PATH, content=b'{"big": 1}', headers=headers)
        stranger = await client.post(wire.VALUES_PATH, content=b"1", headers={"x-agent-id": "agent1"})
    assert (stored.status_code, stranger.status_code) == (200, 401)
    done = ReportCompleted(1, "agent1", response=claim(stored.json()["digest"], 10))
    await machine.push(1, "reports", ("t", "t/1/completed", done))
    assert await machine.hear() == wire.Ack(1)


async def test_what_agents_stored_is_let_go_by_every_gateway_beside_its_links() -> None:
    async for each in opened(GatewaySettings(key_cache_s=0, instance="g")):
        kafka, stopping = each.kafka, asyncio.Event()
        running = asyncio.create_task(each.links.run(stopping))
        await eventually(lambda kafka=kafka: kafka.forgets == 1)  # type: ignore[misc]
        stopping.set()
        await running
        assert kafka.forgets == 1, "not again within minutes"


async def test_output_has_the_gateways_tenant_and_a_time_by_its_clock(room: Room) -> None:
    await room.task("t", "agent1")
    machine = await room.machine(beat=False)
    machine.skew = -timedelta(hours=1)
    await machine.beat()
    wrong = OutputChunk("t", 2, 1, "stdout", machine.now(), "of another attempt", tenant_id="default")
    chunk = OutputChunk("t", 1, 1, "stdout", machine.now(), "hello", tenant_id="red")
    await machine.push(1, "outputs", ("t", "t/1", chunk), ("t", "t/1", wrong))
    assert await machine.hear() == wire.Ack(1, refused=1)
    [passed] = room.chunks()
    assert (passed.text, passed.tenant_id) == ("hello", "default")
    assert abs(datetime.now(UTC) - passed.at) < timedelta(seconds=30)


async def test_a_task_that_the_read_side_does_not_show_yet_is_waited_for(room: Room) -> None:
    machine = await room.machine()
    await machine.push(1, "reports", ("t", "t/1/started", started()))
    with pytest.raises(TimeoutError):
        await machine.hear(0.3)
    await room.task("t", "agent1")
    assert await machine.hear() == wire.Ack(1)


async def test_a_second_connection_takes_over_and_nothing_of_the_first_passes_any_more(room: Room) -> None:
    await room.task("t", "agent1")
    first = await room.machine()
    second = await room.machine(incarnation="i-2")
    assert second.epoch > first.epoch
    with pytest.raises(ConnectionClosed) as closed:
        await first.hear()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, "took its place" in closed.value.rcvd.reason) == (wire.TAKEN_OVER, True)
    with pytest.raises(ConnectionClosed):
        await first.push(1, "reports", ("t", "t/1/started", started()))
    await second.push(1, "reports", ("t", "t/1/started", started()))
    assert await second.hear() == wire.Ack(1)
    assert len(room.reports()) == 1


async def test_another_gateway_takes_an_agent_over(room: Room) -> None:
    """Both see the same Kafka: the one that reads of the other's claim lets go."""
    other = Room(room.system, room.kafka, GatewaySettings(key_cache_s=300, instance="h"))
    await other.server.start()
    first = await room.machine()
    second = await other.machine(incarnation="i-1", after=first.epoch)
    with pytest.raises(ConnectionClosed):
        await first.hear()
    beats = await eventually(lambda: [each for each in room.kafka.heartbeats() if each.gateway == "h"])
    assert beats
    assert beats[0].epoch == second.epoch
    await other.links.close()
    await other.server.stop()


async def test_attempts_that_were_lost_meanwhile_are_stopped(room: Room) -> None:
    await room.task("mine", "agent1")
    await room.task("moved", "agent1", attempt=2)
    await room.task("theirs", "x", tenant="red")
    machine = await room.machine(beat=False)
    await machine.beat(
        LiveAttempt("mine", 1), LiveAttempt("moved", 1), LiveAttempt("moved", 2), LiveAttempt("theirs", 1)
    )
    stops = [await machine.hear(), await machine.hear()]
    assert [(each.directive.task_id, each.directive.attempt) for each in stops if isinstance(each, wire.Order)] == [
        ("moved", 1),
        ("theirs", 1),
    ]


async def test_a_revoked_token_cuts_the_link_and_a_drain_is_said_in_the_heartbeat(room: Room) -> None:
    token = await room.enrolled("builder")
    machine = await room.machine("builder", token)
    await eventually(room.kafka.heartbeats)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{room.port}", trust_env=False) as client:
        path = "/api/v1/agents/builder"
        drained = await client.post(f"{path}/drain", json={"reason": "disk"})
        assert drained.json()["draining"] is True
        await eventually(lambda: room.kafka.heartbeats()[-1].status == "draining")
        assert (await client.get(path)).json()["machine"]["draining"] is True
        await client.post(f"{path}/undrain")
        await eventually(lambda: room.kafka.heartbeats()[-1].status == "ready")
        assert (await client.delete(f"{path}/token")).status_code == 200
        assert [each.status_code for each in [await client.get(path), await client.post(f"{path}/drain")]] == [404, 404]
    for heard in [await machine.hear(), await machine.hear()]:
        assert isinstance(heard, wire.Drain)
    await machine.socket.wait_closed()
    assert machine.socket.close_code == wire.REFUSED


async def test_a_new_token_is_the_end_of_the_old_one(room: Room) -> None:
    machine = await room.machine("builder", await room.enrolled("builder"))
    token = await room.enrolled("builder")
    with pytest.raises(ConnectionClosed):
        await machine.hear()
    await room.machine("builder", token)


async def test_the_good_bye_of_an_agent_that_leaves_at_once_is_heard(room: Room) -> None:
    machine = await room.machine()
    await machine.beat(status="stopped")
    await machine.socket.close()
    await eventually(lambda: room.kafka.heartbeats() and room.kafka.heartbeats()[-1].status == "stopped")


async def test_what_is_not_understood_and_what_is_too_much_is_cut(room: Room) -> None:
    garbled = await room.machine()
    await garbled.socket.send('{"type": "nonsense"}')
    greedy = await room.machine("agent2", DEV_TOKENS["agent2"])
    await eventually(lambda: len(room.kafka.heartbeats()) > 1)
    room.kafka.away = True
    await room.task("t", "agent2")
    with suppress(ConnectionClosed):
        for seq in range(1, 4 * wire.PUSHES_AT_ONCE):
            await greedy.push(seq, "reports", ("t", "t/1/started", started("agent2")))
    for machine in (garbled, greedy):
        with pytest.raises(ConnectionClosed) as closed:
            await machine.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == wire.GARBLED


async def test_a_gateway_that_stops_sends_its_agents_elsewhere(room: Room) -> None:
    machine = await room.machine()
    await room.links.close()
    with pytest.raises(ConnectionClosed) as closed:
        await machine.hear()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == wire.GOING_AWAY
    with pytest.raises(InvalidStatus) as refused:
        await room.machine()
    assert refused.value.response.status_code == 503


async def test_agents_of_one_name_in_two_tenants_do_not_meet(room: Room) -> None:
    tokens = {tenant: await room.enrolled("builder", tenant) for tenant in ("acme", "red")}
    machines = [await room.machine("builder", token) for token in tokens.values()]
    assert [machine.executor_id for machine in machines] == ["acme:builder", "red:builder"]
    await asyncio.gather(*(machine.beat() for machine in machines))
    await eventually(lambda: len(room.kafka.heartbeats()) >= 2)


async def test_agents_are_watched_as_they_come_change_and_go(room: Room) -> None:
    token = await room.enrolled("builder")
    headers = {"X-Tenant-Id": "default"}
    url = f"http://127.0.0.1:{room.port}"
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client,
        client.stream("GET", "/api/v1/agents/events", timeout=10) as stream,
    ):
        lines = stream.aiter_lines()

        async def news() -> tuple[str, Any]:
            event = ""
            async for line in lines:
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    return event, msgspec.json.decode(line.removeprefix("data: "))
            raise AssertionError("the stream has ended")

        event, agent = await news()
        assert (event, agent["id"], agent["machine"]["status"]) == ("agent", "builder", "offline")
        machine = await room.machine("builder", token)
        await eventually(room.kafka.heartbeats)
        room.system.executors_now = [Executor(room.kafka.heartbeats()[-1], "ready", 0.1)]
        event, agent = await news()
        assert (agent["machine"]["status"], agent["machine"]["gateway"]) == ("online", "g")
        await client.delete("/api/v1/agents/builder/token")
        assert await news() == ("agent.gone", {"id": "builder"})
        await machine.socket.close()
