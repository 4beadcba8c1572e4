"""I9: on each route of the OpenAPI document B is answered as if tenant A did not exist, and changes nothing of A's.

Every request is made twice, against a system in which A has a bit of everything and against one in which A has nothing,
and the answers to B are compared. A route with a parameter that is not filled in here fails, so none is left out.
"""

import asyncio
import itertools
import re
import shutil
import weakref
from collections.abc import Iterator
from datetime import timedelta
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import pytest
from litestar import Litestar

from services.gateway.scopes import is_public
from taskloom.cli.contracts import gateway_document
from taskloom.domain.access import USUAL_SCOPES
from taskloom.domain.entities.commands import SignIn
from taskloom.domain.entities.ids import entity_id
from taskloom.filestore import key_of_artifact
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type
from taskloom.wire.messages import OutputChunk
from tests.component.gateway.access import app_with_keys, client_of, issued
from tests.component.gateway.memory import MemorySystem

Json = dict[str, Any]
MARK: Final = "secret-of-a"
"""Stands in each thing of A's."""

ANSWER_S: Final = 0.4
"""What streams on is read for as long as this."""

PATH_IDS: Final[dict[str, list[str]]] = {
    "task_id": ["task-secret-of-a", "run-secret-of-a"],
    "other_id": ["task-secret-of-a"],
    "run_id": ["run-secret-of-a"],
    "job_id": ["task-secret-of-a", "task-secret-of-a-step-0"],
    "dependency": ["task-secret-of-a"],
    "step": ["ask-secret-of-a"],
    "workflow_id": ["etl-secret-of-a"],
    "session_id": ["session-secret-of-a"],
    "name": ["default", "ci_cd"],
    "executor_id": ["nobody"],
    "agent_id": ["echo", "agent-secret-of-a"],
    "path": ["nothing", "artifact-secret-of-a"],
    "key_id": ["KEY"],
    "schedule_id": ["SCHEDULE"],
    "approval_id": ["run-secret-of-a~ask-secret-of-a"],
    "webhook_id": ["hook-secret-of-a"],
    "secret_name": ["word-secret-of-a"],
    "server_name": ["tools-secret-of-a"],
    "file_name": ["file-secret-of-a"],
    "delivery_id": ["delivery-secret-of-a"],
    "user_id": ["usr_secret-of-a"],
    "invitation_id": ["INVITATION"],
}
"""A's id for each parameter of a path; where several are given, one of them fits. KEY and SCHEDULE: of what is
made for A in the test, as INVITATION is."""

QUERY_IDS: Final = dict.fromkeys(("workflow_id", "ids", "ref", "taskId"), "task-secret-of-a")
"""A's id for each parameter of a query string that has to be given."""

_STREAMS: Final = [
    "workflow_id=task-secret-of-a",
    "session_id=session-secret-of-a",
    "all=true&since=2020-01-01T00:00:00Z",
]
QUERIES: Final = {
    "/api/v1/stream/sse": _STREAMS,
    "/api/v1/stream/ws": _STREAMS,
    "/api/v1/tasks": [
        "",
        "session_id=session-secret-of-a",
        "workflow_id=run-secret-of-a",
        "q=secret",
        "tag=secret-of-a",
    ],
}
"""Query strings that name A's things where none has to be given."""

SHARED: Final = {
    "/api/v1/agents/{agent_id}",
    "/api/v1/executors/{executor_id}",
    "/api/v1/executors/{executor_id}/stats",
} | {"/api/v1/agents/{executor_id}/stats"}
"""Executors are of the installation and serve all tenants; nobody is there, so A is answered 404 as well."""

NOT_THERE: Final = {
    "/api/v1/tasks/{task_id}/goal",
    "/api/v1/tasks/{task_id}/workflow/checkpoint",
    "/api/v1/sessions/{session_id}/files/{path}",
}
"""A's tasks are no goals, its run has no checkpoint, and its session no file."""

Case = tuple[str, str]


def cases() -> list[Case]:
    return [(method.upper(), path) for path, each in DOCUMENT["paths"].items() for method in each]


DOCUMENT: Final = gateway_document()
CASES: Final = cases()


def group_of(case: Case) -> str:
    """The part of the path after the version: its routes are tried in one pair of systems."""
    return case[1].split("/")[3] if case[1].startswith("/api/v1/") else ""


GROUPS: Final = sorted({group_of(case) for case in CASES})


