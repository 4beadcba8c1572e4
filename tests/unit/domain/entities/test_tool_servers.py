"""Tool servers: registered, changed, removed; what a registration may not say."""

from typing import Any

import pytest

from taskloom.domain.entities.commands import RemoveToolServer, SaveToolServer, SecretName, ToolServerSpec
from taskloom.domain.entities.entity import Entity, decide, evolve
from taskloom.domain.entities.events import ToolServerRemoved, ToolServerSaved
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.tool_servers import ToolServer, as_json
from taskloom.domain.envelope import EventMeta
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.testing.clock import START
from taskloom.wire.recorded import GENESIS, seal

TIME = ToolServerSpec("stdio", ("mcp-server-time",))
REMOTE = ToolServerSpec("http", url="https://tools.example/mcp", headers={"Authorization": SecretName("token")})


class Stream:
    def __init__(self, name: str = "time") -> None:
        self.id = entity_id("tool-server", "acme", name)
        self.state: Entity | None = None
        self.events: list[type] = []

    def when(self, command: Any) -> Refusal | None:
        decision = decide(self.state, command, START, Caller(self.id, "acme", f"c-{len(self.events)}", "root"))
        if isinstance(decision, Refusal):
            return decision
        for event in decision:
            version = 1 if self.state is None else self.state.version + 1
            meta = EventMeta(self.id, version, START, "acme", "", "root")
            self.state = evolve(self.state, seal(event, meta, GENESIS if self.state is None else self.state.digest))
            self.events.append(type(event))
        return None

    def refused(self, **fields: Any) -> tuple[str, str | None]:
        refusal = self.when(SaveToolServer(ToolServerSpec(**fields)))
        assert refusal is not None
        return refusal.code, refusal.field


def test_a_server_is_registered_changed_and_removed() -> None:
    stream = Stream()
    assert stream.when(SaveToolServer(TIME, expected_version=0)) is None
    assert stream.when(SaveToolServer(TIME)) is None
    conflict = stream.when(SaveToolServer(REMOTE, expected_version=0))
    assert conflict is not None
    assert conflict.code == "conflict"
    assert stream.when(SaveToolServer(REMOTE, expected_version=1)) is None
    assert stream.state is not None
    assert stream.state.value == ToolServer(REMOTE)
    assert stream.when(RemoveToolServer()) is None
    again = stream.when(RemoveToolServer())
    assert again is not None
    assert again.code == "not_found"
    assert stream.when(SaveToolServer(REMOTE)) is None
    assert stream.events == [ToolServerSaved, ToolServerSaved, ToolServerRemoved, ToolServerSaved]
    told = as_json(REMOTE)
    assert told["headers"] == {"Authorization": {"secret": "token"}}
    assert told["tools"] is None


@pytest.mark.parametrize("name", ["taskloom", "a.b", "a:b", "x" * 65])
def test_a_name_is_plain_and_not_our_own(name: str) -> None:
    refusal = Stream(name).when(SaveToolServer(TIME))
    assert refusal is not None
    assert refusal.field == "name"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"transport": "stdio"}, "command"),
        ({"transport": "stdio", "command": ("",)}, "command"),
        ({"transport": "stdio", "command": ("a", "b\0")}, "command[1]"),
        ({"transport": "stdio", "command": ("a",), "url": "http://a/"}, "url"),
        ({"transport": "stdio", "command": ("a",), "headers": {"A": "b"}}, "headers"),
        ({"transport": "http", "url": "http://a/", "command": ("a",)}, "command"),
        ({"transport": "http", "url": "http://a/", "env": {"A": "b"}}, "env"),
        ({"transport": "http"}, "url"),
        ({"transport": "http", "url": "file:///etc/passwd"}, "url"),
        ({"transport": "http", "url": "http://user:word@a/"}, "url"),
        ({"transport": "http", "url": "http://a:b/"}, "url"),
        ({"transport": "http", "url": "http://a/ b"}, "url"),
        ({"transport": "http", "url": "http://a/", "headers": {"A\nB": "c"}}, "headers"),
        ({"transport": "http", "url": "http://a/", "headers": {"A": "b\r\nC: d"}}, "headers.A"),
        ({"transport": "http", "url": "http://a/", "headers": {"Host": "b"}}, "headers.Host"),
        ({"transport": "http", "url": "http://a/", "headers": {"Mcp-Session-Id": "b"}}, "headers.Mcp-Session-Id"),
        ({"transport": "stdio", "command": ("a",), "env": {"A=B": "c"}}, "env"),
        ({"transport": "stdio", "command": ("a",), "env": {"A": "b\nc"}}, "env.A"),
        *(
            ({"transport": "stdio", "command": ("a",), "env": {name: "x"}}, f"env.{name}")
            for name in ("PATH", "LD_PRELOAD", "PYTHONPATH", "NODE_OPTIONS", "BASH_ENV", "TASKLOOM_URL")
        ),
    ],
)
def test_a_registration_that_cannot_be_is_refused_with_its_field(fields: dict[str, Any], field: str) -> None:
    assert Stream().refused(**fields) == ("invalid", field)
