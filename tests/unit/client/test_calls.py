"""What the clients send, and what they make of the answers."""

import inspect
import json
from typing import Any

import httpx
import pytest

from taskloom.client import (
    AsyncClient,
    Busy,
    Client,
    Conflict,
    Invalid,
    NotEnded,
    NotFound,
    Refused,
    ServerFault,
    Unreachable,
)

URL = "http://taskloom.test"
TASK: dict[str, Any] = {
    "task_id": "t1",
    "status": "TASK_STATUS_RUNNING",
    "state": "retrying",
    "kind": "echo",
    "queue": "default",
    "priority": 2,
    "attempt": 1,
    "max_attempts": 4,
    "version": 6,
    "created_at": "2026-01-01T00:00:00Z",
}


class Server:
    """Answers in turn with what it was given, and keeps the requests; the last answer is repeated."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self) -> Client:
        return Client(URL, patience_s=0, transport=httpx.MockTransport(self))


def answer(body: Any, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


def test_submission_is_sent_with_its_fields_key_and_patience() -> None:
    server = Server(answer({"task_id": "t1", "status": "STATUS_CODE_OK", "created_at": "2026-01-01T00:00:00Z"}))

    with server.client() as client:
        submitted = client.submit(kind="shell", input={"cmd": "true"}, idempotency_key="k", wait_s=5)

    [request] = server.requests
    assert submitted.task_id == "t1"
    assert (request.method, request.url.path) == ("POST", "/api/v1/tasks")
    assert json.loads(request.content) == {"kind": "shell", "input": {"cmd": "true"}}
    assert (request.headers["idempotency-key"], request.headers["prefer"]) == ("k", "wait=5")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Invalid), (413, Invalid), (404, NotFound), (409, Conflict), (429, Busy), (503, Busy), (500, ServerFault)],
)
def test_each_kind_of_no_is_an_exception_with_the_servers_text(status: int, kind: type[Refused]) -> None:
    server = Server(answer({"error": "not so", "field": "input.cmd"}, status, **{"retry-after": "3"}))

    with server.client() as client, pytest.raises(Refused) as told:
        client.get("t1")

    assert type(told.value) is kind
    assert str(told.value) == "not so (field input.cmd)"
    assert (told.value.status, told.value.field, told.value.retry_after_s) == (status, "input.cmd", 3.0)


def test_answer_that_is_not_json_is_told_as_it_is() -> None:
    server = Server(httpx.Response(502, text="<h1>Bad gateway</h1>"))

    with server.client() as client, pytest.raises(ServerFault, match="<h1>Bad gateway</h1>"):
        client.get("t1")


def test_success_with_an_unknown_shape_is_a_fault_of_the_server() -> None:
    with Server(answer(["no", "task"])).client() as client, pytest.raises(ServerFault, match="GET /api/v1/tasks/t1"):
        client.get("t1")


def test_server_that_is_not_there_says_how_to_start_one() -> None:
    server = Server(httpx.ConnectError("refused"))

    with server.client() as client, pytest.raises(Unreachable, match=rf"at {URL} .*make up"):
        client.queues()


def test_figures_are_read_with_their_times() -> None:
    since = {"status": "healthy", "since": "2026-01-01T00:00:00Z"}
    health = {"status": "healthy", "timestamp": "2026-01-01T00:00:00Z", "components": {"kafka": since}}
    server = Server(answer(health))

    with server.client() as client:
        found = client.health()

    assert (found.components["kafka"].status, found.timestamp.year) == ("healthy", 2026)
    assert server.requests[0].url.path == "/api/v1/health/components"


def test_ids_are_escaped_in_paths() -> None:
    server = Server(answer(TASK))

    with server.client() as client:
        client.get("a/../b", as_of=4)

    assert server.requests[0].url.raw_path == b"/api/v1/tasks/a%2F..%2Fb?as_of=4"


def test_all_pages_of_events_are_read() -> None:
    def page(first: int, last: int) -> httpx.Response:
        event = {"workflow_id": "t1", "type": "PROGRESS", "timestamp": "2026-01-01T00:00:00Z"}
        return answer({"events": [{**event, "seq": seq} for seq in range(first, last + 1)], "count": last - first + 1})

    server = Server(page(1, 3), page(4, 5), answer({"events": [], "count": 0}))

    with server.client() as client:
        found = client.events("t1")

    assert [event.seq for event in found] == [1, 2, 3, 4, 5]
    assert [request.url.params["offset"] for request in server.requests] == ["0", "3", "5"]


def test_output_is_read_to_its_end_and_bytes_are_kept() -> None:
    at = "2026-01-01T00:00:00Z"
    text = {"seq": 1, "attempt": 1, "stream": "stdout", "at": at, "text": "grüße\n"}
    binary = {"seq": 2, "attempt": 1, "stream": "stderr", "at": at, "base64": "/wA="}
    server = Server(
        answer({"chunks": [text], "next": 1, "complete": False}),
        answer({"chunks": [binary], "next": 2, "complete": True}),
        answer({"chunks": [], "next": 2, "complete": True}),
    )

    with server.client() as client:
        found = list(client.output("t1", streams=["stdout", "stderr"]))

    assert [chunk.data for chunk in found] == ["grüße\n".encode(), b"\xff\x00"]
    assert [request.url.params["after"] for request in server.requests] == ["0", "1", "2"]
    assert server.requests[0].url.params["stream"] == "stdout,stderr"


def test_waiting_ends_with_the_task_however_it_ended() -> None:
    failed = {**TASK, "status": "TASK_STATUS_FAILED", "state": "failed"}

    with Server(answer(TASK), answer(TASK), answer(failed)).client() as client:
        task = client.wait("t1", timeout_s=10)

    assert (task.word, task.ended, task.completed) == ("FAILED", True, False)


def test_waiting_too_long_says_where_the_task_is() -> None:
    with Server(answer(TASK)).client() as client, pytest.raises(NotEnded, match=r"t1 is still retrying after 0\.05 s"):
        client.wait("t1", timeout_s=0.05)


def test_both_clients_have_the_same_calls() -> None:
    def calls_of(kind: type) -> dict[str, list[str]]:
        public = inspect.getmembers(kind, lambda member: inspect.isfunction(member) and member.__name__[0] != "_")
        return {name: list(inspect.signature(member).parameters) for name, member in public}

    assert calls_of(Client) == calls_of(AsyncClient)


def test_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_URL", "http://elsewhere:9/")

    with Client() as client:
        assert client.base_url == "http://elsewhere:9"
