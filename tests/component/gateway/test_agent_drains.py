"""Drains of agents: heard among the orders, whoever holds the link and however slow the views are."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.settings import GatewaySettings
from taskloom.domain.task.directives import RunAttempt
from taskloom.testing.eventually import eventually
from taskloom.wire import link as wire
from tests.component.gateway.memory_links import Machine
from tests.component.gateway.test_agent_links import Room, opened


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    # Tokens are not looked up again while the test runs, so that nothing is seen by that.
    async for each in opened(GatewaySettings(reply_timeout_s=0.2, read_wait_s=0.05, key_cache_s=300, instance="g")):
        yield each


async def change(room: Room, word: str, agent_id: str = "builder") -> httpx.Response:
    url = f"http://127.0.0.1:{room.port}/api/v1/agents/{agent_id}/{word}"
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(url)


async def told(machine: Machine, room: Room, *task_ids: str) -> list[str]:
    """What the agent hears up to the last of these orders: tasks' ids, ``drain`` and ``undrain``, repeats once."""
    for task_id in task_ids:
        room.kafka.order("builder", RunAttempt(task_id, 1, "builder", "i-1", "shell"))
    heard: list[str] = []
    while not heard or heard[-1] != task_ids[-1]:
        message = await machine.hear()
        if isinstance(message, wire.Drain):
            word = "drain" if message.draining else "undrain"
            heard += [] if heard[-1:] == [word] else [word]
        elif isinstance(message, wire.Order):
            heard.append(message.directive.task_id)
    return heard


async def test_an_agent_hears_of_a_drain_among_its_orders_before_the_drain_is_answered_for(room: Room) -> None:
    machine = await room.machine("builder", await room.enrolled("builder"))
    room.kafka.order("builder", RunAttempt("before", 1, "builder", "i-1", "shell"))
    assert (await change(room, "drain")).status_code == 200
    assert await told(machine, room, "behind", "later") == ["before", "drain", "behind", "later"]
    assert (await change(room, "drain")).json()["draining"] is True
    assert (await change(room, "undrain")).status_code == 200
    assert (await told(machine, room, "again"))[-2:] == ["undrain", "again"]
    await eventually(lambda: room.kafka.heartbeats()[-1].status == "ready")


async def test_it_hears_it_from_the_gateway_that_holds_its_link_and_with_views_that_are_behind(room: Room) -> None:
    other = Room(room.system, room.kafka, GatewaySettings(key_cache_s=300, reply_timeout_s=0.2, instance="h"))
    await other.server.start()
    machine = await other.machine("builder", await room.enrolled("builder"))
    room.system.behind = True
    assert (await change(room, "drain")).status_code == 200
    assert await told(machine, room, "behind") == ["drain", "behind"]
    await other.links.check()
    assert "undrain" not in await told(machine, room, "after-a-look-at-old-rows")
    await eventually(lambda: room.kafka.heartbeats()[-1].status == "draining")
    await other.links.close()
    await other.server.stop()


async def test_a_link_that_opens_knows_of_a_drain_that_no_view_shows_yet(room: Room) -> None:
    token = await room.enrolled("builder")
    room.system.behind = True
    assert (await change(room, "drain")).status_code == 200
    machine = Machine(room.port, "builder", token)
    await machine.open()
    assert machine.draining
    assert (await change(room, "undrain")).status_code == 200
    assert (await told(machine, room, "again"))[-2:] == ["undrain", "again"]
    await machine.socket.close()
    assert not (await Machine(room.port, "builder", token).open()).draining


async def test_a_drain_that_kafka_does_not_take_is_no_success_and_can_be_asked_again(room: Room) -> None:
    machine = await room.machine("builder", await room.enrolled("builder"))
    room.kafka.away = True
    assert (await change(room, "drain")).status_code == 503
    room.kafka.away = False
    assert (await change(room, "drain")).status_code == 200
    assert "drain" in await told(machine, room, "behind")