class World:
    """A gateway in keys mode. ``ids``: of what was made for A, who is there only when it is ``inhabited``."""

    def __init__(self, app: Litestar, system: MemorySystem, b: str) -> None:
        self.app, self.system, self.a, self.b = app, system, "", b
        self.ids: dict[str, str] = {}

    @classmethod
    async def made(cls, *, inhabited: bool) -> "World":
        system = MemorySystem()
        folder = mkdtemp(prefix="taskloom-")
        app = app_with_keys(system, files_url=f"file://{folder}")
        weakref.finalize(system, shutil.rmtree, folder)
        _, b = await issued(system, "b", scopes=USUAL_SCOPES["admin"])
        world = cls(app, system, b)
        if inhabited:
            key_id, world.a = await issued(system, "a")
            world.ids = {"KEY": key_id, **await inhabit(app, system, world.a)}
        return world

    def of_others(self, tenant: str) -> dict[str, int]:
        """Length of each stream that is not the tenant's."""
        streams = self.system.streams.items()
        return {name: len(stream) for name, stream in streams if stream and stream[0].meta.tenant_id != tenant}


async def inhabit(app: Litestar, system: MemorySystem, key: str) -> dict[str, str]:
    """Gives A a bit of everything; returns the ids that were made up for it."""
    steps = [{"step_type": "approval", "id": "ask-secret-of-a"}]
    async with client_of(app, key) as client:
        on_agent = {"task_id": "shell-secret-of-a", "kind": "shell", "executor_id": "echo", "input": {"cmd": MARK}}
        task = {"task_id": "task-secret-of-a", "session_id": "session-secret-of-a", "query": MARK, "tags": [MARK]}
        hourly = {"name": MARK, "cron_expression": "0 * * * *", "task_query": MARK}
        answers = [
            await client.post("/api/v1/tasks", json=task),
            await client.post("/api/v1/tasks", json=on_agent),
            await client.put("/api/v1/workflows/etl-secret-of-a", json={"definition": {"name": MARK, "steps": steps}}),
            await client.post("/api/v1/workflows/etl-secret-of-a/execute", json={"task_id": "run-secret-of-a"}),
            await client.post("/api/v1/schedules", json=hourly),
            await client.post(
                "/api/v1/webhooks", json={"webhook_id": "hook-secret-of-a", "url": "https://example.com/"}
            ),
            await client.post("/api/v1/agents/agent-secret-of-a/token", json={"description": MARK}),
            await client.put("/api/v1/secrets/word-secret-of-a", json={"value": MARK}),
            await client.put("/api/v1/files/file-secret-of-a", content=MARK),
            await client.put("/api/v1/tool-servers/tools-secret-of-a", json={"transport": "stdio", "command": [MARK]}),
        ]
        invitation = (await client.post("/api/v1/invitations", json={"email": f"{MARK}@example.org"})).json()
        await client.delete("/api/v1/tasks/secret-of-a-that-is-not-there")
        await app.state["gateway"].auditor.close()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 202, 201, 201, 201, 200, 200, 200], [
        answer.text for answer in answers
    ]
    at = system.streams["task-secret-of-a"][0].meta.at
    system.write("task-secret-of-a", OutputChunk("task-secret-of-a", 1, 1, "stdout", at, MARK, tenant_id="a"))
    kept = app.state["gateway"].files._store
    await kept.put(key_of_artifact("a", "task-secret-of-a", 1, "artifact-secret-of-a"), MARK.encode())
    sign_in = SignIn(
        "a" * 64, "google", "login", "b" * 64, "c" * 64, at + timedelta(days=1), email=f"{MARK}@example.org"
    )
    attributes = Attributes(id="sign-in", type=command_type(sign_in), source="test", tenant_id="a")
    await system.send([Envelope(entity_id("user", "a", "usr_secret-of-a"), sign_in, attributes)])
    return {"SCHEDULE": str(answers[4].json()["schedule_id"]), "INVITATION": invitation["invitation_id"]}


class Answer(msgspec.Struct):
    status: int
    body: str


