"""Who is told of a task's end, decided with the end itself."""

import msgspec
import pytest

from taskloom.domain.policies import elsewhere, tells
from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.decide import decide
from taskloom.domain.task.submission import Invalid, check_from_outside, is_webhook_url
from taskloom.domain.task.webhooks import MAX_RESULT_CHARS, call, delivery_id
from taskloom.domain.values import Webhook
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask
from tests.unit.domain.task.lives import completed, failed, running, submit

URL = "https://example.com/hook"


def ended(task: GivenTask, command: c.TaskCommand, *webhooks: Webhook) -> list[e.TaskEvent]:
    decision = decide(task.state, command, START, Caller(task.task_id, "default", "c-9", webhooks=webhooks))
    assert not isinstance(decision, Refusal)
    return decision


def due_of(events: list[e.TaskEvent]) -> e.WebhooksDue | None:
    return next((event for event in events if isinstance(event, e.WebhooksDue)), None)


def test_the_end_of_a_task_with_a_callback_says_in_the_same_decision_that_it_is_told() -> None:
    task = running(callback_url=URL)
    events = ended(task, completed(result="42"))
    assert [type(event) for event in events] == [e.WebhooksDue, e.TaskCompleted]
    due = due_of(events)
    assert due is not None
    assert (due.about, due.data["result"], due.data["status"]) == ("task.completed", "42", "COMPLETED")


def test_an_end_that_nobody_wants_to_hear_of_costs_no_event() -> None:
    assert due_of(ended(running(), completed())) is None
    assert due_of(ended(running(callback_url=URL), failed())) is None  # it is tried again: no end


@pytest.mark.parametrize(
    ("webhook", "wanted"),
    [
        (Webhook("w", URL), True),
        (Webhook("w", URL, events=("task.completed",)), True),
        (Webhook("w", URL, events=("task.failed",)), False),
        (Webhook("w", URL, kind="echo", queue="default", tag="t"), True),
        (Webhook("w", URL, kind="shell"), False),
        (Webhook("w", URL, queue="other"), False),
        (Webhook("w", URL, tag="other"), False),
        (Webhook("w", URL, enabled=False), False),
    ],
)
def test_a_webhook_hears_of_what_its_filter_lets_through(webhook: Webhook, wanted: bool) -> None:
    assert (due_of(ended(running(tags=["t"]), completed(), webhook)) is not None) is wanted


def test_the_deliveries_follow_from_the_event_alone_and_have_the_same_ids_each_time() -> None:
    task = running(callback_url=URL)
    due = due_of(ended(task, completed(), Webhook("w", "https://other.example/x", serial=3)))
    assert due is not None
    first, again = elsewhere(task.task_id, due, "default"), elsewhere(task.task_id, due, "default")
    assert first == again
    assert tells(due)
    assert [delivery for delivery, _ in first] == [
        delivery_id(task.task_id, due.after, name) for name in ("w", "callback")
    ]
    [(_, told), _] = first
    assert isinstance(told, c.SubmitTask)
    assert (told.kind, told.queue, told.input["serial"], told.input["tenant_id"]) == (
        "webhook",
        "webhooks",
        3,
        "default",
    )
    assert msgspec.json.decode(msgspec.json.encode(told), type=c.SubmitTask) == told


def test_a_task_that_was_retried_is_told_of_again_under_another_id() -> None:
    assert delivery_id("t", 5, "w") != delivery_id("t", 11, "w")


def test_a_long_result_is_left_out_and_said_to_be() -> None:
    due = due_of(ended(running(callback_url=URL), completed(result="x" * (MAX_RESULT_CHARS + 1))))
    assert due is not None
    assert (due.data.get("result"), due.data["result_omitted"]) == (None, True)


def test_a_delivery_that_ends_is_not_told_of_in_turn() -> None:
    state = running().state
    spec = msgspec.structs.replace(state.spec, kind="webhook", callback_url=URL)
    end: list[e.TaskEvent] = [e.TaskCompleted(1)]
    told = call(msgspec.structs.replace(state, spec=spec), end, [Webhook("w", URL)], state.task_id, START)
    assert told == end


def test_the_steps_of_a_workflow_are_told_of_to_their_own_callbacks_only() -> None:
    state = running().state
    assert call(state, [e.TaskCompleted(1)], [Webhook("w", URL)], "run~step", START) == [e.TaskCompleted(1)]


def test_nobody_but_the_platform_submits_deliveries() -> None:
    with pytest.raises(Invalid, match="by the platform alone"):
        check_from_outside(submit(kind="webhook"))


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.com/x?y=1", True),
        ("http://127.0.0.1:8000/x", True),
        ("http://localhost/x", True),
        ("http://example.com/", False),
        ("https://user:pw@example.com/", False),
        ("https://", False),
        ("ftp://example.com", False),
        ("https://example.com/a b", False),
        ("https://exa\nmple.com/", False),
    ],
)
def test_urls_are_https_or_this_machine(url: str, good: bool) -> None:
    assert is_webhook_url(url) is good
