"""Secrets in an executor over an in-memory Kafka: put in where they are named, and in nothing that is told."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from services.executor.attempt import Tools
from services.executor.attempts import Attempts
from services.executor.kinds.http import Http
from services.executor.kinds.shell import Shell
from services.executor.outbox import Outbox
from services.executor.processes import Guardian
from services.executor.reports import Reporter
from services.executor.secrets import Secrets
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.commands import ReportCompleted, ReportFailed
from taskloom.domain.task.directives import RunAttempt
from taskloom.kinds import Context, Handler, Outcome, SecretRef, TaskError
from taskloom.rules import Rules, TenantRules
from taskloom.secrets import Vault
from taskloom.store.errors import StoreUnavailable
from taskloom.testing.eventually import eventually
from taskloom.wire.commands import decode_command
from taskloom.wire.messages import OutputChunk

SECRET = "hunter2-is-the-word"
ENV = {"TOKEN": {"secret": "token"}, "PLAIN": "plain"}


class Kafka:
    def __init__(self) -> None:
        self.records: list[OutRecord] = []

    async def publish(self, records: Sequence[OutRecord]) -> None:
        self.records += records


class Table:
    away = False

    async def find(self, tenant_id: str, names: list[str]) -> dict[str, bytes]:
        if self.away:
            raise StoreUnavailable("the secrets table cannot be used now")
        known = {("default", "token"), ("acme", "other")}
        vault = Vault(("k" * 32,))
        return {name: vault.seal(tenant_id, name, SECRET) for name in names if (tenant_id, name) in known}


class Telling(Handler):
    """Tells its secret in every way that there is."""

    kind = "telling"

    async def run(self, ctx: Context) -> Outcome:
        word = (await ctx.reveal({"a": SecretRef("token")}))["a"]
        await ctx.heartbeat(0.5, f"with {word}", word=word)
        for letter in f"<{word}>":
            await ctx.write(letter, "log")
        if ctx.input.get("fails") == "told":
            raise TaskError("told", f"not {word}", details={"word": [word]})
        if ctx.input.get("fails"):
            raise RuntimeError(f"not {word}")
        return Outcome(f"the word is {word}", {"word": word, word: 1})


class Room:
    def __init__(self) -> None:
        self.kafka, self.table = Kafka(), Table()
        self.reports = Outbox(self.kafka, name="reports", max_records=1000, max_bytes=10**8)
        self.outputs = Outbox(self.kafka, name="outputs", max_records=1000, max_bytes=10**8)
        self.guardian = Guardian()
        rules = TenantRules({"*": Rules.model_validate({"commands": {"deny": ["*forbidden*"]}})})
        own = Rules.model_validate({"commands": {"deny": ["not here"]}})
        reporter = Reporter(self.reports, topic="commands", partitions=4, executor_id="x")
        secrets = Secrets(Vault(("k" * 32,)), self.table)
        tools = Tools(reporter, self.outputs, "outputs", 4, self.guardian, 0.05, 0, rules, own, secrets)
        handlers: list[Handler] = [Shell(), Http(), Telling()]
        values: Any = None
        self.attempts = Attempts(tools, {handler.kind: handler for handler in handlers}, values, slots=9, prefetch=0)
        self.senders = [asyncio.create_task(box.run()) for box in (self.reports, self.outputs)]

    async def run(self, kind: str, given: dict[str, Any], tenant_id: str = "default") -> Any:
        """The end report."""
        self.attempts.handle(RunAttempt("t", 1, "x", "i", kind, given, tenant_id=tenant_id))
        await eventually(lambda: not self.attempts.live())
        return next(each for each in self.told("commands") if isinstance(each, ReportCompleted | ReportFailed))

    def told(self, topic: str) -> list[Any]:
        return [
            decode_command(record.key, record.value, record.headers, fallback_id="none").command
            for record in self.kafka.records
            if record.topic == topic
        ]

    def output(self) -> str:
        chunks = [json.loads(record.value or b"") for record in self.kafka.records if record.topic == "outputs"]
        assert all(chunk["type"] == OutputChunk.__struct_config__.tag for chunk in chunks)
        return "".join(chunk.get("text", "") for chunk in chunks)

    def all_bytes(self) -> bytes:
        return b"".join((record.value or b"") + repr(record.headers).encode() for record in self.kafka.records)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    yield room
    await room.guardian.close()
    for box in (room.reports, room.outputs):
        box.close()
    await asyncio.gather(*room.senders)


async def test_a_command_has_the_secret_and_whatever_it_prints_of_it_is_masked(room: Room) -> None:
    halves = "printf '<%s' ${TOKEN:0:7}; sleep 0.1; printf '%s>' ${TOKEN:7}"
    command = f"echo $TOKEN $PLAIN; echo $TOKEN >&2; {halves}; echo -n $TOKEN | md5sum"
    done = await room.run("shell", {"cmd": command, "env": ENV})
    assert done.exit_code == 0
    assert SECRET.encode() not in room.all_bytes()
    assert "*** plain\n" in room.output()
    assert "<***>" in room.output()
    assert hashlib.md5(SECRET.encode()).hexdigest() in done.result
    assert SECRET not in done.result


async def test_a_failing_command_tells_no_secret(room: Room) -> None:
    failed = await room.run("shell", {"cmd": "echo no $TOKEN >&2; exit 3", "env": ENV})
    assert (failed.exit_code, failed.error.message) == (3, "the command ended with exit code 3: no ***")
    assert SECRET.encode() not in room.all_bytes()


@pytest.mark.parametrize("fails", ["", "told", "raised"])
async def test_nothing_that_a_handler_tells_holds_the_secret(room: Room, fails: str) -> None:
    end = await room.run("telling", {"fails": fails})
    assert SECRET.encode() not in room.all_bytes()
    assert room.output() == "<***>"
    if fails:
        assert end.error.message == "not ***"
    else:
        assert (end.result, end.response) == ("the word is ***", {"word": "***", "***": 1})


async def test_a_header_has_the_secret_and_an_answer_that_repeats_it_is_masked(room: Room) -> None:
    heard: list[bytes] = []

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\nx-word: " + SECRET.encode() + b"\r\n\r\n" + head)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        done = await room.run("http", {"url": url, "headers": {"Authorization": {"secret": "token"}}})
    assert f"authorization: {SECRET}".encode() in heard[0].lower()
    assert "***" in done.result
    assert done.response["headers"]["x-word"] == "***"
    assert SECRET.encode() not in room.all_bytes()


@pytest.mark.parametrize(("name", "tenant"), [("none", "default"), ("other", "default"), ("token", "acme")])
async def test_a_secret_that_the_tenant_has_not_fails_for_good(room: Room, name: str, tenant: str) -> None:
    failed = await room.run("shell", {"cmd": "true", "env": {"A": {"secret": name}}}, tenant)
    assert (failed.error.type, failed.error.retryable) == ("secret_missing", False)
    assert name in failed.error.message


async def test_while_the_table_is_away_the_attempt_is_worth_another(room: Room) -> None:
    room.table.away = True
    failed = await room.run("shell", {"cmd": "true", "env": ENV})
    assert (failed.error.type, failed.error.retryable, failed.error.fault) == ("secret_unavailable", True, True)


@pytest.mark.parametrize("command", ["echo forbidden", "not here"])
async def test_rules_are_looked_at_once_more_where_the_work_is_done(room: Room, command: str) -> None:
    failed = await room.run("shell", {"cmd": command})
    assert (failed.error.type, failed.error.retryable) == ("rule_denied", False)
    assert failed.error.details["field"] == "input.cmd"