async def call(world: World, key: str, method: str, target: str, body: bytes) -> Answer:
    """The answer, of a stream what came of it in a moment."""
    path, _, query = target.partition("?")
    headers = [(b"x-api-key", key.encode()), (b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope: Any = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [*headers, (b"content-length", str(len(body)).encode())], "http_version": "1.1", "scheme": "http",
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    sent: list[Json] = []
    incoming = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        if (message := next(incoming, None)) is not None:
            return message
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        async with asyncio.timeout(ANSWER_S):
            await world.app(scope, receive, send)
    except TimeoutError:
        assert sent, f"{method} {target} was not answered"
    return Answer(int(sent[0]["status"]), b"".join(part.get("body", b"") for part in sent[1:]).decode())


def targets(case: Case, world: World) -> Iterator[str]:
    """The route's addresses with A's ids in them."""
    method, path = case
    operation = DOCUMENT["paths"][path][method.lower()]
    names = re.findall(r"\{(\w+)\}", path)
    unknown = [name for name in names if name not in PATH_IDS]
    needed = [each["name"] for each in operation["parameters"] if each["in"] == "query" and each["required"]]
    unknown += [name for name in needed if name not in QUERY_IDS]
    assert not unknown, f"{method} {path}: say in this file what A's {', '.join(unknown)} is"
    query = urlencode({name: QUERY_IDS[name] for name in needed})
    for ids in itertools.product(*(PATH_IDS[name] for name in names)):
        filled = path
        for name, value in zip(names, ids, strict=True):
            filled = filled.replace(f"{{{name}}}", world.ids.get(value, value))
        for one in QUERIES.get(path, [query]):
            yield f"{filled}?{one}" if one else filled


def body_of(case: Case) -> bytes:
    """The first example of the route's body."""
    method, path = case
    content = DOCUMENT["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    examples = content.get("application/json", {}).get("examples", {})
    return msgspec.json.encode(next(iter(examples.values()))["value"]) if examples else b""


VOLATILE: Final = re.compile(
    r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)?|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|(key_|sk_|at_|invitation_)[0-9a-f]+|inv_[\w.-]+|eyJ[\w.-]+|whsec_[\w+/=]+"
    # Ids of streams of many tasks: sealed, of one length, another one each time (tests/unit/gateway/test_places.py).
    r"|\"uptime_\w+\":[0-9.]+|: ping\n|id: at-[\w-]{64}\n+"
)


def settled(answer: Answer) -> tuple[int, Any]:
    """Without what differs between any two answers: times, new ids, new keys, and the order by these."""
    body = VOLATILE.sub("~", answer.body)
    try:
        return answer.status, _sorted(msgspec.json.decode(body))
    except msgspec.DecodeError:
        return answer.status, body.replace("~", "").strip()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(each) for name, each in value.items()}
    return sorted(map(_sorted, value), key=repr) if isinstance(value, list) else value


@pytest.mark.parametrize("group", GROUPS)
async def test_b_is_answered_as_if_a_did_not_exist(group: str) -> None:
    inhabited, empty = await World.made(inhabited=True), await World.made(inhabited=False)
    before = inhabited.of_others("b")
    for case in CASES:
        if group_of(case) != group:
            continue
        method, path = case
        for target in targets(case, inhabited):
            found, expected = [
                await call(world, world.b, method, target, body_of(case)) for world in (inhabited, empty)
            ]
            assert found.status not in (401, 500), (target, found.body)
            if path.endswith("/refresh-key"):
                inhabited.b, empty.b = (msgspec.json.decode(each.body)["api_key"] for each in (found, expected))
            if not is_public(path):
                assert settled(found) == settled(expected), target
            assert inhabited.of_others("b") == before, f"by {method} {target} B changed something of A's"
    for world in (inhabited, empty):
        await world.app.state["gateway"].auditor.close()


async def test_the_ids_are_those_of_things_that_a_can_read() -> None:
    """Else the test above would compare one 404 with another."""
    world = await World.made(inhabited=True)
    for case in CASES:
        method, path = case
        if method == "GET" and "{" in path and path not in SHARED | NOT_THERE and not is_public(path):
            answers = [await call(world, world.a, method, target, b"") for target in targets(case, world)]
            assert {answer.status for answer in answers} & {200, 307, 501}, (path, answers)


async def test_a_sees_what_b_does_not() -> None:
    """The mark is in the answers to A, so that its absence in those to B says something."""
    world = await World.made(inhabited=True)
    seen = set()
    for case in CASES:
        if case[0] == "GET":
            for target in targets(case, world):
                if MARK in (await call(world, world.a, "GET", target, b"")).body.replace(target, ""):
                    seen.add(case[1])
    assert len(seen) > 20, seen
    assert {"/api/v1/tasks", "/api/v1/sessions", "/api/v1/workflows", "/api/v1/stream/sse"} <= seen
    assert {"/tasks", "/agents/{agent_id}/tasks", "/tasks/{task_id}", "/stream"} <= seen
