"""One delivery over real HTTP: signed so that others can check it, and never led to where it must not go."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from services.executor.kinds import webhook as module
from services.executor.kinds.webhook import MAX_ANSWER_BYTES, Webhook, is_public
from taskloom.kinds import TaskError
from taskloom.testing.receiver import Receiver
from taskloom.webhooks import secret_of

KEY = "k" * 32


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def context(url: str) -> Any:
    told = {
        "url": url,
        "webhook": "w",
        "tenant_id": "t",
        "type": "task.completed",
        "timestamp": "2026-11-21T12:00:00+00:00",
        "data": {"task_id": "a", "result": "grün"},
        "serial": 2,
    }
    return SimpleNamespace(task_id="delivery-1", input=told)


async def fault(url: str, *, allow_private: bool = True) -> TaskError:
    with pytest.raises(TaskError) as found:
        await Webhook(KEY, allow_private=allow_private).run(context(url))
    return found.value


async def test_a_delivery_is_signed_as_standard_webhooks_says(receiver: Receiver) -> None:
    outcome = await Webhook(KEY, allow_private=True).run(context(f"{receiver.url}?a=1"))
    [received] = receiver.received
    told = Verifier(secret_of(KEY, "t", "w", 2)).verify(received.body, received.headers)
    assert (told["type"], told["data"]["result"], received.path) == ("task.completed", "grün", "/hook?a=1")
    assert received.headers["webhook-id"] == "delivery-1"
    assert outcome.response["status"] == 200
    assert len(outcome.response["body"]) == MAX_ANSWER_BYTES
    with pytest.raises(Exception, match="signature"):
        Verifier(secret_of(KEY, "t", "w", 1)).verify(received.body, received.headers)


async def test_secrets_differ_by_tenant_webhook_and_serial() -> None:
    secrets = {secret_of(KEY, *of) for of in (("t", "w", 1), ("u", "w", 1), ("t", "v", 1), ("t", "w", 2))}
    assert len(secrets) == 4


@pytest.mark.parametrize(("status", "retryable"), [(500, True), (404, True), (302, True), (410, False)])
async def test_what_is_no_success_is_tried_again_but_for_gone(receiver: Receiver, status: int, retryable: bool) -> None:
    receiver.statuses = [status]
    found = await fault(receiver.url)
    assert found.retryable is retryable
    assert found.details["status"] == status
    assert len(receiver.received) == 1


async def test_a_receiver_that_is_not_there_or_too_slow_is_tried_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await fault("http://127.0.0.1:1/")).type == "webhook_connect"
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    receiver.gate.clear()
    slow = await fault(receiver.url)
    assert (slow.type, slow.retryable) == ("webhook_timeout", True)


async def test_addresses_inside_are_not_called_however_they_are_written(receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433", "[::ffff:127.0.0.1]"):
        found = await fault(f"http://{host}:{port}/hook", allow_private=False)
        assert (found.type, found.retryable) == ("webhook_forbidden", False), host
    assert receiver.received == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_of_the_open_internet(address: str, public: bool) -> None:
    assert is_public(address) is public
