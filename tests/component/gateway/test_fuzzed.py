"""Requests made from the OpenAPI document, right and wrong: no answer is a fault, none differs from what is said."""

import asyncio
import atexit
import shutil
from collections import Counter
from http import HTTPStatus
from tempfile import mkdtemp
from typing import Any, cast

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.gateway.app import create_app
from services.gateway.openapi import document_of
from services.gateway.parts import Parts
from services.gateway.paths import is_stream
from services.gateway.settings import GatewaySettings
from taskloom.domain.task import events as e
from taskloom.domain.task.submission import BUILT_IN_KINDS
from taskloom.filestore import key_of_artifact
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.memory_links import LinkKafka
from tests.component.gateway.memory_secrets import MemorySecrets
from tests.component.gateway.test_agents import executor

BASE_URL = "http://127.0.0.1"
CHECKS: list[Any] = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_schema_conformance, response_headers_conformance),
]
SAME_EACH_TIME = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=4
)


READ_FOR_S = 0.3
"""A stream of many tasks has no end: whoever reads one leaves after this long."""


class Leaving:
    """The application as it looks to readers of streams who leave."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not is_stream(scope["path"]):
            await self._app(scope, receive, send)
            return
        last: dict[str, Any] = {}

        async def told_or_gone() -> Any:
            try:
                async with asyncio.timeout(READ_FOR_S):
                    return await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}

        async def remembered(message: dict[str, Any]) -> None:
            last.clear()
            last.update(message)
            await send(message)

        await self._app(scope, told_or_gone, remembered)
        if last["type"] == "http.response.start" or last.get("more_body"):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class World:
    """One application with a few things in it, so that ids can be hit, and a loop that all requests run in."""

    def __init__(self) -> None:
        system = MemorySystem()
        system.known_now = type(system.known_now)(kinds=BUILT_IN_KINDS | {"docker"})
        folder = mkdtemp(prefix="taskloom-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        configured = GatewaySettings(
            reply_timeout_s=0.2,
            read_wait_s=0.01,
            ping_interval_s=0.2,
            chat_plan_wait_s=0.0,
            chat_detect_wait_s=0.0,
            chat_answer_wait_s=0.1,
            webhook_key=SecretStr("k" * 32),
            secrets_key=SecretStr("s" * 32),
            files_url=f"file://{folder}",
            jwt_secret=SecretStr("j" * 32),
        )
        around = (system, system, system, system, system, system.tail)
        parts = Parts(configured, *around, links=LinkKafka().parts, sealed=MemorySecrets())
        self.app = create_app(parts)
        self.statuses: Counter[int] = Counter()
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(Leaving(self.app))
        self._client = httpx.AsyncClient(transport=transport, base_url=BASE_URL)
        for task_id in ("open", "done"):
            self._make("POST", "/api/v1/tasks", {"task_id": task_id, "kind": "echo", "session_id": "open"})
        system.record("done", [e.AttemptAssigned(1, "x", "i"), e.AttemptStarted(1, "x"), e.TaskCompleted(1, "{}")])
        self._make("POST", "/api/v1/webhooks", {"webhook_id": "open", "url": "https://example.com/"})
        self._make(
            "POST", "/api/v1/schedules", {"schedule_id": "open", "name": "n", "interval_s": 60, "task_query": "q"}
        )
        self.give_back()
        self._make("POST", "/api/v1/agents/open/token", {})
        system.executors_now = [executor(name, "shell", "docker") for name in ("agent1", "open")]
        assert configured.files is not None
        self._runner.run(configured.files.put(key_of_artifact("default", "done", 1, "open"), b"left by it"))

    def give_back(self) -> None:
        """What a request may have taken away."""
        self._make("PUT", "/api/v1/secrets/open", {"value": "kept"})
        self._make("PUT", "/api/v1/files/open", {"any": "content"})
        self.ids = {
            "key_id": self._make("POST", "/api/v1/auth/api-keys", {"name": "open", "role": "user"})["id"],
            "invitation_id": self._make("POST", "/api/v1/invitations", {"email": "open@example.com"})["invitation_id"],
        }

    def _make(self, method: str, path: str, body: Any) -> Any:
        answer = self.send(self._client.build_request(method, path, json=body))
        assert answer.is_success, answer.text
        return answer.json()

    def send(self, request: httpx.Request) -> httpx.Response:
        answer = self._runner.run(self._client.send(request))
        self.statuses[answer.status_code] += 1
        return answer


WORLD = World()
_KNOWN = ("open", "done", "open")


def _schema(*phases: str) -> Any:
    made = (
        schemathesis.openapi.from_dict(document_of(WORLD.app))
        .exclude(tag="Not offered")
        .exclude(path_regex="/auth/(register|refresh)$")
    )
    made.config.phases.update(phases=list(phases))
    made.hook(map_path_parameters)
    made.hook(map_query)
    return made


def map_path_parameters(_context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Many of the ids that are asked for are there; which, follows from the id that was made."""
    if parameters is None:
        return None
    known = {name: (WORLD.ids[name],) * len(_KNOWN) if name in WORLD.ids else _KNOWN for name in parameters}
    return {name: (*known[name], value, value, value)[len(str(value)) % 6] for name, value in parameters.items()}


def map_query(_context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """So it is with the task that a stream is of, and the attempt that left a file."""
    named = {"ref": "done", "attempt": 1}
    if not isinstance(query, dict):
        return query
    return {name: named[name] if name in named and len(str(value)) % 2 else value for name, value in query.items()}


def _ask(case: Case[Any]) -> None:
    wanted = requests.Request(**case.as_transport_kwargs(base_url=BASE_URL)).prepare()
    if len(str(wanted.url)) > 60_000:
        return  # more than httpx sends, and more than an HTTP server reads
    assert wanted.method is not None
    assert wanted.url is not None
    sent = httpx.Request(
        wanted.method, wanted.url, headers=dict(cast(Any, wanted.headers)), content=cast(Any, wanted.body)
    )
    answer = WORLD.send(sent)
    case.validate_response(answer, checks=CHECKS)
    if answer.is_success and wanted.method == "DELETE":
        WORLD.give_back()


briefly = _schema("examples", "fuzzing")
thoroughly = _schema("examples", "coverage", "fuzzing")


@briefly.parametrize()  # type: ignore[untyped-decorator]
@SAME_EACH_TIME
def test_no_operation_answers_with_a_fault_or_with_what_it_does_not_say(case: Case[Any]) -> None:
    _ask(case)


def test_the_requests_met_what_is_there_and_what_is_not() -> None:
    """A run in which all was refused alike would show nothing."""
    met = WORLD.statuses
    assert min(met[HTTPStatus.OK], met[HTTPStatus.BAD_REQUEST], met[HTTPStatus.NOT_FOUND]) > 20, met


@pytest.mark.chaos
@thoroughly.parametrize()  # type: ignore[untyped-decorator]
@settings(SAME_EACH_TIME, max_examples=60)
def test_no_operation_answers_with_a_fault_however_it_is_asked(case: Case[Any]) -> None:
    _ask(case)
