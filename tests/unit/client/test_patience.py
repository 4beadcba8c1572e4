"""Calls that are refused for now are sent again when the server says so, and never where they could be done twice."""

import asyncio
import json
from typing import Any, Unpack

import httpx
import pytest

from taskloom.client import AsyncClient, Busy, Client, Refused, Unreachable
from taskloom.client.submission import (
    Affinity,
    Approval,
    Budget,
    ChosenTasks,
    Concurrency,
    Resources,
    Retry,
    Submission,
    Timeouts,
)
from taskloom.client.submission import TaskFilter as Filtered
from taskloom.domain import values
from taskloom.domain.task.commands import SubmitTask

URL = "http://taskloom.test"
TAKEN = {"task_id": "t1", "status": "STATUS_CODE_OK", "created_at": "2026-01-01T00:00:00Z"}
DONE = {"success": True, "task_id": "t1", "state": "cancelled", "message": "Cancel signal sent"}


def busy(status: int, after_s: str = "0") -> httpx.Response:
    return httpx.Response(status, json={"error": "not now"}, headers={"retry-after": after_s})


def good(body: Any = TAKEN) -> httpx.Response:
    return httpx.Response(200, json=body)


class Server:
    """Answers in turn; keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def submit(self, patience_s: float = 30.0, **task: Unpack[Submission]) -> str:
        with Client(URL, patience_s=patience_s, transport=httpx.MockTransport(self)) as client:
            return client.submit(**task).task_id


def test_a_call_over_a_limit_is_sent_again_after_the_time_that_the_server_gave() -> None:
    server = Server(busy(429, "0.3"), busy(429), good())
    loop = asyncio.new_event_loop()
    began = loop.time()
    assert server.submit(kind="echo") == "t1"
    assert loop.time() - began >= 0.3
    loop.close()
    assert len(server.requests) == 3
    assert len({request.content for request in server.requests}) == 1


async def test_the_asynchronous_client_is_as_patient() -> None:
    server = Server(busy(429), busy(503), good(), httpx.ReadError("reset"), good())
    async with AsyncClient(URL, transport=httpx.MockTransport(server)) as client:
        assert (await client.submit(kind="echo", task_id="t1")).task_id == "t1"
        assert (await client.submit(kind="echo", task_id="t1")).task_id == "t1"
    assert len(server.requests) == 5


def test_a_longer_time_than_the_patience_is_not_waited_for() -> None:
    server = Server(busy(429, "3600"))
    with pytest.raises(Busy) as told:
        server.submit(kind="echo")
    assert told.value.retry_after_s == 3600.0
    assert len(server.requests) == 1
    for never in (busy(429), httpx.ReadError("reset")):
        with pytest.raises((Busy, Unreachable)):
            Server(never).submit(patience_s=0, kind="echo", task_id="t1")


@pytest.mark.parametrize("fault", [busy(503), httpx.ReadError("reset"), httpx.ReadTimeout("late")])
@pytest.mark.parametrize("task_id", ["", "t1"], ids=["no id", "with id"])
def test_a_submission_that_may_have_been_taken_is_repeated_only_under_its_id(
    fault: httpx.Response | Exception, task_id: str
) -> None:
    server = Server(good(), fault, good())
    with Client(URL, transport=httpx.MockTransport(server)) as client:
        client.submit(kind="echo")
        if task_id:
            assert client.submit(kind="echo", task_id=task_id).task_id == "t1"
        else:
            with pytest.raises((Busy, Unreachable)):
                client.submit(kind="echo")
    assert len(server.requests) == (3 if task_id else 2)


def test_a_batch_is_repeated_when_each_of_its_tasks_has_an_id_or_all_have_a_key() -> None:
    batch = {"tasks": [], "accepted": 0, "rejected": 0}
    named: Submission = {"kind": "echo", "task_id": "a"}
    for tasks, key, tries in (([named], "", 2), ([named, {"kind": "echo"}], "", 1), ([{"kind": "echo"}], "k", 2)):
        server = Server(busy(503), good(batch))
        with Client(URL, transport=httpx.MockTransport(server)) as client:
            try:
                client.submit_batch(tasks, idempotency_key=key)  # type: ignore[arg-type]
            except Busy:
                assert tries == 1
        assert len(server.requests) == tries, (tasks, key)


def test_other_changes_carry_a_key_so_that_a_repeat_gets_the_first_answer() -> None:
    server = Server(busy(503), good(DONE), good(DONE))
    with Client(URL, transport=httpx.MockTransport(server)) as client:
        client.cancel("t1", "enough")
        client.cancel("t1", "enough")
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert keys[0] == keys[1] != keys[2], "another call has another key"
    assert json.loads(server.requests[0].content) == {"reason": "enough"}


def test_a_server_that_never_answered_is_not_waited_for_but_one_that_did_is() -> None:
    gone = httpx.ConnectError("refused")
    with pytest.raises(Unreachable):
        Server(gone).submit(kind="echo")
    server = Server(good(), gone, gone, good())
    with Client(URL, transport=httpx.MockTransport(server)) as client:
        client.submit(kind="echo")
        assert client.submit(kind="echo").task_id == "t1", "it was not sent, so it is no repeat"
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 501])
def test_what_will_be_refused_again_is_sent_once(status: int) -> None:
    server = Server(httpx.Response(status, json={"error": "no"}))
    with pytest.raises(Refused):
        server.submit(kind="echo", task_id="t1")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Submission, SubmitTask),
        *((kind, getattr(values, kind.__name__)) for kind in (Timeouts, Retry, Resources, Concurrency, Budget)),
        *((kind, getattr(values, kind.__name__)) for kind in (Affinity, Approval)),
    ],
)
def test_everything_that_the_server_takes_can_be_submitted(ours: Any, theirs: Any) -> None:
    only_the_gateways = {"fails_with", "fork", "forked_from"}
    assert set(ours.__annotations__) == set(theirs.__struct_fields__) - only_the_gateways


def test_every_filter_of_the_server_can_be_chosen() -> None:
    from services.gateway.queries import TaskFilter, TaskListQuery

    another_name = {"agent_id"}  # of assigned_to
    assert set(ChosenTasks.__annotations__) == set(TaskListQuery.__struct_fields__) - another_name
    assert set(Filtered.__annotations__) - {"task_ids", "metadata"} <= set(TaskFilter.__struct_fields__)
