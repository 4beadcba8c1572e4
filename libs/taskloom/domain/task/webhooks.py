"""Who is told of a task's end: its own ``callback_url`` and the tenant's webhooks.

The decision that ends the task also says which deliveries it leads to (``WebhooksDue``). Each is a task of the internal
kind ``webhook`` with an id that follows from the event, so a crash loses none and a repeat makes no second one.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.state import TaskState
from taskloom.domain.task.submission import WEBHOOK_KIND, WEBHOOK_QUEUE
from taskloom.domain.values import Concurrency, Retry, TaskSpec, Timeouts, Webhook
from taskloom.domain.workflow.wanted import parent_of

KIND: Final = WEBHOOK_KIND
QUEUE: Final = WEBHOOK_QUEUE
DELIVERY_OF: Final = "delivery_of"
"""Metadata of a delivery: the task it tells of."""

WEBHOOK: Final = "webhook"
"""Metadata of a delivery: the subscription, "" for a callback_url."""

CALLBACK: Final = "callback"
"""Stands for the subscription where a task's own callback_url is told."""

MAX_RESULT_CHARS: Final = 16 * 1024
AT_ONCE_EACH: Final = 8
"""Deliveries under way to one host: a slow receiver holds up its own only."""

RETRY: Final = Retry(max_attempts=12, initial_s=5, factor=4, max_s=6 * 3600)
"""Some 35 hours of tries."""

TIMEOUT_S: Final = 30.0

_TYPES: Final[dict[type[e.Event], str]] = {
    e.TaskCompleted: "task.completed",
    e.TaskFailed: "task.failed",
    e.TaskTimedOut: "task.timed_out",
    e.TaskCancelled: "task.cancelled",
}


class Delivery(Struct, frozen=True, omit_defaults=True):
    """Input of a delivery's task. ``type``, ``timestamp`` and ``data`` are sent; ``serial`` names the secret."""

    url: str
    webhook: str
    tenant_id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]
    serial: int = 1


def call(
    state: TaskState | None,
    events: Sequence[e.TaskEvent],
    webhooks: Sequence[Webhook],
    task_id: str,
    now: datetime,
) -> list[e.TaskEvent]:
    """``events`` of a decision, with the deliveries before the event that ends the task."""
    end = next((place for place, event in enumerate(events) if type(event) in _TYPES), None)
    if end is None:
        return list(events)
    spec = events[0].spec if isinstance(events[0], e.TaskSubmitted) else None if state is None else state.spec
    if spec is None or spec.kind == KIND:
        return list(events)
    type_ = _TYPES[type(events[end])]
    wanted = [] if parent_of(task_id) else [each for each in webhooks if _wants(each, type_, spec)]
    if spec.callback_url:
        wanted.append(Webhook(CALLBACK, spec.callback_url))
    if not wanted:
        return list(events)
    data = _told(state, events[end], spec, task_id, type_)
    called = tuple(e.WebhookCalled(each.name, each.url, each.serial) for each in wanted)
    due = e.WebhooksDue(called, type_, now, data, 0 if state is None else state.version)
    return [*events[:end], due, *events[end:]]


def deliveries(tenant_id: str, event: e.WebhooksDue) -> list[tuple[str, c.SubmitTask]]:
    """Each delivery's id and submission; they follow from the event alone."""
    task_id = str(event.data["task_id"])
    found = []
    for called in event.webhooks:
        delivery = Delivery(called.url, called.name, tenant_id, event.about, event.ended_at, event.data, called.serial)
        found.append((delivery_id(task_id, event.after, called.name), submission(delivery, task_id)))
    return found


def delivery_id(task_id: str, after: int, webhook: str) -> str:
    """``after`` is the task's version before its end: a task that was retried ends, and is told of, again."""
    made = hashlib.blake2b(f"{task_id}\n{after}\n{webhook}".encode(), digest_size=16)
    return f"delivery-{made.hexdigest()}"


def submission(delivery: Delivery, task_id: str) -> c.SubmitTask:
    """The task that carries out a delivery."""
    made = {name: getattr(delivery, name) for name in delivery.__struct_fields__}
    return c.SubmitTask(
        kind=KIND,
        queue=QUEUE,
        input={**made, "timestamp": delivery.timestamp.isoformat()},
        name=delivery.type,
        metadata={DELIVERY_OF: task_id, WEBHOOK: delivery.webhook},
        retry=RETRY,
        timeouts=Timeouts(start_to_close_s=TIMEOUT_S),
        concurrency=Concurrency(f"webhook:{urlsplit(delivery.url).netloc}"[:256], AT_ONCE_EACH),
    )


def _wants(webhook: Webhook, type_: str, spec: TaskSpec) -> bool:
    return (
        webhook.enabled
        and (not webhook.events or type_ in webhook.events)
        and webhook.kind in ("", spec.kind)
        and webhook.queue in ("", spec.queue)
        and (not webhook.tag or webhook.tag in spec.tags)
    )


def _told(state: TaskState | None, event: Any, spec: TaskSpec, task_id: str, type_: str) -> dict[str, Any]:
    """The task as it is told of. A long result is left out: ``result_omitted`` says that it has to be fetched."""
    data: dict[str, Any] = {
        "task_id": task_id,
        "status": type_.removeprefix("task.").upper().replace("TIMED_OUT", "TIMEOUT"),
        "kind": spec.kind,
        "queue": spec.queue,
        "name": spec.name,
        "tags": list(spec.tags),
        "session_id": spec.session_id,
        "attempt": 0 if state is None else state.attempts,
    }
    if isinstance(event, e.TaskCompleted):
        short = len(event.result) <= MAX_RESULT_CHARS
        data |= {"result": event.result} if short else {"result_omitted": True}
    elif isinstance(event, e.TaskFailed):
        data |= {"error": event.error.message[:MAX_RESULT_CHARS], "error_type": event.error.type}
    elif isinstance(event, e.TaskTimedOut):
        data["error"] = f"{event.timeout} limit of {event.limit_s:g} s passed"
    elif isinstance(event, e.TaskCancelled):
        data["reason"] = event.reason
    return data
