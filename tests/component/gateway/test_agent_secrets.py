"""Secrets over a link: an agent gets those that its own attempt refers to now, of its tenant, and no others."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from services.gateway.settings import GatewaySettings
from taskloom.domain.task.events import AttemptAssigned, TaskCompleted
from taskloom.secrets import Vault
from taskloom.store.errors import StoreUnavailable
from taskloom.wire import link as wire
from taskloom.wire.claims import claim
from tests.component.gateway.memory_links import Machine
from tests.component.gateway.test_agent_links import Room, opened

KEY = "s" * 32
STAR, MOON, THEIRS = "tall-ships-and-a-star", "a-moon-of-cheese", "not-your-star"
INPUT: dict[str, Any] = {"cmd": "true", "env": {"A": {"secret": "star"}, "B": "plain", "C": {"secret": "gone"}}}


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    settings = GatewaySettings(
        reply_timeout_s=0.2, read_wait_s=0.5, key_cache_s=300, instance="g", secrets_key=SecretStr(KEY)
    )
    async for each in opened(settings):
        vault = Vault((KEY,))
        for tenant, name, value in (("default", "star", STAR), ("default", "moon", MOON), ("red", "star", THEIRS)):
            await each.sealed.put(tenant, name, vault.seal(tenant, name, value))
        yield each


async def asked(machine: Machine, task_id: str, *names: str, attempt: int = 1) -> wire.Told:
    await machine.say(wire.Ask(7, task_id, attempt, list(names)))
    told = await machine.hear()
    assert isinstance(told, wire.Told)
    assert told.seq == 7
    return told


async def problem(machine: Machine, task_id: str, *names: str, attempt: int = 1) -> str:
    """What it is refused with; then nothing at all is told."""
    told = await asked(machine, task_id, *names, attempt=attempt)
    assert told.values == {}
    assert told.message
    return told.problem


async def test_an_agent_gets_what_its_attempt_refers_to_now_and_nothing_else(room: Room) -> None:
    await room.task("mine", "agent1", kind="shell", input=INPUT, attempt=2)
    await room.task(
        "in-context", "agent1", kind="shell", input={"cmd": "true"}, context={"deep": [[{"secret": "moon"}]]}
    )
    await room.task("others", "agent2", kind="shell", input=INPUT)
    await room.task("theirs", "agent1", kind="shell", input=INPUT, tenant="red")
    large = msgspec.json.encode({"cmd": "#" * 70_000, "env": {"A": {"secret": "star"}}})
    await room.task("large", "agent1", kind="shell", input=claim(await room.system.put(large), len(large)))
    machine = await room.machine()

    assert (await asked(machine, "mine", "star", attempt=2)).values == {"star": STAR}
    assert (await asked(machine, "in-context", "moon")).values == {"moon": MOON}
    assert (await asked(machine, "large", "star")).values == {"star": STAR}
    for names in (["moon"], ["star", "moon"], ["env"], ["plain"], [""], [f"n{n}" for n in range(200)]):
        assert await problem(machine, "mine", *names, attempt=2) == "secret_refused", names
    for attempt in (1, 3, 0, -1):
        assert await problem(machine, "mine", "star", attempt=attempt) == "secret_refused", attempt
    for task_id in ("others", "theirs", "nobodys", "", "no id\n", "mine~x"):
        assert await problem(machine, task_id, "star") == "secret_refused", task_id
    assert await problem(machine, "mine", "gone", attempt=2) == "secret_missing"
    assert await problem(machine, "mine", "star", "gone", attempt=2) == "secret_missing"

    other = await room.machine("agent2", "secret_token2", incarnation="i-9")
    assert await problem(other, "mine", "star", attempt=2) == "secret_refused"
    assert await problem(other, "others", "star") == "secret_refused", "it is another process's attempt"

    room.system.record("mine", [TaskCompleted(2)])
    room.system.record("in-context", [AttemptAssigned(2, "agent2", "i-1")])
    assert await problem(machine, "mine", "star", attempt=2) == "secret_refused", "it has ended"
    assert await problem(machine, "in-context", "moon") == "secret_refused", "somebody else has it by now"

    passed = [record for records in room.kafka.records.values() for record in records]
    assert passed
    for value in (STAR, MOON, THEIRS):
        assert value not in repr(passed)
        assert value not in repr(wire.Told(1, {"star": value}))


async def test_the_same_name_in_another_tenant_is_another_secret(room: Room) -> None:
    machine = await room.machine("builder", await room.enrolled("builder", "red"))
    await room.task("theirs", "red:builder", kind="shell", input=INPUT, tenant="red")
    await room.task("mine", "red:builder", kind="shell", input=INPUT)
    assert (await asked(machine, "theirs", "star")).values == {"star": THEIRS}
    assert await problem(machine, "mine", "star") == "secret_refused"


async def test_while_they_cannot_be_looked_up_the_link_stays_and_says_so(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.task("mine", "agent1", kind="shell", input=INPUT)
    machine = await room.machine()

    async def away(*_: Any) -> Any:
        raise StoreUnavailable("the secrets table cannot be used now")

    with monkeypatch.context() as broken:
        broken.setattr(room.sealed, "find", away)
        assert await problem(machine, "mine", "star") == "secret_unavailable"
    await room.sealed.put("default", "star", Vault(("x" * 32,)).seal("default", "star", STAR))
    assert await problem(machine, "mine", "star") == "secret_missing", "sealed with a key that is gone"
    await room.sealed.put("default", "star", Vault((KEY,)).seal("red", "star", THEIRS))
    assert await problem(machine, "mine", "star") == "secret_missing", "another tenant's, put in its place"
    await room.sealed.put("default", "star", b"no sealed secret")
    assert await problem(machine, "mine", "star") == "secret_missing"
    monkeypatch.setattr(room.system, "snapshot", lambda _: 1 / 0)
    assert await problem(machine, "mine", "star") == "secret_unavailable"


async def test_where_there_are_no_secrets_the_agent_hears_it() -> None:
    async for room in opened(GatewaySettings(reply_timeout_s=0.2, instance="g")):
        await room.task("mine", "agent1", kind="shell", input=INPUT)
        told = await asked(await room.machine(), "mine", "star")
        assert (told.problem, told.values) == ("secret_missing", {})
        assert "TASKLOOM_SECRETS_KEY" in told.message
